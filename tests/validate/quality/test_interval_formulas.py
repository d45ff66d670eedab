"""Intervals of quality beside their formulas, written out or taken from scipy; and how an interval is shown."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("scipy")

from scipy import stats

from validate.interval import Interval, interval_text
from validate.quality import intervals
from validate.quality.intervals import change, mcnemar, mean, rank_correlations, share

Z = 1.959964


def bootstrapped(difference: list[float], weight: list[float]) -> tuple[float, float]:
    """The bias-corrected and accelerated interval of a ratio of sums over units, 95 %, of 1,999 resamples."""
    found = stats.bootstrap(
        (difference, weight),
        lambda values, counts, axis: values.sum(axis) / counts.sum(axis),
        paired=True,
        n_resamples=1999,
        confidence_level=0.95,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def test_a_change_is_of_sums_per_token_with_the_interval_of_paired_units() -> None:
    rng = np.random.default_rng(5)
    counts, dense = rng.integers(50, 90, 24).astype(float), rng.gamma(9, 20, 24)
    candidate = dense + rng.gamma(2, 3, 24)
    found = change(candidate.tolist(), dense.tolist(), counts.tolist())
    assert found.value == pytest.approx((candidate - dense).sum() / counts.sum())
    assert (found.low, found.high) == pytest.approx(bootstrapped((candidate - dense).tolist(), counts.tolist()))
    plain = change(candidate.tolist(), dense.tolist())
    assert plain.value == pytest.approx((candidate - dense).mean())
    assert plain == mean((candidate - dense).tolist())
    assert (plain.low, plain.high) == pytest.approx(bootstrapped((candidate - dense).tolist(), [1.0] * 24))
    # of ones and zeros that stand for more than an item the interval is no score interval
    ones = change([1.0, 0.0, 1.0, 1.0, 0.0], [0.0] * 5, [2.0] * 5)
    assert (ones.value, ones.low, ones.high) == pytest.approx((0.3, *bootstrapped([1, 0, 1, 1, 0], [2.0] * 5)))


def test_where_the_accelerated_interval_is_degenerate_it_is_of_percentiles() -> None:
    """One unit of many differs: without it the others have no spread to correct by."""
    values = [0.0] * 400 + [3.0]
    found = change(values, [0.0] * 401)
    drawn = stats.bootstrap(
        (values, [1.0] * 401),
        lambda values, counts, axis: values.sum(axis) / counts.sum(axis),
        paired=True,
        n_resamples=1999,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    with np.errstate(all="ignore"):
        accelerated = bootstrapped(values, [1.0] * 401)
    expected = accelerated if all(map(math.isfinite, accelerated)) else (drawn.low, drawn.high)
    assert (found.low, found.high) == pytest.approx(expected)


def test_a_share_has_wilsons_interval() -> None:
    for right, items in ((0, 12), (7, 12), (12, 12), (90, 200)):
        p = right / items
        centre = (p + Z**2 / (2 * items)) / (1 + Z**2 / items)
        half = Z / (1 + Z**2 / items) * math.sqrt(p * (1 - p) / items + Z**2 / (4 * items**2))
        found = share(right, items)
        assert (found.value, found.low, found.high) == pytest.approx((p, centre - half, centre + half), abs=1e-6)


def test_mcnemar_counts_the_items_that_differ_alone() -> None:
    """Five gained and one lost: twice the odds of six coins that show at most one head."""
    assert mcnemar("1111100011", "0000010011") == pytest.approx(2 * 7 / 64)
    assert mcnemar("0000", "1110") == pytest.approx(2 / 8)


def test_rank_correlations_are_spearmans_over_items_drawn_with_both_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "RESAMPLES", 60)
    rng = np.random.default_rng(2)
    scores = np.round(rng.uniform(0, 5, 25), 1)  # with ties
    dense, candidate = scores + rng.normal(0, 1, 25), scores + rng.normal(0, 2, 25)
    own, moved = rank_correlations(candidate.tolist(), dense.tolist(), scores.tolist())

    def both(rows: np.ndarray) -> tuple[float, float]:
        one, other = (stats.spearmanr(each[rows], scores[rows]).statistic for each in (candidate, dense))
        return float(one), float(one - other)

    drawn = np.array([both(rows) for rows in np.random.default_rng(0).integers(25, size=(60, 25))])
    ends = np.quantile(drawn, [0.025, 0.975], axis=0)
    expected = both(np.arange(25))
    assert (own.value, own.low, own.high) == pytest.approx((expected[0], *ends[:, 0]))
    assert (moved.value, moved.low, moved.high) == pytest.approx((expected[1], *ends[:, 1]))


def test_without_distinct_values_no_order_was_found() -> None:
    own, moved = rank_correlations([1.0] * 8, np.arange(8.0).tolist(), np.arange(8.0).tolist())
    assert (own.value, moved.value) == pytest.approx((0.0, -1.0))


def test_a_single_unit_has_no_interval() -> None:
    assert mean([0.5]) == Interval(0.5, None, None)
    assert change([2.0], [1.0]) == Interval(1.0, None, None)


@pytest.mark.parametrize(
    ("interval", "options", "text"),
    [
        (None, {}, "-"),
        (Interval(0.0123, -0.003, 0.0314), {}, "+0.012 [-0.003, +0.031]"),
        (Interval(0.0123, -0.003, 0.0314), {"digits": 1, "share": True}, "+1.2 % [-0.3, +3.1]"),
        (Interval(0.25, 0.1, 0.5), {"digits": 2, "signed": False}, "0.25 [0.10, 0.50]"),
        (Interval(0.25, 0.1, None), {}, "+0.250"),
        (Interval(0.25, None, 0.5), {"share": True, "signed": False}, "25.000 %"),
    ],
)
def test_an_interval_is_shown_behind_its_value(interval: Interval | None, options: dict[str, bool], text: str) -> None:
    assert interval_text(interval, **options) == text
    if interval is not None:
        assert interval.to_json() == {"value": interval.value, "low": interval.low, "high": interval.high}
