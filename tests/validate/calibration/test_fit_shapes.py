"""Shapes of measured operations beside their formulas: tiles and waves, grown pairs, groups, bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from costmodel.files.table import Table
from costmodel.hardware.profile import load_hardware
from costmodel.timing.calibration.shaped import FormKind
from tests.fit_tables import form_of, table_of
from validate.calibration.fit import _multiple, _require, fit_calibration
from validate.calibration.folder import Manifest, MeasuredOps
from validate.calibration.grown import grown_pairs, grown_shapes
from validate.calibration.tables import OpTable, tables_of
from validate.calibration.tiles import SPLITS, TILES, TileModel
from validate.errors import FitError, RecordError


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


@pytest.mark.parametrize(
    ("widths", "multiple"), [([128, 192], 64), ([64, 96], 32), ([48, 80], 16), ([24, 8], 8), ([6, 9], 1)]
)
def test_widths_have_a_largest_power_of_two_in_common(widths: list[float], multiple: int) -> None:
    shape = np.array([[1, *widths], [3, *widths[::-1]]], dtype=np.float64).T
    assert _multiple(OpTable(kind="gemm", shape=shape, seconds=np.ones(2))) == multiple


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


def test_what_is_too_large_is_named_by_its_row() -> None:
    columns = {"m": [1, 2**20], "n": [32, 2**20], "k": [32, 2**20], "latency_us": [1.0, 1.0]}
    with pytest.raises(RecordError, match="m in row 2: got"):
        tables_of(Table(file="here", columns=columns, error=RecordError))
    names = ("batch_size", "q_len", "past_len", "num_heads", "num_key_value_heads", "head_dim", "latency_us")
    rows = [[1, 1, 15, 8, 2, 64, 9.0], [1, 1, 15, 8, 3, 64, 9.0]]
    with pytest.raises(RecordError, match="num_key_value_heads in row 2: got 3; allowed: a divisor"):
        tables_of(Table(file="here", columns=dict(zip(names, zip(*rows, strict=True), strict=True)), error=RecordError))


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
