"""The pieces of a fit beside their formulas, written out: quantiles by cell, tiles and waves, grown shapes, rows."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest

from costmodel.files.table import Table
from costmodel.hardware.profile import load_hardware
from costmodel.timing.calibration.base import Base
from costmodel.timing.calibration.net import Net
from costmodel.timing.calibration.shaped import FormKind, ShapedForm, StreamForm, nominal_work
from costmodel.units import DType
from studies.calibrations.device_fit import related
from validate.calibration import errors, few, process
from validate.calibration.base import fit_base
from validate.calibration.errors import coverage_pct, error_row, speedup_rows, speedups
from validate.calibration.file import calibration_bytes
from validate.calibration.fit import _multiple, _require, device_of, fit_calibration, fit_streams, form_errors
from validate.calibration.folder import Manifest, MeasuredOps, read_ops, read_streams, write_ops
from validate.calibration.grown import grown_pairs, grown_shapes
from validate.calibration.net import TrainedNet, _cycle
from validate.calibration.shaped import FittedForm, cooled, folds_of, joined, rounded, summary
from validate.calibration.spread import ends, fit_spread, no_spread
from validate.calibration.streams import StreamTable, fit_stream, held_out_halves, stream_to_json, with_interval
from validate.calibration.tables import Floats, OpTable, tables_of
from validate.calibration.tiles import SPLITS, TILES, TileModel
from validate.errors import FitError, RecordError

BASE = Base(flops_per_s=2e14, bytes_per_s=1e12, fixed_s=3e-6, overlap=1.5)
RANGES: dict[FormKind, tuple[list[float], list[float]]] = {
    "gemm": ([1, 32, 48], [4096, 8192, 8192]),
    "prefill": ([1, 16, 16, 4, 1, 64], [16, 2048, 4096, 32, 32, 128]),
    "decode": ([1, 1, 16, 4, 1, 64], [16, 1, 4096, 32, 32, 128]),
}


def form_of(kind: FormKind) -> ShapedForm:
    """A form without a correction."""
    low, high = (np.array(each, dtype=np.float64) for each in RANGES[kind])
    return ShapedForm(
        kind=kind,
        base=BASE,
        net=Net(layers=()),
        spread=no_spread(),
        alignment=None,
        cores=108,
        cache_bytes=4e7,
        element_bytes=2,
        cache_element_bytes=2,
        output_bytes=None,
        cold_bytes=0.0,
        low=low,
        high=high,
        multiple=1,
    )


def table_of(kind: FormKind, count: int) -> OpTable:
    """Shapes within the range of the form."""
    rng, (low, high) = np.random.default_rng(1), RANGES[kind]
    shape = np.round(2 ** rng.uniform(np.log2(low), np.log2(high), (count, len(low)))).T
    if kind == "prefill":
        shape[2] = np.minimum(shape[1] + rng.integers(0, 50, count), high[2])
    if kind != "gemm":
        shape[4] = np.minimum(shape[3], shape[4])
    return OpTable(kind=kind, shape=shape, seconds=np.linspace(1e-5, 1e-3, count))


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


def micros(model: TileModel, m: float, n: float, k: float) -> float:
    """The fastest choice of tile and split for one product, written out."""
    bandwidth, fixed, overlap, idle, reduce, wave, partial, warm, warm_size, reduced, *shares = np.exp(model.logs)
    size, rate = model.element_bytes, model.bytes_per_s * bandwidth / 1e6
    weights = size * n * k
    cold = 1 / (1 + (model.cache_bytes / 6 * warm_size / weights) ** 4)
    moved = size * m * (n + k) + weights * (cold + (1 - cold) * warm)
    times = []
    for (rows, columns), efficiency in zip(TILES, shares, strict=True):
        for split in SPLITS:
            waves = math.ceil(m / rows) * math.ceil(n / columns) * split / model.cores
            whole = math.floor(waves)
            taken = whole + (waves - whole) ** partial if waves > whole else whole
            depth = max(math.ceil(k / split / 32) * 32, 32)
            per_core = model.flops_per_s / model.cores / 1e6 * efficiency
            compute = max(taken, 1.0 if whole < 1 else 0.0) * (2 * rows * columns * depth / per_core + wave)
            share = min(waves, 1.0)
            memory = moved / rate * (1 + idle * (1 - share) / share)
            exponent = 1 + overlap
            time = (compute**exponent + memory**exponent) ** (1 / exponent)
            if split > 1:
                time += reduce + reduced * 2 * size * m * n * split / rate
            times.append(time)
    return fixed + min(times)


def test_tiles_take_whole_waves_and_the_fastest_choice_counts() -> None:
    rng = np.random.default_rng(4)
    model = TileModel(
        logs=np.log(rng.uniform(0.2, 1.5, 10 + len(TILES))),
        flops_per_s=3e14,
        bytes_per_s=2e12,
        cores=108,
        cache_bytes=4e7,
        element_bytes=2,
    )
    shape = np.round(2 ** rng.uniform(0, 13, (40, 3))).T
    expected = [micros(model, *each) * 1e-6 for each in shape.T.tolist()]
    assert model.seconds(shape) == pytest.approx(expected, rel=1e-9)


def test_a_grown_gemm_is_longer_in_one_dimension_and_on_the_same_grid() -> None:
    form, table = form_of("gemm"), table_of("gemm", 50)
    small, large = grown_shapes(form, table, 3000, seed=2)
    assert (small.shape, large.shape) == ((3, 3000), (3, 3000))
    assert ((small != large).sum(axis=0) <= 1).all()
    assert (large >= small).all()
    assert {int(each) for each in np.argwhere(large > small)[:, 0]} == {0, 1, 2}
    assert not (small[1:] % 16).any()
    assert not (large[1:] % 16).any()
    assert (small[1:] >= 16).all()
    ratio = (large / small).max(axis=0)
    assert (ratio[small.min(axis=0) > 64] <= 4.3).all()
    assert np.quantile(ratio, 0.9) > 3
    again, _ = grown_shapes(form, table, 3000, seed=2)
    assert (small == again).all()
    for row, (low, high) in enumerate(zip(form.low, form.high, strict=True)):
        assert small[row].min() >= min(low, 16 * round(low / 16) or 16) - 16 * (row > 0)
        assert small[row].max() <= high + 8 * (row > 0)
        assert np.log2(small[row]).std() == pytest.approx(np.log2(high / low) / math.sqrt(12), rel=0.1)


@pytest.mark.parametrize("kind", ["prefill", "decode"])
def test_grown_attention_has_more_sequences_or_longer_ones(kind: FormKind) -> None:
    form, table = form_of(kind), table_of(kind, 60)
    small, large = grown_shapes(form, table, 2000, seed=0)
    assert (large >= small).all()
    assert (small[3:] == large[3:]).all()
    heads = {tuple(each) for each in table.shape[3:].T}
    assert {tuple(each) for each in small[3:].T} <= heads
    for shape in (small, large):
        assert (shape >= form.low[:, None]).all()
        assert (shape <= form.high[:, None]).all()
        assert (shape == np.round(shape)).all()
    batch, longer = large[0] > small[0], (large[1:3] > small[1:3]).any(axis=0)
    assert not (batch & longer).any()
    assert 0.3 < batch.mean() < 0.6
    assert 0.3 < longer.mean() < 0.6
    if kind == "prefill":
        limits = form.low[1:3, None], form.high[1:3, None]
        inside = longer & np.all([(limits[0] < each[1:3]) & (each[1:3] < limits[1]) for each in (small, large)], (0, 1))
        assert inside.mean() > 0.2
        assert (large[2] - large[1] == small[2] - small[1])[inside].all()  # the past stays as long
        assert (small[2] >= small[1]).mean() > 0.95
    else:
        assert (small[1] == large[1]).all()


def test_pairs_hold_what_the_base_says_of_the_growth() -> None:
    form, table = form_of("gemm"), table_of("gemm", 20)
    pairs = grown_pairs(form, table, 30, seed=5)
    small, large = grown_shapes(form, table, 30, seed=5)
    assert (pairs.smaller == form.features(small).T).all()
    assert (pairs.larger == form.features(large).T).all()
    assert pairs.gap == pytest.approx(np.log(form.base_seconds(small) / form.base_seconds(large)))


def test_the_inputs_of_a_process_are_a_few_logarithms() -> None:
    shape = np.array([[4, 8, 64, 16, 2, 128]], dtype=np.float64).T
    assert few._attention_inputs(shape).tolist() == [[2 + 4, 3, 6, 4 - 1, 7]]
    form = form_of("gemm")
    model = TileModel(
        logs=np.full(18, -0.5), flops_per_s=3e14, bytes_per_s=2e12, cores=108, cache_bytes=4e7, element_bytes=2
    )
    product = np.array([[100, 512, 2048]], dtype=np.float64).T
    (coarse,), (rich,) = few._coarse(form, model, product), few._rich(form, model, product)
    assert coarse[:3].tolist() == pytest.approx([math.log2(112), 9, 11])
    beyond = math.log2(model.seconds(product)[0] / form.base_seconds(product)[0])
    assert (coarse[-1], rich[-1]) == pytest.approx((beyond, beyond))
    assert rich[:-1] == pytest.approx(form.features(product)[:, 0])
    from costmodel.timing.calibration.features import GEMM_TILES

    assert coarse[3:-1] == pytest.approx(
        [
            math.log2(math.ceil(math.ceil(100 / rows) * math.ceil(512 / columns) / 108) / (512 * 112))
            for rows, columns in GEMM_TILES
        ]
    )


def test_the_learning_rate_rises_for_three_tenths_and_falls_to_nothing() -> None:
    found = [_cycle(progress) for progress in (0.0, 0.15, 0.3, 0.65, 1.0)]
    assert found == pytest.approx([0.04, 0.52, 1.0, 0.5, 0.0])


def test_a_network_is_a_chain_of_rectified_sums() -> None:
    rng = np.random.default_rng(0)
    weights = tuple(rng.normal(size=size).astype(np.float32) for size in ((2, 3), (3, 1)))
    biases = tuple(rng.normal(size=size).astype(np.float32) for size in (3, 1))
    net = TrainedNet(centre=np.array([1.0, 2.0]), scale=np.array([2.0, 4.0]), weights=weights, biases=biases)
    first = np.maximum(np.array([[1.0, -0.5]]) @ weights[0] + biases[0], 0)
    assert net(np.array([[3.0, 0.0]])) == pytest.approx((first @ weights[1] + biases[1])[:, 0], rel=1e-6)


def test_numbers_are_rounded_to_significant_digits_as_deep_as_they_lie() -> None:
    assert rounded(123456.0, 3) == 123000.0
    assert rounded(7) == 7.0
    assert rounded(np.array([[1.23456789, 2e-9], [0.0, -98.76543211]])) == [[1.23457, 2e-9], [0.0, -98.7654]]
    assert rounded(np.float64(0.123456789)) == 0.123457
    assert rounded(np.array([1.0])) == [1.0]
    assert (rounded(np.float32(0.123456), 3), rounded(np.array(23456), 3)) == (0.123, 23500.0)


def test_rows_of_two_tables_are_joined_and_warm_ones_cooled() -> None:
    one, other = table_of("gemm", 3), table_of("gemm", 2)
    both = joined(one, other)
    assert (both.kind, len(both)) == ("gemm", 5)
    assert (both.shape[:, 3:] == other.shape).all()
    assert (both.seconds[3:] == other.seconds).all()
    cold = cooled(one, BASE, 2)
    fetch = 2 * one.shape[1] * one.shape[2] / BASE.bytes_per_s
    assert cold.seconds == pytest.approx((one.seconds**1.5 + fetch**1.5) ** (1 / 1.5))
    assert (cold.kind, cold.shape.tolist()) == ("gemm", one.shape.tolist())


def test_groups_are_dealt_to_folds_in_turn() -> None:
    groups = np.arange(40) // 2
    fold = folds_of(groups, 5, 1)
    assert (fold[::2] == fold[1::2]).all()
    assert np.bincount(fold).tolist() == [8] * 5
    assert (folds_of(groups, 5, 1) == fold).all()
    assert (folds_of(groups, 5, 2) != fold).any()


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


@pytest.mark.parametrize(
    ("widths", "multiple"), [([128, 192], 64), ([64, 96], 32), ([48, 80], 16), ([24, 8], 8), ([6, 9], 1)]
)
def test_widths_have_a_largest_power_of_two_in_common(widths: list[float], multiple: int) -> None:
    shape = np.array([[1, *widths], [3, *widths[::-1]]], dtype=np.float64).T
    assert _multiple(OpTable(kind="gemm", shape=shape, seconds=np.ones(2))) == multiple


def test_a_search_begins_at_seven_tenths_of_the_datasheet() -> None:
    hardware = load_hardware("h100-sxm-80gb")
    found = device_of(hardware, DType.BF16, "gemm")
    assert found.start == Base(
        flops_per_s=pytest.approx(0.7 * hardware.matrix_rate(DType.BF16)),
        bytes_per_s=pytest.approx(0.7 * hardware.memory_bytes_per_s),
        fixed_s=4e-6,
        overlap=1.5,
    )
    assert (found.cores, found.cache_bytes) == (hardware.cores, hardware.caches[-1].bytes)
    assert (found.element_bytes, found.output_bytes) == (2, None)
    assert device_of(hardware, DType.BF16, "decode").start.fixed_s == 10e-6
    other = device_of(hardware, DType.BF16, "gemm:fp8")
    assert (other.element_bytes, other.output_bytes, other.start.fixed_s) == (1, 2, 4e-6)
    assert other.start.flops_per_s == pytest.approx(0.7 * hardware.matrix_rate(DType.FP8))
    bare = dataclasses.replace(hardware, caches=())
    assert device_of(bare, DType.BF16, "gemm").cache_bytes == 2**20
    table = table_of("gemm", 3)
    for mine, theirs in zip(other.work(table), nominal_work("gemm", table.shape, 1, 2), strict=True):
        assert (mine == theirs).all()


def test_a_base_without_arithmetic_keeps_its_rate() -> None:
    moved = 2.0 ** np.arange(10, 30)
    found = fit_base(np.zeros(20), moved, 2e-6 + moved / 8e11, BASE)
    assert found.bytes_per_s == pytest.approx(8e11, rel=1e-3)
    assert found.fixed_s == pytest.approx(2e-6, rel=1e-3)
    assert found.flops_per_s == pytest.approx(BASE.flops_per_s, rel=1e-3)


STREAM = StreamForm(
    base=BASE, log2_bytes=np.array([10.0, 20.0]), ln_factor=np.array([0.123456, -0.2]), low=-0.3, high=0.4
)


def test_a_streams_interval_is_that_of_held_out_residuals_up_to_a_factor_of_two() -> None:
    residual = np.linspace(-0.2, 0.3, 39)
    found = with_interval(STREAM, residual)
    assert (found.low, found.high) == pytest.approx(tuple(ends(residual)))
    assert (with_interval(STREAM, residual * 100).low, with_interval(STREAM, residual * 100).high) == (-0.7, 0.7)
    assert (with_interval(STREAM, residual + 1).low, with_interval(STREAM, residual - 1).high) == (0.0, 0.0)
    assert (found.base, found.log2_bytes.tolist()) == (BASE, [10.0, 20.0])


def test_a_related_device_has_the_bandwidth_of_its_own_and_wider_intervals() -> None:
    found = related(STREAM, 2.5, 1.5)
    assert found.base == dataclasses.replace(BASE, bytes_per_s=2.5e12)
    assert (len(found.log2_bytes), len(found.ln_factor)) == (0, 0)
    assert (found.low, found.high) == pytest.approx((-0.45, 0.6))
    assert (related(STREAM, 1, 9).low, related(STREAM, 1, 9).high) == (-0.7, 0.7)


def test_a_stream_goes_into_a_file_with_six_digits() -> None:
    base = dataclasses.replace(BASE, fixed_s=1.23456789e-6)
    assert stream_to_json(dataclasses.replace(STREAM, base=base), "measured") == {
        "base": {"flops_per_s": 2e14, "bytes_per_s": 1e12, "fixed_s": 1.23457e-6, "overlap": 1.5},
        "log2_bytes": [10.0, 20.0],
        "ln_factor": [0.1235, -0.2],
        "low": -0.3,
        "high": 0.4,
        "source": "measured",
    }


def test_a_streams_correction_follows_what_the_base_cannot_say_and_never_falls() -> None:
    """A step of a third at 2 MiB, up or down: what takes less time at more bytes is held at the time before."""
    moved = 2.0 ** np.linspace(12, 28, 80)
    plain = 3e-6 + moved / 1.4e12
    for step in (1.4, 0.7):
        table = StreamTable(kind="elementwise", moved=moved, seconds=plain * np.where(moved > 2**21, step, 1.0))
        form = fit_stream(table, flops_per_s=1e14, bytes_per_s=2e12)
        assert form.base.flops_per_s == 1e14
        assert form.log2_bytes == pytest.approx(np.linspace(12, 28, 12))
        assert np.abs(table.predict(form) / table.seconds - 1).mean() < 0.04
        assert (np.diff(table.predict(form)) >= 0).all()
    assert [len(each) for each in (table.take(moved > 2**21).moved, table.take(slice(3)).seconds)] == [35, 3]


def test_a_few_wild_streams_do_not_move_the_base() -> None:
    moved = 2.0 ** np.linspace(12, 28, 60)
    seconds = 3e-6 + moved / 1.4e12
    wild = np.where(np.arange(60) % 12 == 5, 6.0, 1.0)
    plain, found = (
        fit_stream(StreamTable(kind="norm", moved=moved, seconds=each), flops_per_s=1e14, bytes_per_s=2e12).base
        for each in (seconds, seconds * wild)
    )
    assert found.bytes_per_s == pytest.approx(plain.bytes_per_s, rel=0.1)
    assert found.fixed_s == pytest.approx(plain.fixed_s, rel=0.1)


def test_groups_of_a_table_are_its_weights_or_its_heads() -> None:
    gemm = OpTable(
        kind="gemm",
        shape=np.array([[1, 512, 2048], [9, 512, 2048], [1, 2048, 512], [1, 513, 4096], [1, 256, 2047]], dtype=float).T,
        seconds=np.ones(5),
    )
    groups = gemm.groups()
    assert groups[0] == groups[1]
    assert len(set(groups.tolist())) == 4
    assert gemm.low_rank().tolist() == [True, True, True, False, False]
    assert gemm.rows().tolist() == [1, 9, 1, 1, 1]
    assert gemm.weight_bytes(2).tolist() == [2 * n * k for _, n, k in gemm.shape.T]
    heads = np.array([[1, 1, 64, 8, 8, 64], [2, 1, 99, 8, 8, 64], [1, 1, 64, 8, 4, 64], [1, 1, 64, 8, 8, 128]]).T
    decode = OpTable(kind="decode", shape=heads.astype(float), seconds=np.ones(4))
    first, second, *others = decode.groups().tolist()
    assert first == second
    assert len({first, *others}) == 3
    assert not decode.low_rank().any()
    assert decode.rows().tolist() == [1, 2, 1, 1]


def test_a_file_has_a_line_for_each_key_and_each_entry_of_the_long_ones() -> None:
    content = {"schema": 1, "errors": [{"a": 1}, {"a": 2.5}], "streams": {"norm": {"low": -0.5}}, "forms": {}}
    data = calibration_bytes(content)
    assert json.loads(data) == content
    assert data.decode() == (
        '{\n "schema": 1,\n "errors": [\n  {"a":1},\n  {"a":2.5}\n ],\n'
        ' "streams": {\n  "norm": {"low":-0.5}\n },\n "forms": {}\n}\n'
    )
    with pytest.raises(ValueError, match="Out of range"):
        calibration_bytes({"low": math.nan})


def test_between_the_measured_shapes_of_attention_a_process_teaches_what_it_saw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A factor that grows with the keys alone is learned; what lies between is within the measured range."""
    monkeypatch.setattr(process, "STEPS", 8)
    form, table = form_of("decode"), table_of("decode", 60)
    factor = np.exp(0.1 * np.log2(table.shape[2]))
    table = dataclasses.replace(table, seconds=form.base_seconds(table.shape) * factor)
    taught = few._taught_attention(form, table, table.shape)
    assert np.abs(taught - np.log(factor)).mean() < 0.05
    assert np.corrcoef(taught, np.log(factor))[0, 1] > 0.95
    monkeypatch.setattr(few, "TAUGHT", 100)
    between: Floats = few._between(form, table)
    assert between.shape == (6, 160)
    assert (between[:, :60] == table.shape).all()
    assert (between >= form.low[:, None]).all()
    assert (between <= form.high[:, None]).all()


