"""What is said of raw times and errors, beside the formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("scipy")

from scipy import stats

from validate.speed.statistics import (
    iqr,
    kendall_tau,
    median,
    paired_log_ratios,
    ratio_interval,
    summary,
    widened,
)


def test_the_middle_and_the_distance_between_quartiles() -> None:
    assert (median([3, 1, 2]), median([4.0, 1.0, 2.0, 3.0])) == (2.0, 2.5)
    assert iqr([0.0, 1.0, 2.0, 3.0, 10.0]) == pytest.approx(2.0)


def test_each_call_is_compared_with_the_mean_of_those_on_both_sides() -> None:
    above, below = np.array([1.0, 2.0, 3.0]), np.array([1.5, 2.5, 0.5])
    found = paired_log_ratios(above.tolist(), below.tolist())
    assert found == pytest.approx(
        [math.log(1 / 1.5), math.log(2) - math.log(1.5 * 2.5) / 2, math.log(3) - math.log(2.5 * 0.5) / 2]
    )


def test_fewer_than_six_pairs_have_no_interval() -> None:
    assert ratio_interval([2.0] * 5, [1.0] * 5) == (pytest.approx(2.0), 0.0, math.inf)
    ratio, low, high = ratio_interval([2.0, 2.1, 1.9, 2.2, 2.0, 1.8], [1.0] * 6)
    assert 0 < low <= ratio <= high < math.inf
    assert math.log(low) == pytest.approx(math.log(1.8))  # of six all but one in 32 lie between the ends
    assert math.log(high) == pytest.approx(math.log(2.2))


def by_copies(levels: tuple[list[float], list[float]], turns: int) -> tuple[list[float], list[float]]:
    """Calls of copies in turn, each copy at its own level; noise that is the same for both."""
    both = [np.exp(np.tile(each, turns)) for each in levels]
    return both[0].tolist(), both[1].tolist()


def test_copies_widen_an_interval_from_three_on_and_from_two_turns_on() -> None:
    levels = [0.0, 0.1, -0.1], [0.01, -0.02, 0.03]
    calls = by_copies(levels, 7)
    welch = stats.ttest_ind(*levels, equal_var=False).confidence_interval(0.95)
    half = float(welch.high - welch.low) / 2
    ratio, low, high = ratio_interval(*calls, copies=3)
    plain = ratio_interval(*calls)
    assert ratio == plain[0]
    # the level of the machine is read over whole turns, whose first and last lack a neighbour
    assert math.log(ratio / low) == pytest.approx(max(half, math.log(ratio / plain[1])), rel=0.05)
    assert math.log(high / ratio) == pytest.approx(max(half, math.log(plain[2] / ratio)), rel=0.05)
    assert ratio_interval(*calls, copies=2) == plain
    assert ratio_interval(*calls, copies=11) == plain  # 21 pairs are no two turns of eleven


def test_an_independent_error_adds_to_an_interval_by_squares() -> None:
    ratio, low, high = 0.8, 0.7, 0.95
    extra = 1.959964 * 0.03
    below, above = widened(ratio, low, high, 0.03)
    assert math.log(ratio / below) == pytest.approx(math.hypot(math.log(ratio / low), extra), rel=1e-6)
    assert math.log(above / ratio) == pytest.approx(math.hypot(math.log(high / ratio), extra), rel=1e-6)
    assert widened(ratio, 0.0, high, 0.03)[0] == 0.0
    assert widened(ratio, low, high, 0.0) == pytest.approx((low, high))


def test_errors_are_summed_up_by_size_and_sign() -> None:
    errors = [0.1, -0.2, 0.05, 0.4, -0.01]
    assert summary(errors) == pytest.approx({"bias": 0.068, "mean": 0.152, "median": 0.1, "p95": 0.36, "worst": 0.4})


def test_ranks_are_compared_with_ties_where_values_differ() -> None:
    assert kendall_tau([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(4 / 6)
    assert kendall_tau([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / math.sqrt(2 * 3))
    assert kendall_tau([1, 1, 1], [1, 2, 3]) is None
    assert kendall_tau([1, 2, 3], [2, 2, 2]) is None
    assert kendall_tau([1, 2], [2, 1]) == -1


def test_blocks_widen_the_interval_from_two_values_each() -> None:
    logs = [0.0, 1.0] * 6 + [0.0, -1.0] * 6
    ratio, low, high = ratio_interval(np.exp(logs).tolist(), [1.0] * 24)
    assert ratio == pytest.approx(1.0)
    assert high == pytest.approx(1 / low) == pytest.approx(math.exp(2.201 * 0.5 / math.sqrt(11)), rel=1e-3)
    assert ratio_interval(np.exp(logs[:23]).tolist(), [1.0] * 23)[1:] == (1.0, 1.0)
