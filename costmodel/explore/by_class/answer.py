"""The exact answer from cost classes. Ties are broken by the configuration's number."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from costmodel.arrays import Floats, Ints
from costmodel.explore.answer import Answer, Question
from costmodel.explore.distribution import Counts, distribution
from costmodel.explore.pareto import tied_frontier
from costmodel.explore.tables import CostBatch


class CostClasses(Protocol):
    """A partition of a space's possible configurations into classes whose members cost exactly the same."""

    @property
    def batch(self) -> CostBatch:
        """Costs of the classes, shape (classes,)."""

    @property
    def counts(self) -> Counts:
        """Members of each class, object (classes,) of Python ints."""

    def members(self, position: int) -> Iterator[int]:
        """Numbers of a class's configurations in ascending order."""


def answer_by_classes(question: Question, classes: CostClasses) -> Answer:
    """The exact answer from a partition of the space into classes of equal costs."""
    batch, counts = classes.batch, classes.counts
    goals = question.goals(batch)
    kept = question.allowed(batch)
    allowed = np.flatnonzero(kept)
    return Answer(
        matching=int(counts[kept].sum()),
        distinct_costs=len(np.unique(goals, axis=0)),
        distribution={o.name: distribution(o.values(batch), counts) for o in question.objectives},
        top=question.found(batch, best(classes, goals, allowed, question.top)),
        frontier=question.found(batch, frontier(classes, goals, allowed)),
    )


def best(classes: CostClasses, goals: Floats, allowed: Ints, count: int) -> list[tuple[int, int]]:
    """The `count` best configurations, as (class, number of the configuration).

    Ordered by the first column of `goals` (less is better), then the second and so on, then by number.

    Args:
        classes: where the configurations come from.
        goals: float64 (classes, columns).
        allowed: positions of the classes that are within the limits.
    """
    order = allowed[np.lexsort(goals[allowed].T[::-1])]
    chosen: list[tuple[int, int]] = []
    start = 0
    while start < len(order) and len(chosen) < count:
        stop = start + 1
        while stop < len(order) and (goals[order[stop]] == goals[order[start]]).all():
            stop += 1
        streams = [_stream(classes, position) for position in order[start:stop].tolist()]
        merged = itertools.islice(heapq.merge(*streams), count - len(chosen))
        chosen += [(position, number) for number, position in merged]
        start = stop
    return chosen


def frontier(classes: CostClasses, goals: Floats, allowed: Ints) -> list[tuple[int, int]]:
    """One configuration for each distinct point that nothing dominates, as (class, number of the configuration).

    In lexicographic order of the points; of the configurations at a point the one with the least number.
    """
    least = (
        min((next(classes.members(position)), position) for position in tied) for tied in tied_frontier(goals, allowed)
    )
    return [(position, number) for number, position in least]


def _stream(classes: CostClasses, position: int) -> Iterator[tuple[int, int]]:
    return ((number, position) for number in classes.members(position))
