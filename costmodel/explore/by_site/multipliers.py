"""The best configuration under several limits at once, with a lower bound from Lagrange multipliers.

For multipliers mu >= 0 the minimum of objective + sum of mu (cost - ceiling) over all configurations is never above the
best that keeps the limits. Subgradient steps raise it; the configurations met on the way, those around the last
multipliers and their single-site changes are the candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Choices
from costmodel.explore.by_site.chain import minimise
from costmodel.explore.by_site.grid import WORK, grid
from costmodel.explore.by_site.hull import evaluate, fill, hull, span
from costmodel.explore.by_site.problem import Functional, SiteProblem

_STEPS = 240
_ZERO = Functional(weights={})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Limited:
    """Candidates for the best configuration under limits, and what none can go below."""

    choices: Choices
    lower: float


def best_under_limits(
    problem: SiteProblem, objectives: Sequence[Functional], limits: Sequence[tuple[Functional, float]]
) -> Limited:
    """Candidates that keep, or nearly keep, every limit, and a lower bound of the objective.

    Args:
        problem: the sites' choices.
        objectives: tangents of the objective; the bound is the highest that any of them proves.
        limits: tangents of limited costs, each with its ceiling.
    """
    found, lower = [], -np.inf
    for objective in objectives:
        multipliers, bound, met = _dual(problem, objective, limits)
        lower = max(lower, bound)
        found.append(met)
        joined = _ZERO
        for (functional, _), factor in zip(limits, multipliers.tolist(), strict=True):
            joined = joined.plus(functional, factor)
        if multipliers.any():
            supported = hull(problem, objective, joined)
            found.append(fill(problem, supported.choices, 4000))
            found.append(grid(problem, objective, joined, 1000, WORK // (4 * len(objectives))).choices)
    return Limited(choices=np.concatenate(found), lower=lower)


def best_of_all(problem: SiteProblem, objectives: Sequence[Functional]) -> Limited:
    """Candidates for the least of the largest of some functionals, and a lower bound of it.

    Means of the first and the last tangent are never above their maximum; the best of 65 shares is the bound. Sites
    that cost the same change over together from one share to the next, so what lies between is filled in.
    """
    shares = np.linspace(0.0, 1.0, 65 if len(objectives) > 1 else 1)
    minima, choices = minimise(problem, objectives[0], objectives[-1].plus(objectives[0], -1.0), shares)
    lower = float(minima.max())
    return Limited(choices=fill(problem, choices, 2000), lower=lower - abs(lower) * 1e-12)


def _dual(
    problem: SiteProblem, objective: Functional, limits: Sequence[tuple[Functional, float]]
) -> tuple[np.ndarray[tuple[int], np.dtype[np.float64]], float, Choices]:
    """The best multipliers found, the bound that they prove and the configurations on the way."""
    scale = span(problem, objective)
    spans = np.array([span(problem, functional) for functional, _ in limits])
    ceilings = np.array([ceiling for _, ceiling in limits])
    scaled, best, lower = np.zeros(len(limits)), np.zeros(len(limits)), -np.inf
    met = []
    for step in range(_STEPS):
        mixed = objective
        for (functional, _), factor in zip(limits, (scaled * scale / spans).tolist(), strict=True):
            mixed = mixed.plus(functional, factor)
        minimum, choices = minimise(problem, mixed, _ZERO, np.zeros(1))
        met.append(choices)
        value = float(minimum[0]) - float((scaled * scale / spans) @ ceilings)
        if value > lower:
            lower, best = value, scaled
        over = np.array([evaluate(problem, functional, choices)[0] for functional, _ in limits]) - ceilings
        slope = over / spans
        if not (slope > 0).any() and not (scaled * slope).any():
            break
        length = float(np.linalg.norm(slope)) or 1.0
        scaled = np.maximum(0.0, scaled + slope / length * 4.0 * (0.97**step if step > 40 else 1 / (1 + step / 8)))
    return best * scale / spans, lower - abs(lower) * 1e-12, np.concatenate(met)
