"""Intervals of quality and of its change against the dense model: paired; a seeded bootstrap, scores for shares. No
torch."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from validate.interval import Interval

LEVEL = 0.95
RESAMPLES = 1999
FEWEST = 32
"""Units below which a bootstrap interval is too narrow to go by: of 8 skewed ones 82 % hold the truth."""
SEED = 0

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


IDENTICAL = Interval(0.0, 0.0, 0.0)
"""The change of a model against itself."""


def change(candidate: Sequence[float], dense: Sequence[float], counts: Sequence[float] | None = None) -> Interval:
    """Candidate minus dense per token (or per item), paired: units are drawn with both of their values.

    The value is sum(candidate - dense) / sum(counts). Of items that are right (1) or wrong (0) its interval is that of
    `paired_shares`, which has a width even where no item changed. Of other values it is the bias-corrected and
    accelerated bootstrap (Efron 1987) over units, the percentile bootstrap where that one is degenerate. Units are
    taken as independent: blocks of one file are alike, so the interval of a short text is too narrow for texts of other
    kinds.

    Sums that agree in every unit are of the same predictions: no change, exactly. Units that all change alike, else,
    and a single one have no interval.

    Args:
        candidate, dense: a sum for each block, or a value for each item.
        counts: tokens of each block; None for one each.
    """
    difference = np.asarray(candidate, dtype=np.float64) - np.asarray(dense, dtype=np.float64)
    weight = np.ones_like(difference) if counts is None else np.asarray(counts, dtype=np.float64)
    value = float(difference.sum() / weight.sum())
    if len(difference) < 2:
        return Interval(value, None, None)
    if bool((weight == 1).all()) and all(set(values) <= {0.0, 1.0} for values in (candidate, dense)):
        return paired_shares(int((difference > 0).sum()), int((difference < 0).sum()), len(difference))
    return IDENTICAL if not difference.any() else _spread(difference, weight, value)


def _spread(difference: Floats, weight: Floats, value: float) -> Interval:
    if np.ptp(difference / weight) == 0:
        return Interval(value, None, None)
    low, high = _bootstrap(difference, weight, "BCa")
    if not (np.isfinite(low) and np.isfinite(high)):
        low, high = _bootstrap(difference, weight, "percentile")
    return Interval(value, float(low), float(high))


def _bootstrap(difference: Floats, weight: Floats, method: str) -> tuple[float, float]:
    from scipy import stats

    def ratio(differences: Floats, weights: Floats, axis: int = -1) -> Floats:
        total: Floats = differences.sum(axis) / weights.sum(axis)
        return total

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a degenerate BCa is NaN, and asked for
        result: Any = stats.bootstrap(
            (difference, weight),
            ratio,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=500,
            confidence_level=LEVEL,
            method=method,
            rng=np.random.default_rng(SEED),
        )
    return result.confidence_interval.low, result.confidence_interval.high


def paired_shares(gained: int, lost: int, items: int) -> Interval:
    """Change of a share of right answers with Tango's score interval (1998): all d at which gained - lost - items d is
    within z sqrt(items (2 q + d (1 - d))) of 0, with q the likeliest share of lost items if d were true.

    Args:
        gained, lost: items that became right, and wrong.
        items: all of them.
    """
    from scipy import optimize, stats

    value = (gained - lost) / items
    limit = float(stats.norm.isf((1 - LEVEL) / 2)) ** 2

    def beyond(d: float) -> float:
        half = (2 * items - gained + lost) * d - gained - lost
        q = (math.sqrt(max(0.0, half**2 + 8 * items * lost * d * (1 - d))) - half) / (4 * items)
        return (gained - lost - items * d) ** 2 - limit * items * (2 * q + d * (1 - d))

    near = 1e-9  # at the value itself the bound is 0 where no item changed
    low = float(optimize.brentq(beyond, -1.0, value - near)) if value - near > -1 else -1.0
    high = float(optimize.brentq(beyond, value + near, 1.0)) if value + near < 1 else 1.0
    return Interval(value, low, high)


def share(right: int, items: int) -> Interval:
    """Accuracy of `right` out of `items` with Wilson's interval."""
    from scipy import stats

    bounds: Any = stats.binomtest(right, items).proportion_ci(LEVEL, method="wilson")
    return Interval(right / items, float(bounds.low), float(bounds.high))


def rank_correlations(
    candidate: Sequence[float], dense: Sequence[float], scores: Sequence[float]
) -> tuple[Interval, Interval]:
    """Spearman's correlation of a candidate's values with scores, and its change against dense; percentile bootstrap
    over items, drawn with their score and both values.

    Ranks are those among the items drawn. Without distinct values the correlation is 0: no order was found.
    """
    values = np.asarray(candidate, dtype=np.float64)
    drawn = _drawn(tuple(dense), tuple(scores))
    rows = [_ranks(np.asarray(each, dtype=np.float64)) for each in (candidate, dense, scores)]
    own, other = _correlation(rows[0], rows[2]), _correlation(rows[1], rows[2])
    spread = _correlation(_ranks(values[drawn.items]), drawn.scores)
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    own_low, own_high = np.quantile(spread, ends)
    low, high = np.quantile(spread - drawn.dense, ends)
    value = Interval(float(own), float(own_low), float(own_high))
    return value, Interval(float(own - other), float(low), float(high))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Drawn:
    """What every candidate's bootstrap has in common.

    Attributes:
        items: drawn, (resamples, items).
        scores: ranks of their scores.
        dense: correlations of the dense model's values with them, (resamples,).
    """

    items: Ints
    scores: Floats
    dense: Floats


@functools.lru_cache(maxsize=1)
def _drawn(dense: tuple[float, ...], scores: tuple[float, ...]) -> _Drawn:
    items = np.random.default_rng(SEED).integers(len(dense), size=(RESAMPLES, len(dense)))
    ranks = _ranks(np.asarray(scores, dtype=np.float64)[items])
    return _Drawn(
        items=items, scores=ranks, dense=_correlation(_ranks(np.asarray(dense, dtype=np.float64)[items]), ranks)
    )


def _ranks(values: Floats) -> Floats:
    """Along the last axis, from their mean; ties have their mean rank."""
    from scipy import stats

    ranks = stats.rankdata(values, axis=-1)
    centred: Floats = ranks - ranks.mean(-1, keepdims=True)
    return centred


def _correlation(first: Floats, second: Floats) -> Floats:
    """Of centred values along the last axis, 0 where one has no distinct ones."""
    scale = np.sqrt((first**2).sum(-1) * (second**2).sum(-1))
    found: Floats = np.where(scale > 0, (first * second).sum(-1) / np.where(scale > 0, scale, 1.0), 0.0)
    return found


def mean(values: Sequence[float]) -> Interval:
    """Mean of a metric that is no share, with its bootstrap interval."""
    found = np.asarray(values, dtype=np.float64)
    value = float(found.mean())
    return _spread(found, np.ones_like(found), value) if len(found) > 1 else Interval(value, None, None)


def mcnemar(candidate: str, dense: str) -> float:
    """Two-sided p of McNemar's exact test that both are right equally often; strings of 0 and 1 per item."""
    from scipy import stats

    gained = sum(a > b for a, b in zip(candidate, dense, strict=True))
    lost = sum(a < b for a, b in zip(candidate, dense, strict=True))
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
