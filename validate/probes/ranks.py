"""What a rank costs that is no multiple of 64: linears of ranks between two multiples, beside both of them. No torch.

A library has kernels for whole tiles and for rows of memory that begin at multiples of 16 bytes; what it does with
other sizes is its own (NVIDIA, "Matrix Multiplication Background User's Guide", tile quantisation and alignment). Each
rank is compared with the straight line between its neighbours, and with the upper one: a factor padded to that rank by
zeros gives the same answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from validate.probes.plan import Op, ProbePlan

Role = Literal["n", "k"]
"""The rank is the width of what the first factor gives, or of what the second factor takes."""
STEP = 64
MULTIPLES = (1, 2, 4, 8, 16, 32)
_BETWEEN = {1: (31, 33), 2: (30, 34), 4: (28, 36), 8: (24, 40), 16: (16, 48), 32: (32,)}
"""Distances from the lower neighbour, placed evenly about the middle, so that a curve between neighbours cancels."""
_LOWER = (128, 256, 512, 1024)
_WIDTH = 4096
_ROWS = (1, 16, 128, 1024, 4096)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPoint:
    """One linear, its rank no multiple of 64.

    Attributes:
        rows, rank, role: see Role.
        multiple: the largest power of two that divides the rank.
        seconds: measured.
        to_line: time / that on the line between the neighbours.
        to_padded: time / that of the next multiple of 64.
    """

    rows: int
    rank: int
    role: Role
    multiple: int
    seconds: float
    to_line: float
    to_padded: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RankEffect:
    """What ranks of one kind cost, over all ranks measured: median and quartiles.

    Attributes:
        multiple, role, rows: of the points; `points` of them.
        to_line, to_padded: (first quartile, median, third quartile).
    """

    multiple: int
    role: Role
    rows: int
    points: int
    to_line: tuple[float, float, float]
    to_padded: tuple[float, float, float]


def rank_plan(*, max_rows: int, max_flops: float, max_bytes: float, element_bytes: int) -> ProbePlan:
    """The linears to time, none beyond the limits."""
    gemms = []
    for rows in _ROWS:
        for lower in _LOWER:
            for rank in (lower, *sorted(lower + each for steps in _BETWEEN.values() for each in steps), lower + STEP):
                moved = element_bytes * (rank * _WIDTH + rows * (rank + _WIDTH))
                if rows <= max_rows and 2 * rows * rank * _WIDTH <= max_flops and moved <= max_bytes:
                    gemms += [(rows, rank, _WIDTH), (rows, _WIDTH, rank)]
    return ProbePlan(gemms=tuple(gemms), attention=(), streams=())


def rank_points(seconds: Mapping[Op, float]) -> list[RankPoint]:
    """Every rank between two that were both timed, by role, rows and rank."""
    found = []
    for (_, shape), taken in seconds.items():
        rows, n, k = shape
        role: Role = "n" if k == _WIDTH else "k"
        rank = n if role == "n" else k
        lower = rank // STEP * STEP
        ends = [seconds.get(("gemm", _shape(rows, each, role))) for each in (lower, lower + STEP)]
        if rank == lower or ends[0] is None or ends[1] is None:
            continue
        line = ends[0] + (ends[1] - ends[0]) * (rank - lower) / STEP
        found.append(
            RankPoint(
                rows=rows,
                rank=rank,
                role=role,
                multiple=rank & -rank,
                seconds=taken,
                to_line=taken / line,
                to_padded=taken / ends[1],
            )
        )
    return sorted(found, key=lambda point: (point.role != "n", point.rows, point.rank))


def rank_effects(points: Sequence[RankPoint]) -> list[RankEffect]:
    """By role, rows and multiple, in this order."""
    groups: dict[tuple[Role, int, int], list[RankPoint]] = {}
    for point in points:
        groups.setdefault((point.role, point.rows, point.multiple), []).append(point)
    return [
        RankEffect(
            multiple=multiple,
            role=role,
            rows=rows,
            points=len(each),
            to_line=_quartiles([point.to_line for point in each]),
            to_padded=_quartiles([point.to_padded for point in each]),
        )
        for (role, rows, multiple), each in sorted(groups.items(), key=lambda item: (item[0][0] != "n", item[0][1:]))
    ]


def noise(first: Mapping[Op, float], second: Mapping[Op, float]) -> float:
    """Median distance of ratios of two independent measurements of the same linears from 1."""
    both = [op for op in first if op in second]
    return float(np.median([abs(first[op] / second[op] - 1) for op in both])) if both else float("nan")


def _shape(rows: int, rank: int, role: Role) -> tuple[int, ...]:
    return (rows, rank, _WIDTH) if role == "n" else (rows, _WIDTH, rank)


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    found: npt.NDArray[np.float64] = np.quantile(values, (0.25, 0.5, 0.75))
    return float(found[0]), float(found[1]), float(found[2])