def test_a_processs_hyperparameters_are_searched_within_bounds() -> None:
    """Amplitude, a length for each input, and noise: the search begins at the variance, at 4 and at a tenth of it."""
    kernel = process._kernel(0.5, 2)
    assert np.exp(kernel.theta) == pytest.approx([0.5, 4.0, 4.0, 0.05])
    lengths = [math.log(0.1), math.log(100)]
    assert kernel.bounds == pytest.approx(np.array([[-12, 4], lengths, lengths, [-14, 2]]))
    assert np.exp(process._kernel(0.0, 1).theta) == pytest.approx([1e-6, 4.0, 1e-6])


def test_of_a_search_only_that_it_ended_at_a_bound_is_not_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def search(objective: object, start: Floats, bounds: object) -> tuple[Floats, float]:
        warnings.warn("something else", UserWarning, stacklevel=1)
        return start, 0.0

    monkeypatch.setattr(process, "_search", search)
    features = np.arange(12.0)[:, None]
    with pytest.warns(UserWarning, match="something else"):
        process.fit_process(features, features[:, 0])


def test_measured_streams_are_read_by_class_and_the_manifest_whole(tmp_path: Path) -> None:
    manifest = Manifest(
        hardware="l4", dtype="fp16", runtimes=["eager"], provenance=[{"source": "x"}], host_launch_s=5e-6
    )
    streams = [
        StreamTable(kind="elementwise", moved=np.array([1024.0, 4096.0]), seconds=np.array([2e-6, 3e-6])),
        StreamTable(kind="norm", moved=np.array([512.0]), seconds=np.array([4e-6])),
    ]
    folder = tmp_path / "ops"
    write_ops(folder, MeasuredOps(manifest=manifest, tables={"gemm": table_of("gemm", 4)}, streams=streams))
    found = read_ops(folder)
    assert found.manifest == manifest
    assert [(each.kind, each.moved.tolist()) for each in found.streams] == [
        (each.kind, each.moved.tolist()) for each in streams
    ]
    assert [each.seconds.tolist() for each in found.streams] == [[2e-6, 3e-6], [4e-6]]
    (folder / "tables.json").unlink()
    with pytest.raises(RecordError, match="list of measured operations"):
        read_ops(folder)


