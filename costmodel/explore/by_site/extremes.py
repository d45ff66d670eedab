"""Least, largest and mean cost over all configurations of a space too large to list, exact wherever sums decide them.

Sites choose independently (in a per-layer space rank by rank), so a sum over sites has its extremes site by site, with
interacting layers by Viterbi's algorithm, and its mean by linearity. The larger of device and host time has for its
maximum the larger of the two maxima; its minimum is exact where a configuration attains the bound of a weighted mean of
the two, and its mean where one of the two is the larger in every configuration. The same holds for energy and requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from costmodel.arrays import Ints
from costmodel.explore.by_site.chain import minimise
from costmodel.explore.by_site.multipliers import best_of_all
from costmodel.explore.by_site.problem import QUALITY, Coordinate, Functional, SiteProblem, metric_of
from costmodel.explore.by_site.tangents import leading, tangents, useful
from costmodel.explore.objectives import Limit, Objective
from costmodel.explore.tables import CostBatch, CostTables

_ZERO = Functional(weights={})
_EQUAL = 1e-9
"""Share of its size by which an attained extreme may miss its bound and still count as exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extremes:
    """What is known of one objective over all possible configurations.

    Attributes:
        minimum, maximum: values that some configuration attains.
        mean: None where it is unknown.
        exact: which of `min`, `max`, `mean` are those of the whole space.
    """

    minimum: float
    maximum: float
    mean: float | None
    exact: tuple[str, ...]

    def settled(self, limit: Limit) -> bool | None:
        """Whether all configurations keep a limit on the worse side of the objective (True), or none does (False); None
        where unknown."""
        slack = _EQUAL * max(abs(self.minimum), abs(self.maximum))
        best, worst = ("min", self.minimum - slack), ("max", self.maximum + slack)
        if limit.objective.maximise:
            best, worst = ("max", self.maximum + slack), ("min", self.minimum - slack)
        if worst[0] in self.exact and limit.holds(worst[1]):
            return True
        return False if best[0] in self.exact and not limit.holds(best[1]) else None


def extremes(tables: CostTables, problems: Sequence[SiteProblem], objective: Objective) -> Extremes:
    """Extremes and mean of an objective over the configurations of all problems, which share the dense one alone."""
    metric = metric_of(objective)
    leader = leading(tables, problems, metric)
    functionals = useful(problems, tangents(tables, metric)) if leader is None else [leader]
    least = [best_of_all(problem, functionals) for problem in problems]
    largest = [
        minimise(problem, _ZERO.plus(f, -1.0), _ZERO, np.zeros(1))[1] for problem in problems for f in functionals
    ]
    batch = tables.batch(np.concatenate([*(limited.choices for limited in least), *largest]))
    attained = np.asarray(metric.values(batch), dtype=np.float64)
    values = np.asarray(objective.values(batch))
    low, high = float(attained.min()), float(attained.max())
    slack = _EQUAL * max(abs(low), abs(high))
    below = min(each.lower for each in least)
    if metric.part != "quality":
        below = max(below, min(_corner(metric, problem, -1) for problem in problems))
    exact = []
    if low - below <= slack:
        exact.append("max" if objective.maximise else "min")
    if (
        leader is not None
        or _whole(tables, metric)
        or high >= max(_corner(metric, problem, 1) for problem in problems) - slack
    ):
        exact.append("min" if objective.maximise else "max")
    mean = None if leader is None else _mean(tables, problems, objective, leader)
    if mean is not None:
        exact.append("mean")
    return Extremes(
        minimum=values.min().item(),
        maximum=values.max().item(),
        mean=mean,
        exact=tuple(name for name in ("min", "max", "mean") if name in exact),
    )


def _whole(tables: CostTables, metric: Objective) -> bool:
    """Whether the tangents' maximum is the metric itself, so that the largest of their maxima is its maximum."""
    if metric.metric == "peak_memory_bytes":
        return not tables.phases[metric.part].raises_peak
    return metric.part != "request" or metric.metric == "ttft_s"


def _corner(metric: Objective, problem: SiteProblem, sign: int) -> float:
    """The metric with every sum as large (sign 1) or small (-1) as it can be: a bound, since costs grow with sums."""
    columns: dict[str, Ints] = {}
    excess: dict[str, Ints] = {}
    for name, table in problem.tables.parts.items():
        far = np.where(problem.open[..., None], sign * table.delta, np.iinfo(np.int64).min).max(axis=2)
        columns[name] = table.base + sign * far.sum(axis=(0, 1))
        excess[name] = np.asarray((table.excess * problem.open).max() if sign > 0 else 0, dtype=np.int64)
    return float(np.asarray(metric.values(CostBatch(problem.tables, columns, excess))))


def _mean(
    tables: CostTables, problems: Sequence[SiteProblem], objective: Objective, leader: Functional
) -> float | None:
    """The mean of an objective whose metric is a functional, None where the objective is not linear in it."""
    if objective.saving == "speedup" or objective.metric == "tokens_per_s":
        return None
    mean = leader.constant + sum(
        weight * float(_mean_of(problems, coordinate)) for coordinate, weight in leader.weights.items()
    )
    if objective.saving != "pct":
        return mean
    dense = float(np.asarray(metric_of(objective).values(tables.dense)))
    return 100 * (dense - mean) / dense


def _mean_of(problems: Sequence[SiteProblem], coordinate: Coordinate) -> Fraction:
    """The mean of a sum over all configurations, the dense one of every problem counted once."""
    links: Any = None
    quality = problems[0].tables.quality
    if coordinate == QUALITY and problems[0].interacting and quality is not None:
        links = quality.interactions
    dense = Fraction(problems[0].base(coordinate) + (int(links[:, 0, 0].sum()) if links is not None else 0))
    total, configurations = dense, 1
    for problem in problems:
        options = problem.open.sum(axis=-1)
        sums = np.where(problem.open, problem.ticks(coordinate), 0).sum(axis=-1)
        mean = Fraction(problem.base(coordinate))
        for count in np.unique(options).tolist():
            mean += Fraction(sum(sums[options == count].tolist()), count)
        if links is not None:
            mean += _mean_links(problem, links)
        members = 1
        for count in options.ravel().tolist():
            members *= count
        total += members * mean - dense
        configurations += members - 1
    return total / configurations


def _mean_links(problem: SiteProblem, links: Ints) -> Fraction:
    """The mean of what neighbouring layers' states add: layers choose independently."""
    layers, mean = len(problem.open), Fraction(0)
    ways: list[Any] = []
    for layer in range(layers):
        within = [
            int(np.prod((problem.open[layer] & (problem.state[layer] <= state)).sum(axis=-1).astype(object)))
            for state in range(problem.num_states)
        ]
        ways.append(np.array([b - a for a, b in zip([0, *within], within, strict=False)], dtype=object))
    for layer in range(layers - 1):
        both = ways[layer] @ links[layer].astype(object) @ ways[layer + 1]
        mean += Fraction(int(both), int(ways[layer].sum() * ways[layer + 1].sum()))
    return mean
