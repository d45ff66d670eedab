"""Tests of many claims at once: a paired p value for each, and Holm's correction for all of them. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from validate.interval import Interval

ALPHA = 0.05
"""The chance, at most, that any verdict of a family is wrong."""


@dataclass(frozen=True, slots=True)
class Difference(Interval):
    """A difference with its own 95 % interval and the p value of its being 0, for itself alone."""

    p: float

    def to_json(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high, "p": self.p}


def paired_p(difference: NDArray[np.float64], counts: NDArray[np.float64]) -> float:
    """Two-sided p of Student's t that sum(difference) / sum(counts) is 0, over units (blocks or items) as independent.

    The standard error is that of a ratio estimator (Cochran 1977, 6.3), for one count each the usual one. Unlike the
    share of bootstrap samples beyond 0, p may be as small as a correction for many claims needs it.

    Args:
        difference: of sums, for each unit.
        counts: tokens of each unit, or ones.

    Returns:
        1 where nothing differs, or one unit says nothing of the spread; the sign test's where all units agree exactly.
    """
    from scipy import stats  # type: ignore[import-untyped]

    units = len(difference)
    if units < 2 or not np.any(difference):
        return 1.0
    value = difference.sum() / counts.sum()
    spread = float(((difference - value * counts) ** 2).sum())
    error = math.sqrt(units * spread / (units - 1)) / float(counts.sum())
    if error == 0:
        return float(2.0 ** (1 - units))
    tails: Any = stats.t.sf(abs(value) / error, units - 1)
    return float(2 * tails)


def holm(values: Sequence[float]) -> list[float]:
    """Adjusted p values of one family, in their order: Holm's step-down (1979), valid whatever the dependence."""
    adjusted, largest = [1.0] * len(values), 0.0
    for rank, place in enumerate(sorted(range(len(values)), key=lambda place: values[place])):
        largest = max(largest, min(1.0, (len(values) - rank) * values[place]))
        adjusted[place] = largest
    return adjusted


def verdict(difference: Difference, adjusted: float) -> str:
    """holds or fails, by the sign, where the adjusted p is below ALPHA and the interval leaves out 0 as well; else
    undecided."""
    if difference.low is None or difference.high is None or adjusted >= ALPHA:
        return "undecided"
    return "holds" if difference.low > 0 else "fails" if difference.high < 0 else "undecided"
