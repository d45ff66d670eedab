"""The best configurations and the frontier, from cost classes. Ties are broken by the configuration's number."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator

import numpy as np

from costmodel.arrays import Floats, Ints
from costmodel.explore.by_class.homogeneous import CostClasses
from costmodel.explore.pareto import nondominated


def best(classes: CostClasses, goals: Floats, allowed: Ints, count: int) -> list[tuple[int, int]]:
    """The `count` best configurations, as (class, number of the configuration).

    Ordered by the first column of `goals` (less is better), then the second and so on, then by number.

    Args:
        classes: where the configurations come from.
        goals: float64 (classes, columns).
        allowed: positions of the classes that are within the limits.
    """
    order = allowed[np.lexsort(goals[allowed].T[::-1])]
    found: list[tuple[int, int]] = []
    start = 0
    while start < len(order) and len(found) < count:
        stop = start + 1
        while stop < len(order) and (goals[order[stop]] == goals[order[start]]).all():
            stop += 1
        streams = [_stream(classes, position) for position in order[start:stop].tolist()]
        found += [
            (position, number) for number, position in itertools.islice(heapq.merge(*streams), count - len(found))
        ]
        start = stop
    return found


def frontier(classes: CostClasses, goals: Floats, allowed: Ints) -> list[tuple[int, int]]:
    """One configuration for each distinct point that nothing dominates, as (class, number of the configuration).

    In lexicographic order of the points; of the configurations at a point the one with the least number.
    """
    points = allowed[nondominated(goals[allowed])]
    tied: dict[bytes, list[int]] = {goals[position].tobytes(): [] for position in points.tolist()}
    # Only classes that equal a point in the first column can be tied with it.
    for position in allowed[np.isin(goals[allowed, 0], goals[points, 0])].tolist():
        if (key := goals[position].tobytes()) in tied:
            tied[key].append(position)
    found = []
    for position in points.tolist():
        members = tied[goals[position].tobytes()]
        number, chosen = min((next(classes.members(each)), each) for each in members)
        found.append((chosen, number))
    return found


def _stream(classes: CostClasses, position: int) -> Iterator[tuple[int, int]]:
    return ((number, position) for number in classes.members(position))
