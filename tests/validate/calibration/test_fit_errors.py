"""Intervals and error rows of a fit, written out: quantiles by cell, speed-ups of pairs, held-out rows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.fit_tables import form_of, table_of
from validate.calibration import errors
from validate.calibration.errors import coverage_pct, error_row, speedup_rows, speedups
from validate.calibration.fit import form_errors
from validate.calibration.net import TrainedNet
from validate.calibration.shaped import FittedForm, summary
from validate.calibration.spread import ends, fit_spread, no_spread
from validate.calibration.tables import OpTable


def test_ends_are_the_ranks_that_a_further_point_misses_once_in_twenty() -> None:
    """Of 19 points the first and the last: the next one falls below or above them with odds of 1 in 20 each."""
    points = np.random.default_rng(0).permutation(np.arange(1.0, 20.0))
    assert ends(points).tolist() == [1.0, 19.0]
    assert ends(np.arange(1.0, 40.0)).tolist() == [2.0, 38.0]


def test_a_cells_interval_leans_on_its_neighbours_and_on_all() -> None:
    rng = np.random.default_rng(3)
    base_s, size = np.exp(rng.normal(-9, 1, 400)), rng.choice([8.0, 30.0, 100.0, 100.0, 300.0], 400)
    residual = rng.normal(0.01, 0.05, 400) * np.where(size > 50, 1, 3)
    spread = fit_spread(base_s, size, residual)
    cuts = [float(f"{cut:.3g}") for cut in np.quantile(base_s, np.arange(1, 6) / 6)]
    assert spread.base_edges.tolist() == cuts
    assert spread.size_edges.tolist() == [16.5, 64.5, 256.5]
    assert spread.outside == 2.0
    assert spread.low.shape == spread.high.shape == (6, 4)
    places = [
        (sum(edge <= one for edge in cuts), sum(edge <= other for edge in (16.5, 64.5, 256.5)))
        for one, other in zip(base_s.tolist(), size.tolist(), strict=True)
    ]
    for cell in np.ndindex(6, 4):
        own = [residual[at] for at, place in enumerate(places) if place == cell]
        near = [
            residual[at]
            for at, (row, column) in enumerate(places)
            if abs(row - cell[0]) <= 1 and abs(column - cell[1]) <= 1
        ]
        low, high = ends(residual)
        for points in (near, own):
            share = len(points) / (len(points) + 60)
            if points:
                first, last = ends(np.array(points))
                low, high = share * first + (1 - share) * low, share * last + (1 - share) * high
        assert (spread.low[cell], spread.high[cell]) == pytest.approx((min(low, 0), max(high, 0)))
    nothing = no_spread().quantiles(base_s, size, np.ones(400, dtype=bool))
    assert not np.concatenate(nothing).any()


def test_sizes_are_parted_where_points_lie_on_both_sides() -> None:
    base_s, residual = np.linspace(1e-6, 1e-3, 40), np.linspace(-0.1, 0.1, 40)
    for largest, edges in ((1100.0, [16.5, 64.5, 256.5]), (1101.0, [16.5, 64.5, 256.5, 1100.0])):
        assert fit_spread(base_s, np.linspace(16.0, largest, 40), residual).size_edges.tolist() == edges
    assert fit_spread(base_s, np.linspace(16.5, 64.0, 40), residual).size_edges.tolist() == []


def test_a_summary_is_of_relative_errors_in_percent() -> None:
    table = dataclasses.replace(table_of("gemm", 4), seconds=np.array([1.0, 2.0, 4.0, 8.0]))
    predicted = np.array([1.1, 1.8, 4.0, 12.0])
    assert summary(predicted, table) == pytest.approx(
        {"points": 4, "mean_pct": 17.5, "median_pct": 10.0, "p95_pct": 44.0, "bias_pct": 12.5}
    )
    row = error_row("gemm", "all", "folds", predicted, table, coverage_pct=91.23456)
    assert row == {
        "kind": "gemm",
        "subset": "all",
        "protocol": "folds",
        "points": 4,
        "mean_pct": 17.5,
        "median_pct": 10.0,
        "p95_pct": 44.0,
        "bias_pct": 12.5,
        "coverage_pct": 91.2,
    }


def grid_of(widths: int, seed: int) -> OpTable:
    """All products of some widths, at three numbers of rows."""
    sizes = np.arange(1, widths + 1) * 32.0
    shape = np.array([(m, n, k) for m in (1, 64, 256) for n in sizes for k in sizes]).T
    seconds = np.random.default_rng(seed).uniform(1, 2, shape.shape[1]) * shape[1] * shape[2]
    return OpTable(kind="gemm", shape=shape, seconds=seconds)


def test_speed_ups_are_of_all_ranks_below_both_widths() -> None:
    table = grid_of(6, 0)
    predicted = table.seconds * np.random.default_rng(1).uniform(0.9, 1.1, len(table))
    times = {tuple(shape): at for at, shape in enumerate(table.shape.T.tolist())}
    expected = sorted(
        tuple(
            seconds[times[m, n, k]] / (seconds[times[m, rank, k]] + seconds[times[m, n, rank]])
            for seconds in (predicted, table.seconds)
        )
        for m, n, k in times
        for rank in (32.0 * place for place in range(1, 6))
        if rank < min(n, k)
    )
    found = sorted(zip(*(each.tolist() for each in speedups(predicted, table)), strict=True))
    assert np.array(found) == pytest.approx(np.array(expected))
    ours, true = np.array(expected).T
    error, clear = 100 * (ours / true - 1), np.abs(true - 1) > 0.05
    (row,) = speedup_rows("gemm", "folds", predicted, table)
    assert row == {
        "kind": "gemm",
        "subset": "speed-up of a rank-r pair",
        "protocol": "folds",
        "points": len(expected),
        "mean_pct": pytest.approx(np.abs(error).mean(), rel=1e-3),
        "median_pct": pytest.approx(np.median(np.abs(error)), rel=1e-3),
        "p95_pct": pytest.approx(np.quantile(np.abs(error), 0.95), rel=1e-3),
        "bias_pct": pytest.approx(error.mean(), rel=1e-3),
        "sign_pct": pytest.approx(100 * ((ours > 1) == (true > 1))[clear].mean(), rel=1e-3),
    }
    assert len(expected) == 165
    assert speedup_rows("gemm", "folds", predicted[:36], table.take(np.arange(36))) == []  # too few cases
    wide = OpTable(kind="gemm", shape=np.stack([np.ones(82), *[np.arange(1, 83) * 32.0] * 2]), seconds=np.ones(82))
    assert [len(each) for each in speedups(wide.seconds, wide)] == [0, 0]


def test_a_prediction_of_no_change_is_no_prediction_of_a_speed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred clear cases sixty are faster; twenty more within five percent have no sign."""
    ours, true = np.ones(120), np.array([1.2] * 60 + [0.8] * 40 + [1.04] * 20)
    monkeypatch.setattr(errors, "speedups", lambda predicted, table: (ours, true))
    (row,) = speedup_rows("gemm", "folds", ours, grid_of(2, 0))
    assert row["sign_pct"] == 40.0


