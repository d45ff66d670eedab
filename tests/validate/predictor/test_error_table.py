"""The predictor's table of errors: bands of damage, paired differences, intervals over whole families."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from scipy import stats

from validate.predictor.errors import JUDGED, error_rows, in_bands, mean_interval, rank_correlation
from validate.predictor.points import Floats


@pytest.fixture(scope="module")
def measured() -> Floats:
    """Thirty changes below 0.05 nats, twenty-nine from 0.2 to 1, and one of 7."""
    rng = np.random.default_rng(1)
    return np.concatenate([rng.uniform(-0.01, 0.049, 30), rng.uniform(0.2, 0.99, 29), [7.0]])


def test_bands_take_every_point_once() -> None:
    bands = in_bands(np.array([-0.01, 0.049, 0.05, 0.199, 0.2, 0.99, 1.0, 7.0]))
    assert {name: np.flatnonzero(band).tolist() for name, band in bands.items()} == {
        "all": [0, 1, 2, 3, 4, 5, 6, 7],
        "below 0.05": [0, 1],
        "0.05 to 0.2": [2, 3],
        "0.2 to 1": [4, 5],
        "above 1": [6, 7],
    }


def test_every_band_has_a_row_of_each_model_that_holds_its_points_alone(measured: Floats) -> None:
    predicted, null = measured + np.linspace(-0.3, 0.5, 60), measured * 0.5 - 0.1
    covered = np.arange(60) % 3 > 0
    rows = error_rows("folds", measured, predicted, {"null": null}, covered)
    bands = {name: band for name, band in in_bands(measured).items() if band.any()}
    assert [(row["band"], row["model"]) for row in rows] == [
        (name, model) for name in bands for model in ("predictor", "null")
    ]
    for row in rows:
        inside = bands[row["band"]]
        errors = {"predictor": (predicted - measured)[inside], "null": (null - measured)[inside]}
        own, error = np.abs(errors["predictor"]), errors[row["model"]]
        assert (row["protocol"], row["points"], row["judged"]) == ("folds", inside.sum(), inside.sum() >= 30)
        assert row["mean_abs"] == pytest.approx(np.abs(error).mean())
        assert row["median_abs"] == pytest.approx(np.median(np.abs(error)))
        assert row["bias"] == pytest.approx(error.mean())
        if row["model"] == "predictor":
            assert row["coverage"] == covered[inside].mean()
            assert row["spearman"] == rank_correlation(predicted[inside], measured[inside])
        else:
            assert row["difference"] == pytest.approx((own - np.abs(error)).mean())
            assert (row["difference_low"], row["difference_high"]) == mean_interval(own - np.abs(error))
            assert row["ratio"] == pytest.approx(own.mean() / np.abs(error).mean())
            assert row["spearman"] == rank_correlation(null[inside], measured[inside])


def test_a_band_is_judged_from_thirty_points_on(measured: Floats) -> None:
    rows = error_rows("p", measured, measured, {})
    assert JUDGED == 30
    assert {row["band"]: row["judged"] for row in rows} == {
        "all": True,
        "below 0.05": True,
        "0.2 to 1": False,
        "above 1": False,
    }
    assert {row["coverage"] for row in rows} == {None}


def test_of_a_null_model_without_error_there_is_no_ratio() -> None:
    values = np.linspace(0.3, 0.9, 12)
    (_, null, *_) = error_rows("p", values, values + 0.1, {"null": values})
    assert (null["model"], null["ratio"], null["difference"]) == ("null", None, pytest.approx(0.1))


def test_the_interval_of_a_mean_is_the_normal_one_of_many_values() -> None:
    values = np.random.default_rng(2).exponential(size=400)
    low, high = mean_interval(values)
    assert low is not None
    assert high is not None
    margin = 1.96 * stats.sem(values)
    assert (values.mean() - low, high - values.mean()) == pytest.approx((margin, margin), rel=0.1)


def test_families_are_resampled_together() -> None:
    """Four copies of each value say no more than one; of families of unlike sizes the mean stays that of all points."""
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(size=40), 4)
    alone, together = mean_interval(values), mean_interval(values, np.repeat(np.arange(40), 4))
    assert together[1] - together[0] == pytest.approx(2 * (alone[1] - alone[0]), rel=0.15)
    assert together == pytest.approx(mean_interval(values[::4]))
    assert mean_interval(values, np.arange(160)) == alone
    assert mean_interval(np.ones(12), np.array([0] * 8 + [1, 2, 3, 4])) == (1.0, 1.0)
    assert mean_interval(values[:16], np.repeat(np.arange(4), 4)) == (None, None)
    assert None not in mean_interval(values[:5])
    rows = error_rows("p", values, values, {"null": values + values**2}, families=np.repeat(np.arange(40), 4))
    single = error_rows("p", values, values, {"null": values + values**2})
    assert rows[1]["difference_low"] < single[1]["difference_low"]


def test_ranks_are_correlated_where_there_are_three_and_they_differ() -> None:
    first, second = np.array([1.0, 2.0, 4.0, 3.0]), np.array([1.0, 2.0, 3.0, 4.0])
    assert rank_correlation(first, second) == pytest.approx(0.8)
    assert rank_correlation(first[:3], second[:3]) == pytest.approx(1.0)
    assert rank_correlation(first[:2], second[:2]) is None
    assert rank_correlation(np.ones(4), second) is rank_correlation(second, np.ones(4)) is None
