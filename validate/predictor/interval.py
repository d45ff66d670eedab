"""Intervals of predictions from residuals of predictions that were held out: cross-conformal, local in the prediction.

As in split conformal prediction (Lei et al. 2018, arXiv:1604.04173), with residuals of all folds in place of one split.
They are divided by a line that says how they grow with the prediction ("locally weighted", section 5.2 there): a few
dozen points are no neighbourhood, and one half-width for all would be too narrow where residuals are largest.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from validate.predictor.points import Floats
from validate.predictor.score import compress, expand

LEVEL = 0.9
_NEAREST = 50
"""Residuals that an interval is read from: those of the predictions nearest to it."""
_LEAST = 0.25
"""Least of the line that residuals are divided by, as a share of their mean."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Band:
    """Residuals on the compressed scale by prediction, float64 (n) each, the predictions rising."""

    predicted: Floats
    residual: Floats

    @classmethod
    def of(cls, predicted: Floats, measured: Floats) -> Band:
        """From held-out predictions and measurements, nats."""
        order = np.argsort(predicted, kind="stable")
        scaled = compress(predicted[order])
        return cls(predicted=scaled, residual=np.abs(compress(measured[order]) - scaled))

    def around(self, predicted: Floats) -> tuple[Floats, Floats]:
        """The ends of the 90 % intervals of predictions, nats."""
        scaled = compress(predicted)
        half = half_widths(self.predicted, self.residual, scaled)
        return expand(scaled - half), expand(scaled + half)


def half_widths(places: Floats, residuals: Floats, at: Floats) -> Floats:
    """Half the width of the 90 % intervals at some places, float64 (m).

    Args:
        places: of residuals, rising, float64 (n).
        residuals: absolute, float64 (n).
        at: where, float64 (m).
    """
    typical = _typical(places, residuals)
    return nearest_quantiles(places, residuals / typical(places), at) * typical(at)


def nearest_quantiles(places: Floats, residuals: Floats, at: Floats) -> Floats:
    """The residual of the nearest ones that a further one exceeds with odds of one in ten, float64 (m); arguments as of
    `half_widths`."""
    count = min(_NEAREST, len(residuals))
    rank = min(count, math.ceil(LEVEL * (count + 1))) - 1
    firsts = np.clip(np.searchsorted(places, at) - count // 2, 0, len(residuals) - count)
    return np.array([np.sort(residuals[first : first + count])[rank] for first in firsts])


def _typical(places: Floats, residuals: Floats) -> Callable[[Floats], Floats]:
    """The mean residual as a straight line in the prediction, by least squares."""
    mean, centre, variance = float(residuals.mean()), float(places.mean()), float(places.var())
    if mean == 0 or variance == 0:
        return lambda at: np.ones_like(at)
    slope = float(np.mean((places - centre) * residuals)) / variance
    return lambda at: np.maximum(mean + slope * (at - centre), _LEAST * mean)