def test_what_is_too_large_is_named_by_its_row() -> None:
    columns = {"m": [1, 2**20], "n": [32, 2**20], "k": [32, 2**20], "latency_us": [1.0, 1.0]}
    with pytest.raises(RecordError, match="m in row 2: got"):
        tables_of(Table(file="here", columns=columns, error=RecordError))
    names = ("batch_size", "q_len", "past_len", "num_heads", "num_key_value_heads", "head_dim", "latency_us")
    rows = [[1, 1, 15, 8, 2, 64, 9.0], [1, 1, 15, 8, 3, 64, 9.0]]
    with pytest.raises(RecordError, match="num_key_value_heads in row 2: got 3; allowed: a divisor"):
        tables_of(Table(file="here", columns=dict(zip(names, zip(*rows, strict=True), strict=True)), error=RecordError))


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


def three(figure: float) -> float:
    """With three significant digits, as files hold figures."""
    return float(f"{figure:.3g}")


def test_a_streams_errors_are_of_the_sizes_that_were_held_out() -> None:
    hardware = load_hardware("a100-sxm-80gb")
    rng, moved = np.random.default_rng(6), 2.0 ** np.linspace(12, 34, 40)
    table = StreamTable(
        kind="norm", moved=moved, seconds=(3e-6 + moved / 1.4e12) * np.exp(0.15 * rng.standard_normal(40))
    )
    entries, (row,) = fit_streams([table], BASE, hardware)
    unseen, predicted = held_out_halves(table, flops_per_s=BASE.flops_per_s, bytes_per_s=hardware.memory_bytes_per_s)
    error = predicted / unseen.seconds - 1
    near = [
        abs(guess - true) <= max(true / 10, 1e-6)
        for guess, true in zip(predicted.tolist(), unseen.seconds.tolist(), strict=True)
    ]
    assert 0 < sum(near) < 20
    assert row == {
        "kind": "norm",
        "subset": "all",
        "protocol": "fitted on every other size",
        "points": 20,
        "mean_pct": three(100 * np.abs(error).mean()),
        "median_pct": three(100 * np.median(np.abs(error))),
        "p95_pct": three(100 * np.quantile(np.abs(error), 0.95)),
        "bias_pct": three(100 * error.mean()),
        "within_10pct_or_1us_pct": three(100 * sum(near) / 20),
    }
    assert entries["elementwise"] == {
        "base": {"flops_per_s": 2e14, "bytes_per_s": 1e12, "fixed_s": 3e-6, "overlap": 1.5},
        "log2_bytes": [],
        "ln_factor": [],
        "low": -0.5,
        "high": 0.5,
        "source": "not measured: bandwidth and fixed time of the GEMMs",
    }
    low, high = ends(np.log(unseen.seconds / predicted))
    assert (entries["norm"]["low"], entries["norm"]["high"]) == pytest.approx((low, high), rel=1e-2)
    assert entries["norm"]["source"] == "measured"


