"""The predicted frontiers of the whole space, with and without dropped layers, and their best points. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from costmodel.decomposition.factors import Decomposition, Site
from costmodel.decomposition.text import Rank
from costmodel.explore import Exploration, explore
from costmodel.explore.settings import ExploreSettings
from costmodel.pricing.estimate import estimate
from costmodel.pricing.setup import Setup
from costmodel.space.make import design_space
from validate.choose.baselines import Named
from validate.choose.frontier import Candidate, Frontier, undominated
from validate.choose.points import Point, Role
from validate.plans.case import params_of
from validate.predictor.link import load_link

HOMOGENEOUS, SITES, DROPPING = "homogeneous", "per-site", "per-site, dropping"
WORST = 2.0
"""Nats per token beyond which a point of the frontier is of no use and is not measured."""
_LATENCY, _SIZE = 2, 1
"""Parts of the measured points that go to the frontier against the latency of a phase, and against size."""


class Search:
    """Frontiers of quality against the latency of each phase and against size.

    Spaces are searched whole. Beside them stands a union that is not the whole of its space: every set of dropped
    layers that was measured, and for some of them the per-site frontier of the other layers beside it. What both lose
    is added up in nats: nine points of SmolLM2's frontier lost 0.02 to 0.09 less than that, of 0.3 to 1.5.

    Args:
        setup: model, device, workloads.
        ranks: candidates.
        quality: the quality file.
        dropped: measured increase of NLL by set of dropped layers.
        beside: those of them whose other layers are searched.
        multiple: of ranks.

    Raises:
        InputError: when the quality file does not fit the space.
    """

    def __init__(
        self,
        setup: Setup,
        ranks: Sequence[Rank],
        quality: Path,
        dropped: Mapping[frozenset[int], float],
        *,
        beside: Collection[frozenset[int]] = (),
        multiple: int = 1,
    ) -> None:
        self._setup, self._link, self._file, self._ranks = setup, load_link(quality), str(quality), ranks
        self._dropped, self._multiple = dropped, multiple
        self.homogeneous = design_space(setup.model, "homogeneous", ranks=ranks, form="svd", rank_multiple=multiple)
        self.objectives = [*(f"{work.phase.value}.latency_s" for work in setup.workloads), "params"]
        self.frontiers: list[Frontier] = []
        dense, gone = self._costs(Decomposition()), {each: self._costs(Decomposition(dropped=each)) for each in dropped}
        for objective in self.objectives:
            whole = {kind: self._explore(kind, objective) for kind in (HOMOGENEOUS, SITES)}
            self.frontiers += [
                self._frontier(kind, objective, [self._points(each, objective)], [each]) for kind, each in whole.items()
            ]
            self._table = whole[SITES].question.tables.quality
            self._space = whole[SITES].space
            parts, explorations = [self._points(whole[SITES], objective)], [whole[SITES]]
            alone = self._space.index(Decomposition())
            for layers, loss in dropped.items():
                cost = gone[layers][objective]
                parts.append([Candidate(cost=cost, nats=loss, exploration=whole[SITES], number=alone, dropped=layers)])
                if layers in beside:
                    found = self._explore(SITES, objective, keep=layers)
                    parts.append(self._points(found, objective, layers, dense[objective] - cost, loss))
                    explorations.append(found)
            if dropped:
                self.frontiers.append(self._frontier(DROPPING, objective, parts, explorations))
        self.metric = self._table.metric if self._table is not None else ""

    def quality(self, config: Decomposition) -> float | None:
        """Predicted increase of NLL; None where nothing is known of a rank, or of the set of layers that is dropped."""
        ranks = dict(zip((tensor.name for tensor in self._space.model.tensors), self._space.ranks, strict=True))
        known = all(set(factor.ranks) <= set(ranks[site.tensor]) for site, factor in config.factors.items())
        if (config.dropped and config.dropped not in self._dropped) or not known or self._table is None:
            return None
        choices = self._space.choices(self._space.index(Decomposition(config.factors)))
        lost = self._dropped.get(config.dropped, 0.0)
        return self._link(float(self._table.ticks(choices)) * self._table.quantum) + lost

    def best_within(self, objective: str, cost: float) -> Candidate | None:
        """The best predicted configuration of any space that costs no more."""
        found = [best for each in self.frontiers if each.objective == objective and (best := each.best_within(cost))]
        return min(found, key=lambda point: point.nats, default=None)

    def spread(self, count: int) -> list[Point]:
        """About `count` points of the frontiers of everything that was searched, spread over their costs."""
        shares = [_SIZE if objective == "params" else _LATENCY for objective in self.objectives]
        found: list[Point] = []
        for objective, share in zip(self.objectives, shares, strict=True):
            whole = [each for each in self.frontiers if each.objective == objective][-1]  # holds what is in the others
            chosen = whole.spread(max(1, round(count * share / sum(shares))), WORST)
            for number, each in enumerate(chosen):
                space = DROPPING if each.dropped else SITES
                found.append(self._point("frontier", space, f"{objective} {number}", each.config, each.nats))
        return found

    def matches(self, named: Sequence[Named]) -> list[Point]:
        """For each baseline and cost, the best predicted configuration of any space that costs no more."""
        found: list[Point] = []
        for rule, label, config in named:
            costs = self._costs(config)
            for objective in self.objectives:
                best = self.best_within(objective, costs[objective])
                if best is not None and not best.is_dense:
                    space = DROPPING if best.dropped else SITES
                    found.append(self._point("match", space, f"{objective} of {rule}, {label}", best.config, best.nats))
        return found

    def baseline(self, named: Named) -> Point:
        """A baseline with its predicted costs."""
        rule, label, config = named
        return self._point("baseline", rule, label, config, self.quality(config))

    def dense(self) -> dict[str, float]:
        """Predicted seconds of the dense model by phase."""
        return self._point("baseline", "dense", "dense", Decomposition(), 0.0).costs

    def _explore(self, kind: str, objective: str, keep: frozenset[int] = frozenset()) -> Exploration:
        setup = self._setup
        sites = [Site(layer, tensor.name) for layer in keep for tensor in setup.model.tensors]
        space = design_space(
            setup.model,
            kind,  # type: ignore[arg-type]
            ranks=self._ranks,
            form="svd",
            rank_multiple=self._multiple,
            keep=sites,
        )
        return explore(
            space,
            setup.hardware,
            setup.workloads,
            ExploreSettings(objectives=f"{objective},quality", top=0, quality=self._file),
            calibration=setup.calibration,
        )

    def _points(
        self,
        found: Exploration,
        objective: str,
        dropped: frozenset[int] = frozenset(),
        saved: float = 0.0,
        loss: float = 0.0,
    ) -> list[Candidate]:
        """Points of an exploration; dropped layers take their cost away, and add what they lose alone."""
        return [
            Candidate(
                cost=float(each.objectives[objective]) - saved,
                exploration=found,
                number=each.number,
                nats=self._link(float(each.objectives["quality"])) + loss,
                dropped=dropped,
            )
            for each in found.answer.frontier
        ]

    def _frontier(
        self, kind: str, objective: str, parts: Sequence[Sequence[Candidate]], found: Sequence[Exploration]
    ) -> Frontier:
        guarantee = found[0].answer.guarantee if len(found) == 1 else f"union of {len(found)} frontiers, not the whole"
        return Frontier(
            space=kind,
            objective=objective,
            points=undominated(point for part in parts for point in part),
            guarantee=guarantee,
            configurations=sum(each.space.size for each in found),
            seconds=sum(each.elapsed_s for each in found),
        )

    def _point(self, role: Role, rule: str, label: str, config: Decomposition, quality: float | None) -> Point:
        costs = self._costs(config)
        params = int(costs.pop("params"))
        return Point(
            role=role,
            rule=rule,
            label=label,
            config=config.to_json(),
            params=params,
            quality=quality,
            costs={name.partition(".")[0]: value for name, value in costs.items()},
        )

    def _costs(self, config: Decomposition) -> dict[str, float]:
        """By objective."""
        setup = self._setup
        priced = estimate(setup.model, setup.hardware, config, setup.workloads, calibration=setup.calibration)
        costs = {f"{phase.workload.phase.value}.latency_s": phase.decomposed.latency_s for phase in priced.phases}
        return {**costs, "params": float(params_of(setup.model, config))}