def test_a_forms_errors_are_of_all_of_what_is_low_rank_and_of_the_base_alone() -> None:
    form, table = form_of("gemm"), table_of("gemm", 200)
    net = TrainedNet(centre=np.zeros(1), scale=np.ones(1), weights=(), biases=())
    held_out_s = table.seconds * np.linspace(0.9, 1.2, 200)
    rows = form_errors("gemm", FittedForm(form=form, net=net, held_out_s=held_out_s), table)
    low, folds = table.low_rank(), "5 folds over whole (n, k) pairs"
    assert 5 < low.sum() < 150
    assert [(row["kind"], row["subset"], row["protocol"]) for row in rows] == [
        ("gemm", "all", folds),
        ("gemm", "low-rank: min(n, k) <= 512, max >= 2048", folds),
        ("gemm", "all, base without correction", "in sample"),
    ]
    base_s = form.base_seconds(table.shape)
    expected = [summary(held_out_s, table), summary(held_out_s[low], table.take(low)), summary(base_s, table)]
    for row, figures in zip(rows, expected, strict=True):
        assert {name: row[name] for name in figures} == pytest.approx(dict(figures), rel=1e-2)
    assert rows[0]["coverage_pct"] == pytest.approx(coverage_pct(base_s, held_out_s, table, 0), rel=1e-2)