def test_kernels_that_move_data_are_read_by_class(tmp_path: Path) -> None:
    path = tmp_path / "streams.csv"
    assert read_streams(tmp_path) == ()
    path.write_text("kind,bytes,latency_us\nnorm,64,2\nrope,1,4\nnorm,4096,8\n")
    norm, rope = read_streams(tmp_path)
    assert (norm.kind, norm.moved.tolist(), norm.seconds.tolist()) == ("norm", [64, 4096], pytest.approx([2e-6, 8e-6]))
    assert (rope.kind, rope.moved.tolist(), rope.seconds.tolist()) == ("rope", [1], pytest.approx([4e-6]))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("norm,0,1", "bytes in row 2: got '0'"),
        (f"norm,{(1 << 58) + (1 << 10)},1", "bytes in row 2"),
        ("norm,8,0", "latency_us in row 2: got '0'"),
        ("norm,8,1e10", "latency_us in row 2: got '1e10'"),
        ("gemm,8,1", "kind in row 2: got 'gemm'"),
    ],
)
def test_a_kernel_that_cannot_be_is_named_by_its_cell(row: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "streams.csv").write_text(f"kind,bytes,latency_us\nnorm,{1 << 58},1e9\n{row}\n")
    with pytest.raises(RecordError, match=told):
        read_streams(tmp_path)


