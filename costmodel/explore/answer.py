"""What is asked of a space and what is answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from costmodel.arrays import Floats
from costmodel.explore.distribution import Distribution
from costmodel.explore.objectives import Limit, Objective
from costmodel.explore.tables import CostBatch, CostTables
from costmodel.space.base import DesignSpace

EXACT = "exact"
EXACT_FIRST = "exact; of the list of the best, the first (the others are the best of the undominated sums)"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """Objectives, limits and the number of best configurations to return, with what prices them."""

    space: DesignSpace
    tables: CostTables
    objectives: tuple[Objective, ...]
    limits: tuple[Limit, ...]
    top: int

    def goals(self, batch: CostBatch) -> Floats:
        """The objectives of a batch of shape (n,), float64 (n, objectives), less is better in each."""
        return np.stack([objective.goal(batch) for objective in self.objectives], axis=-1)

    def allowed(self, batch: CostBatch) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which configurations of a batch of shape (n,) keep every limit."""
        some = next(iter(batch.columns.values()))
        kept = np.ones(some.shape[:-1], dtype=np.bool_)
        for limit in self.limits:
            kept &= limit.met(batch)
        return kept

    def found(self, batch: CostBatch, chosen: Sequence[tuple[int, int]]) -> tuple[Found, ...]:
        """Configurations given as (position in a batch of shape (n,), number in the space), with their objectives."""
        values = {objective.name: objective.values(batch) for objective in self.objectives}
        return tuple(
            Found(number=number, objectives={name: column[position].item() for name, column in values.items()})
            for position, number in chosen
        )

    def dense(self) -> dict[str, float]:
        """The objectives of the dense model."""
        return {objective.name: np.asarray(objective.values(self.tables.dense)).item() for objective in self.objectives}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One configuration of an answer: its number in the space and its objectives."""

    number: int
    objectives: dict[str, float]

    def to_json(self, space: DesignSpace) -> dict[str, Any]:
        return {"objectives": self.objectives, "index": self.number, "config": space.config(self.number).to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was found.

    Attributes:
        matching: possible configurations within the limits, exact; None where only `matching_bounds` are known.
        matching_bounds: numbers between which `matching` lies, None where it is exact.
        distinct_costs: different points of the objectives, None where unknown.
        distribution: of each objective over all possible configurations, None where unknown.
        top: the best within the limits, best first.
        frontier: the points that nothing within the limits dominates.
        guarantee: `exact`, or in words what is not and by how much.
        matching_share: where `matching` is not known, its share of the space from a sample, with bounds.
        frontier_gap: largest amount by which the first objective's cost could be lower than on the frontier.
        top_gap: the same for the best one.
    """

    matching: int | None
    matching_bounds: tuple[int, int] | None = None
    distinct_costs: int | None
    distribution: dict[str, Distribution | None]
    top: tuple[Found, ...]
    frontier: tuple[Found, ...]
    guarantee: str = EXACT
    matching_share: dict[str, float] | None = None
    frontier_gap: float = 0.0
    top_gap: float = 0.0
