"""Exact Pareto frontiers of points given as rows; less is better in every column."""

from __future__ import annotations

import numpy as np

from costmodel.arrays import Floats, Ints

_BLOCK = 512
_PIVOTS = 32


def nondominated(goals: Floats) -> Ints:
    """Rows that no other row dominates, one for each distinct point, in lexicographic order of the points.

    A row dominates another when it is no worse in every column and better in one. Exact: values are compared as they
    are, without a tolerance. Two columns take a sort; three a sort and, block by block, a look at the staircase of the
    other two columns so far; more take a sort and comparisons with the frontier so far, since a row that comes later
    in lexicographic order never dominates an earlier one.

    Args:
        goals: float64 (points, columns), no NaN.

    Returns:
        int64 positions; of equal rows the first.
    """
    if not goals.size:  # no rows, or rows without columns, which are all the same
        return np.zeros(min(len(goals), 1), dtype=np.int64)
    order = np.lexsort(goals.T[::-1])
    rows = goals[order]
    fresh = np.ones(len(rows), dtype=np.bool_)
    fresh[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    order, rows = order[fresh], rows[fresh]
    if rows.shape[1] == 1:
        return order[:1]
    if rows.shape[1] == 2:
        lowest = np.minimum.accumulate(rows[:, 1])
        keep = np.ones(len(rows), dtype=np.bool_)
        keep[1:] = rows[1:, 1] < lowest[:-1]
        return order[keep]
    if rows.shape[1] == 3:
        return order[_three(rows)]
    span = np.ptp(rows, axis=0)
    scaled = ((rows - rows.min(axis=0)) / np.where(span > 0, span, 1)).sum(axis=1)
    pivots = rows[np.argsort(scaled, kind="stable")[:_PIVOTS]]
    candidates = np.flatnonzero(~_dominated(rows, pivots))
    front = np.zeros((0, rows.shape[1]))
    found = []
    for start in range(0, len(candidates), _BLOCK):
        block = candidates[start : start + _BLOCK]
        block = block[~_dominated(rows[block], front)]
        block = block[~_dominated(rows[block], rows[block])]
        front = np.concatenate([front, rows[block]])
        found.append(order[block])
    return np.concatenate(found)


def tied_frontier(goals: Floats, allowed: Ints) -> list[list[int]]:
    """The frontier of some rows: for each of its points, in lexicographic order, the positions of all rows at it.

    Args:
        goals: float64 (rows, columns).
        allowed: int64 positions of the rows that count.
    """
    points = allowed[nondominated(goals[allowed])]
    tied: dict[bytes, list[int]] = {goals[position].tobytes(): [] for position in points.tolist()}
    # Only rows that equal a point in the first column can be tied with it.
    for position in allowed[np.isin(goals[allowed, 0], goals[points, 0])].tolist():
        if (key := goals[position].tobytes()) in tied:
            tied[key].append(position)
    return list(tied.values())


def _three(rows: Floats) -> Ints:
    """Positions of distinct rows of three columns, in lexicographic order, that no other dominates.

    An earlier row, which is no worse in the first column, dominates a later one if it is no worse in the other two:
    the least third column among earlier rows up to some second column is a staircase.
    """
    stairs = np.zeros((0, 2))
    found = []
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        place = np.searchsorted(stairs[:, 0], block[:, 1], side="right") - 1
        below = np.append(stairs[:, 1], np.inf)[place]  # place -1, no stair, is the appended one
        kept = np.flatnonzero(below > block[:, 2])
        kept = kept[~_dominated(block[kept], block[kept])]
        found.append(start + kept)
        stairs = np.concatenate([stairs, block[kept, 1:]])
        stairs = stairs[nondominated(stairs)]
    return np.concatenate(found)


def _dominated(rows: Floats, by: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which of the distinct rows some row of `by` dominates."""
    dominated = np.zeros(len(rows), dtype=np.bool_)
    step = max(1, (1 << 22) // max(1, len(rows)))
    for start in range(0, len(by), step):
        some = by[start : start + step]
        no_worse = np.ones((len(some), len(rows)), dtype=np.bool_)
        better = np.zeros_like(no_worse)
        for column in range(rows.shape[1]):
            no_worse &= some[:, column, None] <= rows[None, :, column]
            better |= some[:, column, None] < rows[None, :, column]
        dominated |= (no_worse & better).any(axis=0)
    return dominated
