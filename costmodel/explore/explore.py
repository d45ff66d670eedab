"""Answers about every configuration of a design space: distribution, counts within limits, the best, the frontier."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.sites import column_labels
from costmodel.errors import InputError
from costmodel.explore.answer import Answer, Found, Question
from costmodel.explore.nearest import Nearest, held_back, nearest
from costmodel.explore.objectives import Priced, parse_limit, parse_objectives
from costmodel.explore.quality import PRIOR, QualityTable, load_quality
from costmodel.explore.settings import ExploreSettings
from costmodel.explore.sums import require_sums
from costmodel.explore.tables import CostTables
from costmodel.forward.workload import Phase, Workload
from costmodel.hardware.profile import HardwareProfile
from costmodel.pricing.estimate import Estimate, estimate, pricer
from costmodel.pricing.request import decode_steps
from costmodel.space.base import DesignSpace
from costmodel.space.kinds import HomogeneousSpace, PerLayerSpace
from costmodel.space.mixed import MixedSpace
from costmodel.timing.calibration.record import Calibration

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Exploration:
    """The answer to a question about a space.

    Attributes:
        space: what was explored.
        hardware: name of the device.
        profile: the device.
        calibration: what corrected the roofline, or None.
        workloads: one per phase.
        new_tokens: tokens that the request yields, if one was priced.
        question: objectives, limits and how many of the best were asked for, with the tables that price them.
        answer: what was found and how far it is exact.
        damage: what each choice does to the answers: the quality that was named, else a prior that knows no weights.
        nearest: where nothing keeps the limits, how near the space comes to each.
        elapsed_s: wall time from the loaded inputs to the answer.
    """

    space: DesignSpace
    hardware: str
    profile: HardwareProfile
    calibration: Calibration | None
    workloads: tuple[Workload, ...]
    new_tokens: int | None
    question: Question
    answer: Answer
    damage: QualityTable
    nearest: tuple[Nearest, ...]
    elapsed_s: float

    @property
    def measured(self) -> bool:
        """Whether damage was measured: only then is a configuration called best."""
        return not self.damage.stand_in

    @property
    def held_back(self) -> str | None:
        """What keeps the limits out of reach beside the configurations, in words, where nothing keeps them."""
        return held_back(self.question) if self.nearest else None

    def damage_of(self, number: int) -> float:
        """Damage of a configuration, in the unit of `damage.metric`; less is better."""
        return float(self.damage.ticks(self.space.choices(number)) * self.damage.quantum)

    def saved_pct(self, objectives: Mapping[str, float]) -> dict[str, float | None]:
        """100 (dense - value) / dense of each cost that is asked for; None of savings, rates and quality."""
        dense = self.question.dense()
        plain = {o.name for o in self.question.objectives if not o.maximise and o.part != "quality"}
        return {
            name: 100 * (dense[name] - value) / dense[name] if name in plain and dense[name] else None
            for name, value in objectives.items()
        }

    @property
    def paper_count(self) -> int:
        """2^(layers + tensors) of the whole model, the paper's size of the homogeneous space, rank not counted."""
        return 1 << (self.space.model.num_layers + len(self.space.model.groups["all"]))

    @property
    def best(self) -> Decomposition:
        """The first of the best, else of the frontier, else the dense model."""
        found = self.answer.top or self.answer.frontier
        return self.space.config(found[0].number) if found else Decomposition()

    def estimate_best(self) -> Estimate:
        """The best configuration as `estimate` prices it."""
        return estimate(
            self.space.model,
            self.profile,
            self.best,
            self.workloads,
            calibration=self.calibration,
            new_tokens=self.new_tokens,
        )

    def to_json(self) -> dict[str, Any]:
        """The contract's JSON."""
        space, question, answer = self.space, self.question, self.answer
        priced = self.estimate_best()
        quality = question.tables.quality
        names = column_labels(space.model)
        return {
            "schema": SCHEMA,
            "model": space.model.name,
            "hardware": self.hardware,
            "space": space.kind,
            "form": space.form,
            "ranks": dict(zip(names, map(list, space.ranks), strict=True)),
            "workloads": [work.to_json() for work in self.workloads],
            "new_tokens": self.new_tokens,
            "objectives": [{"name": o.name, "better": "more" if o.maximise else "less"} for o in question.objectives],
            "limits": [str(limit) for limit in question.limits],
            "quality": quality and {"metric": quality.metric, "stand_in": quality.stand_in},
            "configurations": space.size,
            "paper_count": self.paper_count,
            "excluded": space.excluded,
            "matching": answer.matching,
            "matching_bounds": answer.matching_bounds,
            "matching_share": answer.matching_share,
            "distinct_costs": answer.distinct_costs,
            "elapsed_s": self.elapsed_s,
            "guarantee": answer.guarantee,
            "frontier_gap": answer.frontier_gap,
            "top_gap": answer.top_gap,
            "level": priced.level,
            "assumptions": list(priced.assumptions),
            "warnings": list(best_warnings(priced)),
            "dense": question.dense(),
            "distribution": {name: each and each.to_json() for name, each in answer.distribution.items()},
            "damage": {"metric": self.damage.metric, "stand_in": self.damage.stand_in},
            "nearest": [each.to_json(space) for each in self.nearest],
            "top": [self._found_json(found) for found in answer.top],
            "frontier": [self._found_json(found) for found in answer.frontier],
        }

    def _found_json(self, found: Found) -> dict[str, Any]:
        saved = self.saved_pct(found.objectives)
        return found.to_json(self.space) | {"saved_pct": saved, "damage": self.damage_of(found.number)}


