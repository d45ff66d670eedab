"""How far a search believes too much of what it chooses, and the correction for it. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from validate.choose.duels import predicted
from validate.choose.results import Results
from validate.interval import Interval
from validate.quality.intervals import change, mean

_SMALL = 0.005
"""Nats: a mean prediction below it is corrected by no factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimism:
    """How far the search believed too much of the points that it chose.

    Points of dropped layers and nothing else are left out: what those lose was measured for the search, on the same
    half of the text.

    Attributes:
        points: of the frontier that were measured.
        left_out: of those that are dropped layers and nothing else.
        search: mean of measured minus predicted NLL on the text that was searched on, over points.
        verify: on the other half.
        factor: sum of the measured changes over that of the predicted ones, on the other half: predicted changes of the
            frontier are multiplied by it for a corrected estimate.
        error, corrected: mean absolute error before, and after correction by the factor of the other points.
        left: mean of measured minus predicted on the other half once predictions are multiplied by the ratio of sums on
            the half that was searched on.
    """

    points: int
    left_out: int
    search: Interval
    verify: Interval
    factor: Interval
    error: float
    corrected: float
    left: Interval


def optimism(results: Results) -> Optimism | None:
    """Measured against predicted over the points chosen from the frontiers, without those left out; None for none."""
    every = {each.point.key: each for each in results.frontier if each.point.quality is not None}
    chosen = {key: each for key, each in every.items() if not each.point.told}
    if not chosen:
        return None
    guesses = [predicted(each) for each in chosen.values()]
    searched, verified = (
        [getattr(each, name).value for each in chosen.values()] for name in ("change_searched", "change")
    )
    factor, errors = Interval(1.0, None, None), np.abs(np.subtract(verified, guesses))
    corrected, searched_factor = errors, 1.0
    if np.mean(guesses) >= _SMALL and len(guesses) > 1:
        factor = change(verified, [0.0] * len(verified), guesses)
        others = [
            (sum(verified) - mine) / max(sum(guesses) - guess, _SMALL)
            for mine, guess in zip(verified, guesses, strict=True)
        ]
        corrected = np.abs(np.subtract(verified, np.multiply(guesses, others)))
        searched_factor = sum(searched) / sum(guesses)
    return Optimism(
        points=len(chosen),
        left_out=len(every) - len(chosen),
        search=_mean_difference(searched, guesses),
        verify=_mean_difference(verified, guesses),
        factor=factor,
        error=float(np.mean(errors)),
        corrected=float(np.mean(corrected)),
        left=_mean_difference(verified, [searched_factor * guess for guess in guesses]),
    )


def _mean_difference(measured: Sequence[float], predicted: Sequence[float]) -> Interval:
    return mean([mine - guess for mine, guess in zip(measured, predicted, strict=True)])
