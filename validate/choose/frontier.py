"""The predicted frontier of quality against one cost, with or without dropped layers. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.decomposition.factors import Decomposition
from costmodel.explore import Exploration
from validate.choose.points import Curve

_DRAWN = 300
"""Points of a frontier that are kept for drawing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One point that nothing in its space dominates, as predicted.

    Attributes:
        cost: seconds of a phase, or parameters.
        nats: increase of NLL per token.
        exploration, number: where its configuration is from.
        dropped: layers left out beside it.
    """

    cost: float
    nats: float
    exploration: Exploration
    number: int
    dropped: frozenset[int] = frozenset()

    @property
    def config(self) -> Decomposition:
        """The configuration."""
        return Decomposition(self.exploration.space.config(self.number).factors, self.dropped)

    @property
    def is_dense(self) -> bool:
        """Whether it is the dense model."""
        config = self.config
        return not config.factors and not config.dropped


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """The frontier of one kind of space.

    Attributes:
        space: its name.
        objective: `prefill.latency_s`, `decode.latency_s` or `params`.
        points: from the cheapest and worst to the dearest and best.
        guarantee: how far it is exact within the model.
        configurations: that were searched.
        seconds: that it took.
    """

    space: str
    objective: str
    points: Sequence[Candidate]
    guarantee: str
    configurations: int
    seconds: float

    def best_within(self, cost: float) -> Candidate | None:
        """The best point that costs no more; None where there is none."""
        within = [point for point in self.points if point.cost <= cost]
        return within[-1] if within else None

    def spread(self, count: int, worst: float) -> list[Candidate]:
        """About `count` points in the middle of equal steps of cost, the dense model left out.

        Args:
            worst: nats beyond which a point is of no use.
        """
        points = [point for point in self.points if not point.is_dense]
        useful = [point for point in points if point.nats <= worst] or points[-count:]
        if len(useful) <= count:
            return useful
        costs = np.array([point.cost for point in useful])
        targets = np.linspace(costs[0], costs[-1], 2 * count + 1)[1::2]
        return [useful[place] for place in dict.fromkeys(int(np.abs(costs - target).argmin()) for target in targets)]

    def curve(self) -> Curve:
        """For records and drawing."""
        places = np.linspace(0, len(self.points) - 1, min(_DRAWN, len(self.points)))
        kept = [self.points[round(place)] for place in places]
        return Curve(
            space=self.space,
            objective=self.objective,
            count=len(self.points),
            guarantee=self.guarantee,
            configurations=str(self.configurations),
            seconds=round(self.seconds, 3),
            costs=[point.cost for point in kept],
            qualities=[point.nats for point in kept],
        )


def undominated(points: Iterable[Candidate]) -> list[Candidate]:
    """Points that no other one equals or beats in both respects, cheapest first."""
    kept: list[Candidate] = []
    for point in sorted(points, key=lambda each: (each.cost, each.nats)):
        if not kept or point.nats < kept[-1].nats:
            kept.append(point)
    return kept