def explore(
    space: DesignSpace,
    hardware: HardwareProfile,
    workloads: Sequence[Workload],
    asked: ExploreSettings,
    *,
    calibration: Calibration | None = None,
    new_tokens: int | None = None,
) -> Exploration:
    """Answer a question about every configuration of a space.

    Args:
        space: from `design_space`.
        hardware: from `load_hardware`.
        workloads: one per phase.
        asked: objectives, limits and the like.
        calibration, new_tokens: as `estimate` takes them.

    Raises:
        InputError: on any of these that is malformed or cannot be answered; one line.
    """
    began = time.perf_counter()
    pricers = [pricer(space.model, hardware, work, calibration) for work in workloads]
    steps = None
    if new_tokens is not None:
        if not workloads or workloads[0].phase is not Phase.PREFILL:
            raise InputError("a request needs a prefill", value=new_tokens)
        steps = decode_steps(pricers[0], new_tokens)
    graded = asked.quality is not None
    damage = load_quality(asked.quality if asked.quality is not None else PRIOR, space)
    phases = tuple(work.phase.value for work in workloads)
    priced = Priced(phases=phases, request=steps is not None, quality=True)
    if asked.objectives is not None:
        names = asked.objectives.split(",") if asked.objectives else []
    else:
        names = default_objectives(space, dataclasses.replace(priced, quality=graded))
        if workloads[-1].pp > 1:
            names = [name.replace("peak_memory_bytes", "weight_bytes") for name in names]
    objectives = tuple(parse_objectives(names, priced))
    limits = tuple(limit for text in asked.limits for limit in parse_limit(text, priced))
    every = (*objectives, *(limit.objective for limit in limits))
    require_sums(workloads, [objective.metric for objective in every])
    graded = graded or any(objective.part == "quality" for objective in every)
    tables = CostTables(space, pricers, steps, damage if graded else None)
    question = Question(space=space, tables=tables, objectives=objectives, limits=limits, top=asked.top)
    found = answer(question)
    missed = bool(limits) and not found.top and not found.frontier
    return Exploration(
        space=space,
        hardware=hardware.name,
        profile=hardware,
        calibration=calibration,
        workloads=tuple(workloads),
        new_tokens=new_tokens,
        question=question,
        answer=found,
        damage=damage,
        nearest=nearest(question, answer) if missed else (),
        elapsed_s=time.perf_counter() - began,
    )


def best_warnings(priced: Estimate) -> tuple[str, ...]:
    """What a user should know before trusting the best configuration: the estimate's, and where it does not fit."""
    unfit = [f"{p.workload.phase.value}: {p.verdict.text}" for p in priced.phases if not p.decomposed.fits]
    return (*unfit, *priced.warnings)


def default_objectives(space: DesignSpace, priced: Priced) -> list[str]:
    """Names that are asked for when the user names none."""
    last = priced.phases[-1]
    if isinstance(space, HomogeneousSpace | MixedSpace):
        names = [f"{phase}.latency_s" for phase in priced.phases] + [f"{last}.peak_memory_bytes", "params"]
        return [*names, "quality"] if priced.quality else names
    return [f"{last}.latency_s", "quality" if priced.quality else f"{last}.peak_memory_bytes"]


def answer(question: Question) -> Answer:
    """Send a question to the method that answers it for its kind of space.

    Raises:
        InputError: when no method does.
    """
    from costmodel.explore.by_class.answer import answer_by_classes
    from costmodel.explore.by_class.homogeneous import HomogeneousClasses
    from costmodel.explore.by_class.listing import MAX_LISTED, ListedConfigurations, listable
    from costmodel.explore.by_class.mixed import MixedClasses, classable
    from costmodel.explore.by_class.per_layer import PerLayerClasses, countable
    from costmodel.explore.by_kind.answer import answer_by_kinds
    from costmodel.explore.by_layer.answer import answer_uneven
    from costmodel.explore.by_site.answer import answer_by_sites
    from costmodel.explore.by_site.problem import memory_parts

    space, tables = question.space, question.tables
    asked = [*question.objectives, *(limit.objective for limit in question.limits)]
    alike = tables.peaks_alike(memory_parts(asked))
    if isinstance(space, HomogeneousSpace | MixedSpace) and alike:
        graded = any(objective.part == "quality" for objective in asked)
        if not graded or tables.quality is None or tables.quality.alike(space):
            if isinstance(space, HomogeneousSpace):
                return answer_by_classes(question, HomogeneousClasses(tables, space))
            if classable(space):
                return answer_by_classes(question, MixedClasses(tables, space))
        elif space.valid_size > MAX_LISTED // 8 and isinstance(space, HomogeneousSpace):
            return answer_uneven(question)
    if isinstance(space, PerLayerSpace) and countable(tables, space):
        return answer_by_classes(question, PerLayerClasses(tables, space))
    if listable(space):
        return answer_by_classes(question, ListedConfigurations(tables, space))
    if isinstance(space, HomogeneousSpace | MixedSpace):
        return answer_by_kinds(question)
    return answer_by_sites(question)
