"""Exact Pareto frontiers of points given as rows; less is better in every column."""

from __future__ import annotations

from typing import Literal

import numpy as np

from costmodel.arrays import Bools, Floats, Ints

_BLOCK = 1024
_PIVOTS = 64
_AT_ONCE = 8192
"""Rows whose sets of bits are looked at together, which stay in the cache."""


def nondominated(goals: Floats) -> Ints:
    """Rows that no other row dominates, one for each distinct point, in lexicographic order of the points.

    A row dominates another when it is no worse in every column and better in one. Exact: values are compared as they
    are, without a tolerance. Two columns take a sort; three a sort and, block by block, a look at the staircase of the
    other two columns so far; more take a sort and, block by block, a look for later rows behind one of the block, since
    a row that comes later in lexicographic order never dominates an earlier one.

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
    columns = np.concatenate([rows[:, 1:].T, np.arange(len(rows), dtype=np.float64)[None]])
    return order[_three(columns) if rows.shape[1] == 3 else _more(columns)]


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
    """Positions of distinct rows of three columns, as of `_behind`, that no other dominates.

    An earlier row, which is no worse in the first column, dominates a later one if it is no worse in the other two:
    the least third column among earlier rows up to some second column is a staircase.
    """
    stairs = np.zeros((0, 2))
    found = []
    for start in range(0, rows.shape[1], _BLOCK):
        block = rows[:, start : start + _BLOCK]
        place = np.searchsorted(stairs[:, 0], block[0], side="right") - 1
        below = np.append(stairs[:, 1], np.inf)[place]  # place -1, no stair, is the appended one
        block = block[:, below > block[1]]
        block = block[:, ~_behind(block, block)]
        found.append(block[-1].astype(np.int64))
        stairs = np.concatenate([stairs, block[:2].T])
        stairs = stairs[nondominated(stairs)]
    return np.concatenate(found)


def _more(rows: Floats) -> Ints:
    """Positions of distinct rows of any number of columns, as of `_behind`, that no other dominates."""
    low, span = rows.min(axis=1), np.ptp(rows, axis=1)
    scaled = ((rows - low[:, None]) / np.where(span > 0, span, 1)[:, None]).sum(axis=0)
    left = rows[:, ~_behind(rows, rows[:, np.argsort(scaled, kind="stable")[:_PIVOTS]])]
    found = []
    while left.shape[1]:
        block, left = left[:, :_BLOCK], left[:, _BLOCK:]
        block = block[:, ~_behind(block, block)]
        found.append(block[-1].astype(np.int64))
        left = left[:, ~_behind(left, block)]
    return np.concatenate(found)


def _behind(rows: Floats, by: Floats) -> Bools:
    """Which of distinct rows some row of `by` dominates.

    An earlier row in lexicographic order dominates a later one if it is no worse in all columns but the first. Of each
    column the first rows of `by` are a set of bits for each number of them: a row is dominated by those that are in its
    sets of all columns.

    Args:
        rows: float64 (columns, rows): all columns but the first, and the place in the order.
        by: float64 (columns, others), the same of others.
    """
    sets, counts = [], []
    for column, (values, own) in enumerate(zip(rows, by, strict=True)):
        sequence = np.argsort(own, kind="stable")
        first = np.argsort(sequence) < np.arange(len(own) + 1)[:, None]
        bits = np.packbits(first, axis=1)
        sets.append(np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8))).view(np.uint64))
        side: Literal["left", "right"] = "left" if column == len(rows) - 1 else "right"
        counts.append(np.searchsorted(own[sequence], values, side=side))
    behind: Bools = np.zeros(rows.shape[1], dtype=np.bool_)
    for start in range(0, len(behind), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        shared = sets[0][counts[0][some]]
        for each, count in zip(sets[1:], counts[1:], strict=True):
            shared &= each[count[some]]
        behind[some] = shared.any(axis=1)
    return behind