@pytest.mark.parametrize(("points", "shapes"), [(19, 8), (20, 7), (0, 0)])
def test_a_class_of_too_few_points_or_shapes_is_refused(points: int, shapes: int) -> None:
    """Of a weight's sizes there have to be 8, in 20 rows; rows of one size and several lengths are one shape."""
    manifest = Manifest(hardware="l4", dtype="bf16", runtimes=["graph"], provenance=[])
    enough = gemms_in(20, 8)
    for tables in ({"gemm": gemms_in(points, shapes)}, {"gemm": enough, "decode": few_steps()}):
        kind = list(tables)[-1]
        said = f"{points} in {shapes} shapes" if kind == "gemm" else "3 in 1 shapes"
        with pytest.raises(
            FitError, match=rf"too few {kind} points .*: got '{said}'; allowed: at least 20 points in 8"
        ):
            fit_calibration(MeasuredOps(manifest=manifest, tables=tables), load_hardware("l4"))  # type: ignore[arg-type]
    _require("gemm", enough)


def gemms_in(points: int, shapes: int) -> OpTable:
    """Products of so many weights in turn, each row with another length."""
    sizes = [(row + 1, 64 * (row % shapes + 1), 64) for row in range(points)]
    return OpTable(kind="gemm", shape=np.array(sizes, dtype=float).reshape(-1, 3).T, seconds=np.full(points, 1e-5))


def few_steps() -> OpTable:
    """Decode steps of one attention shape."""
    sizes = [(1, 1, length, 8, 8, 64) for length in (10, 20, 30)]
    return OpTable(kind="decode", shape=np.array(sizes, dtype=float).T, seconds=np.full(3, 1e-5))
