"""Least, largest and mean cost over all configurations of a homogeneous space over several kinds of layers.

A sum is linear in the number of layers of each kind and, given those, in the names, so its largest value is found at
once, and its mean from how many configurations factor each site.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from costmodel.arrays import Ints
from costmodel.explore.by_kind.kinds import Kinds
from costmodel.explore.by_kind.metrics import Metrics
from costmodel.explore.by_site.extremes import Extremes
from costmodel.explore.by_site.problem import Coordinate, Functional, metric_of
from costmodel.explore.objectives import Objective
from costmodel.space.kinds import HomogeneousSpace
from costmodel.space.mixed import MixedSpace

_ZERO = Functional(weights={})
_EQUAL = 1e-9
"""Share of its size by which an attained extreme may miss its bound and still count as exact."""


def extremes_of(metrics: Metrics, objective: Objective, least: float, exact: bool) -> Extremes:
    """Extremes and mean of an objective over all possible configurations.

    Args:
        metrics: of the costs that are asked for.
        objective: one of them.
        least: the objective's best value, attained.
        exact: whether nothing is better.
    """
    kinds, metric = metrics.kinds, metric_of(objective)
    tables, functionals = kinds.tables, metrics.tangents[metric]
    far = [kinds.least(_ZERO.plus(each, -1.0)) for each in functionals]
    batch = tables.batch(np.stack([choices for _, choices in far]))
    worst = np.asarray(objective.values(batch), dtype=np.float64)
    worst = worst.min() if objective.maximise else worst.max()
    attained = float(np.asarray(metric.values(batch), dtype=np.float64).max())
    bound = max(-value for value, _ in far)
    if metric.metric == "peak_memory_bytes" and metric.part in metrics.peaks:
        bound += float((kinds.raised(metric.part) * kinds.possible).max())
    known = attained >= bound - _EQUAL * abs(bound)
    if metric.part == "request" and len(functionals) > 1:
        known = False
    mean = _mean(metrics, objective, functionals) if len(functionals) == 1 else None
    best, other = ("max", "min") if objective.maximise else ("min", "max")
    found = [best] * exact + [other] * known + ["mean"] * (mean is not None)
    return Extremes(
        minimum=float(min(worst, least)),
        maximum=float(max(worst, least)),
        mean=mean,
        exact=tuple(name for name in ("min", "max", "mean") if name in found),
    )


def _mean(metrics: Metrics, objective: Objective, functionals: list[Functional]) -> float | None:
    """The mean of an objective that is linear in one functional, None where it is not."""
    kinds, metric = metrics.kinds, metric_of(objective)
    raising = metric.metric == "peak_memory_bytes" and metric.part in metrics.peaks
    if objective.saving == "speedup" or objective.metric == "tokens_per_s" or raising:
        return None
    (functional,) = functionals
    mean = functional.constant + sum(
        weight * float(_mean_of(kinds, coordinate)) for coordinate, weight in functional.weights.items() if weight
    )
    if objective.saving != "pct":
        return mean
    dense = float(np.asarray(metric.values(kinds.tables.dense)))
    return 100 * (dense - mean) / dense


def _mean_of(kinds: Kinds, coordinate: Coordinate) -> Fraction:
    """The mean of a sum over all possible configurations."""
    space = kinds.tables.space
    ticks = kinds.ticks(coordinate)
    total = 0
    for layers, names, ways in _factored(kinds):
        for name, candidates in enumerate(names):
            columns = kinds.names[name]
            here = ticks[np.ix_(layers, columns)] * space.free[np.ix_(layers, columns)][:, :, None]
            summed = here.sum(axis=(0, 1)).tolist()
            total += ways * sum(number * each for number, each in zip(candidates, summed[1:], strict=True))
    return kinds.base(coordinate) + Fraction(total, space.valid_size)


def _factored(kinds: Kinds) -> list[tuple[Ints, list[list[int]], int]]:
    """Layers of one pattern, for each name and candidate the sets of names that factor it there, and for each of those
    sets the sets of layers that have a given one of the layers; for each block and pattern of the space."""
    space = kinds.tables.space
    if isinstance(space, HomogeneousSpace):
        mask, candidate = space.pairs[space.valid_pairs].T
        numbers = [
            np.bincount(candidate[mask >> bit & 1 > 0], minlength=len(space.ranks[0])).tolist()
            for bit in range(len(space.tensors))
        ]
        return [(space.layers, numbers, 1 << len(space.layers) - 1)]
    assert isinstance(space, MixedSpace)
    found = []
    for block in space.blocks:
        numbers = [[sets.containing(bit) for sets in block.valid.candidates] for bit in range(len(space.names))]
        for layers in block.layers:
            ways = math.prod((1 << len(each)) - 1 for each in block.layers if each is not layers)
            found.append((layers, numbers, ways << len(layers) - 1))
    return found
