"""Fitting: synthetic devices are recovered, held-out points are held out, intervals cover, files come out right."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from measured_ops import measured
from schemas import checker

from costmodel.cli import run
from costmodel.files.table import Table
from costmodel.forward.workload import Runtime
from costmodel.hardware.profile import load_hardware
from costmodel.timing.calibration.base import Base
from costmodel.timing.calibration.file import MAX_FILE_BYTES
from costmodel.timing.calibration.load import load_calibration, time_model
from costmodel.timing.calibration.shaped import FormKind, nominal_work
from costmodel.units import DType
from studies.calibrations.device_fit import related
from validate.calibration import few as fit_few
from validate.calibration import many as fit_many
from validate.calibration import process as fit_process_module
from validate.calibration import shaped as fit_shaped
from validate.calibration import tiles as fit_tiles_module
from validate.calibration.base import fit_base
from validate.calibration.errors import coverage_pct, speedups
from validate.calibration.file import calibration_bytes
from validate.calibration.fit import device_of, fit_calibration
from validate.calibration.folder import Manifest, MeasuredOps, read_ops, write_ops
from validate.calibration.net import Pairs, Training, train, train_several
from validate.calibration.process import fit_process
from validate.calibration.shaped import fit_once, folds_of, summary
from validate.calibration.spread import fit_spread
from validate.calibration.streams import StreamTable, fit_stream, held_out_halves
from validate.calibration.tables import OpTable, read_tables, tables_of
from validate.calibration.tiles import fit_tiles
from validate.cli import cli
from validate.errors import FitError, RecordError

A100 = load_hardware("a100-sxm-80gb")
TRUE = Base(flops_per_s=2.2e14, bytes_per_s=1.5e12, fixed_s=4e-6, overlap=1.8)
QUICK = Training(hidden=(24, 16), epochs=40, batch=128, rate=1e-2)


def gemm_table(count: int, noise: float = 0.0, seed: int = 0, base: Base = TRUE, bump: float = 0.0) -> OpTable:
    """Times of a device with known coefficients; `bump` adds a smooth factor of that size that depends on k / n."""
    rng = np.random.default_rng(seed)
    shape = np.round(2 ** rng.uniform([0, 5, 5], [13, 14, 14], (count, 3))).T
    shape[1:] = np.maximum(np.round(shape[1:] / 32) * 32, 32)
    work, moved = nominal_work("gemm", shape, 2)
    seconds = base.busy(work / base.flops_per_s, moved / base.bytes_per_s) + base.fixed_s
    seconds *= np.exp(bump * np.tanh(np.log2(shape[2] / shape[1]) / 3) + noise * rng.standard_normal(count))
    return OpTable(kind="gemm", shape=shape, seconds=seconds)


def attention_table(count: int, seed: int = 0) -> OpTable:
    rng = np.random.default_rng(seed)
    heads = 2 ** rng.integers(2, 6, count)
    kv_heads = np.maximum(heads // 2 ** rng.integers(0, 4, count), 1)
    batch, length = 2 ** rng.integers(0, 5, count), np.round(2 ** rng.uniform(4, 12, count))
    shape = np.stack([batch, np.ones(count), length, heads, kv_heads, rng.choice([64, 128], count)]).astype(np.float64)
    work, moved = nominal_work("decode", shape, 2)
    return OpTable(kind="decode", shape=shape, seconds=moved / 1.2e12 + work / 5e13 + 1e-5)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits of a second: what is taught, not how well."""
    monkeypatch.setattr(fit_few, "TAUGHT", 300)
    monkeypatch.setattr(fit_few, "TEACHERS", 1)
    monkeypatch.setattr(fit_few, "_TEACHER", dataclasses.replace(fit_few._TEACHER, epochs=20))
    monkeypatch.setattr(fit_few, "_STUDENT", dataclasses.replace(QUICK, epochs=30))
    monkeypatch.setattr(fit_shaped, "PAIRS", 500)
    monkeypatch.setattr(fit_tiles_module, "STEPS", 5)
    monkeypatch.setattr(fit_process_module, "STEPS", 5)


def test_known_coefficients_are_recovered() -> None:
    table = gemm_table(400, noise=0.03)
    start = Base(flops_per_s=3e14, bytes_per_s=2e12, fixed_s=1e-6, overlap=1.2)
    found = fit_base(*table.work(2), table.seconds, start)
    for name in Base.__slots__:
        assert getattr(found, name) == pytest.approx(getattr(TRUE, name), rel=0.1 if name == "overlap" else 0.04)


def test_a_few_wild_points_do_not_move_the_base() -> None:
    table = gemm_table(400)
    seconds = table.seconds.copy()
    seconds[::20] *= 5
    found = fit_base(*table.work(2), seconds, Base(flops_per_s=3e14, bytes_per_s=2e12, fixed_s=1e-6, overlap=1.2))
    assert found.flops_per_s == pytest.approx(TRUE.flops_per_s, rel=0.05)
    assert found.fixed_s == pytest.approx(TRUE.fixed_s, rel=0.05)


@pytest.mark.slow
def test_what_the_base_cannot_say_is_learned(quick: None) -> None:
    table = gemm_table(3200, noise=0.02, bump=0.3)
    device = device_of(A100, DType.BF16, "gemm")
    base = fit_base(*table.work(2), table.seconds, device.start)
    alone = base.busy(*(w / r for w, r in zip(table.work(2), (base.flops_per_s, base.bytes_per_s), strict=True)))
    without = summary(alone + base.fixed_s, table)["mean_pct"]
    fold = folds_of(table.groups(), 4, 0)
    form, _ = fit_once(table.take(fold != 0), device, QUICK)
    rest = table.take(fold == 0)
    found = summary(form.times(rest.shape, *rest.work(2)).latency_s, rest)
    assert without > 10
    assert found["mean_pct"] < 4
    assert abs(found["bias_pct"]) < 1.5


@pytest.mark.slow
def test_teachers_lie_nearer_to_the_truth_between_points(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where points scatter: the taught network against one trained on the points alone, on shapes that neither saw."""
    monkeypatch.setattr(fit_many, "TAUGHT", 2000)
    table, rest = gemm_table(400, noise=0.2), gemm_table(2000, seed=5)
    form, _ = fit_once(table, device_of(A100, DType.BF16, "gemm"), QUICK)
    base, seen = form.base_seconds(table.shape), form.base_seconds(rest.shape)
    settings = Training(hidden=(64, 64), epochs=200, batch=50, rate=1e-2, order=0.0)
    target = np.log(table.seconds / base)
    alone = train(form.features(table.shape).T, target, settings)
    taught = fit_many.train_from_many(form, table, target, settings, None)
    truth = np.log(rest.seconds / seen)
    errors = [np.abs(net(form.features(rest.shape).T) - truth).mean() for net in (taught, alone)]
    assert errors[0] < 0.9 * errors[1]


def test_shapes_between_are_new_and_within_the_range() -> None:
    table = gemm_table(400)
    shape = fit_many.shapes_between(table, 1000, seed=0)
    assert (shape.min(axis=1) >= table.shape.min(axis=1)).all()
    assert (shape.max(axis=1) <= table.shape[1:].max()).all()
    assert not (shape[1:] % 16).any()
    known = set(map(tuple, table.shape.T))
    assert sum(tuple(each) in known for each in shape.T) < 100
    measured = np.isin(shape[1], table.shape[1:])
    assert 0.5 < measured.mean() < 1


def test_growing_work_is_kept_from_getting_cheaper() -> None:
    """Where points scatter, the penalty keeps order between shapes of which one is the other grown."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (300, 1))
    y = 0.3 * x[:, 0] + 0.2 * np.sin(9 * x[:, 0])
    smaller, larger = np.sort(rng.uniform(0, 1, (600, 2)), axis=1).T[:, :, None]
    pairs = Pairs(smaller=smaller, larger=larger, gap=np.zeros(600))
    grid = np.linspace(0, 1, 200)[:, None]
    settings = Training(hidden=(32, 32), epochs=70, batch=50, rate=1e-2, order=0.0)
    free = train(x, y, settings)
    ordered = train(x, y, dataclasses.replace(settings, order=10.0), pairs)
    assert np.diff(free(grid)).min() < -1e-3
    assert np.diff(np.maximum.accumulate(ordered(grid)) - ordered(grid)).max() < 0.02
    assert (np.maximum.accumulate(ordered(grid)) - ordered(grid)).max() < 0.03


def test_training_is_reproducible_and_ignores_what_never_varied() -> None:
    rng = np.random.default_rng(0)
    x = np.c_[rng.standard_normal((200, 2)), np.full(200, 7.0)]
    settings = Training(hidden=(8,), epochs=5, batch=50, order=0.0)
    first, second = (train(x, x[:, 0], settings) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first.weights, second.weights, strict=True))
    assert (first.weights[0][2] == 0).all()
    moved = x.copy()
    moved[:, 2] = 1e3
    assert first(moved) == pytest.approx(first(x))


def test_groups_stay_on_one_side() -> None:
    table = gemm_table(500)
    doubled = OpTable(
        kind="gemm",
        shape=np.concatenate([table.shape, table.shape + np.array([[1], [0], [0]])], axis=1),
        seconds=np.tile(table.seconds, 2),
    )
    fold = folds_of(doubled.groups(), 5, 3)
    assert (fold[:500] == fold[500:]).all()
    assert np.bincount(fold, minlength=5).min() > 100
    decode = attention_table(100)
    groups = decode.groups()
    for group in np.unique(groups):
        assert len(np.unique(decode.shape[3:, groups == group], axis=1).T) == 1


def test_intervals_cover_nine_in_ten() -> None:
    table = gemm_table(4000, seed=1)
    noise = np.random.default_rng(2).standard_normal(4000) * np.where(table.shape[0] > 100, 0.02, 0.1)
    measured = dataclasses.replace(table, seconds=table.seconds * np.exp(noise))
    covered = coverage_pct(table.seconds, table.seconds, measured, seed=0)
    assert 88 <= covered <= 92
    spread = fit_spread(table.seconds, table.shape[0], noise)
    few, many = (spread.quantiles(np.array([1e-5]), np.array([float(m)]), np.array([False])) for m in (8, 4000))
    assert few[1][0] > 2 * many[1][0]
    wide = spread.quantiles(np.array([1e-5]), np.array([8.0]), np.array([True]))
    assert wide[1][0] == pytest.approx(2 * few[1][0])


def test_intervals_of_few_points_cover_nine_in_ten_too() -> None:
    covered = []
    for seed in range(10):
        table = gemm_table(120, seed=seed)
        noise = 0.1 * np.random.default_rng(100 + seed).standard_normal(120)
        measured = dataclasses.replace(table, seconds=table.seconds * np.exp(noise))
        covered.append(coverage_pct(table.seconds, table.seconds, measured, seed=seed))
    assert np.mean(covered) == pytest.approx(90, abs=2)


def test_tiles_and_process_learn_what_they_should() -> None:
    table = gemm_table(120, noise=0.02)
    tiles = fit_tiles(
        table.shape, table.seconds, flops_per_s=3e14, bytes_per_s=2e12, cores=108, cache_bytes=4e7, element_bytes=2
    )
    fresh = gemm_table(300, seed=9)
    assert summary(tiles.seconds(fresh.shape), fresh)["mean_pct"] < 12
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (100, 3))
    y = np.sin(3 * x[:, 0]) + 0.05 * rng.standard_normal(100)
    process = fit_process(x, y)
    unseen = rng.uniform(-1, 1, (500, 3))
    assert np.abs(process(unseen) - np.sin(3 * unseen[:, 0])).mean() < 0.15


def test_the_process_is_the_one_of_the_textbook() -> None:
    """Its mean by hand from the kernel that was found: k(x, X) (K + noise)^-1 y."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((60, 2)), rng.standard_normal(60)
    process = fit_process(x, y)
    amplitude, *lengths, noise = np.exp(process.regressor.kernel_.theta)
    clipped = np.clip(y, *np.quantile(y, (0.01, 0.99))) - process.mean

    def kernel(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        apart = ((a - process.centre) / process.scale)[:, None] - ((b - process.centre) / process.scale)[None]
        return np.asarray(amplitude * np.exp(-np.linalg.norm(apart / lengths, axis=2)))

    unseen = rng.standard_normal((7, 2))
    expected = kernel(unseen, x) @ np.linalg.solve(kernel(x, x) + (noise + 1e-8) * np.eye(60), clipped) + process.mean
    assert process(unseen) == pytest.approx(expected, rel=1e-6)


def test_networks_trained_side_by_side_are_those_trained_alone() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((120, 3))
    pairs = Pairs(smaller=x[:50], larger=x[50:100], gap=np.zeros(50))
    settings = Training(hidden=(8, 8), epochs=4, batch=40, pairs=16)
    together = train_several(x, x[:, 0], settings, [3, 5], pairs)
    for seed, net in zip((3, 5), together, strict=True):
        alone = train(x, x[:, 0], dataclasses.replace(settings, seed=seed), pairs)
        assert net(x) == pytest.approx(alone(x), abs=1e-6)
    assert np.abs(together[0](x) - together[1](x)).max() > 0.01


def test_streams_are_recovered_and_carried_over() -> None:
    moved = 2 ** np.linspace(12, 28, 60)
    seconds = 3e-6 + moved / 1.4e12
    table = StreamTable(kind="elementwise", moved=moved, seconds=seconds)
    rates = {"flops_per_s": 1e14, "bytes_per_s": 2e12}
    unseen, predicted = held_out_halves(table, **rates)
    assert np.abs(predicted / unseen.seconds - 1).max() < 0.05
    form = fit_stream(table, **rates)
    assert (np.diff(table.predict(form)) >= 0).all()
    other = related(form, 2.0, 2.0)
    ratio = StreamTable(kind="x", moved=moved[-1:], seconds=seconds[-1:]).predict(other) / seconds[-1]
    assert ratio == pytest.approx(0.5, rel=0.15)


def test_speedups_of_pairs() -> None:
    """By hand: dense 10 against 2 + 3 at rank 32, 2 + 3 + 1 more predicted."""
    shape = np.array([[4, 64, 64], [4, 32, 64], [4, 64, 32]], dtype=np.float64).T
    table = OpTable(kind="gemm", shape=shape, seconds=np.array([10.0, 2.0, 3.0]))
    ours, true = speedups(np.array([10.0, 2.0, 4.0]), table)
    assert true.tolist() == [2.0]
    assert ours == pytest.approx([10 / 6])


def test_a_whole_calibration(quick: None, tmp_path: Path) -> None:
    tables: dict[FormKind, OpTable] = {"gemm": gemm_table(90, noise=0.03), "decode": attention_table(50)}
    streams = [
        StreamTable(
            kind="elementwise", moved=2 ** np.linspace(12, 28, 20), seconds=3e-6 + 2 ** np.linspace(12, 28, 20) / 1.4e12
        )
    ]
    shown: list[tuple[str, float, float]] = []
    fit = fit_calibration(measured(tables, streams), A100, show=lambda *each: shown.append(each))
    assert [done / total for _, done, total in shown] == pytest.approx(np.linspace(0, 1, 13))
    path = tmp_path / "made-up.json"
    path.write_bytes(fit.to_bytes())
    assert path.stat().st_size < MAX_FILE_BYTES
    found = load_calibration(path)
    assert found.hardware == "a100-sxm-80gb"
    assert set(found.shaped) == {"gemm", "decode"}
    assert {row["kind"] for row in found.errors} == {"gemm", "decode", "elementwise"}
    form, applied = fit.forms["gemm"].form, found.shaped["gemm"]
    table = tables["gemm"]
    ours, read = (each.times(table.shape, *table.work(2)) for each in (form, applied))
    assert read.latency_s == pytest.approx(ours.latency_s, rel=0.01)
    assert summary(read.latency_s, table)["mean_pct"] < 8
    assert time_model(A100, DType.BF16, Runtime.GRAPH, found).level == "probes"


def test_what_cannot_be_fitted_is_refused(quick: None) -> None:
    with pytest.raises(FitError, match=r"the calibration is too large: got 3\d{5}; allowed: up to 300000 bytes"):
        calibration_bytes({"schema": 1, "forms": {"gemm": [0.123456] * 34_000}})
    with pytest.raises(FitError, match="no GEMMs to fit"):
        fit_calibration(measured({}), A100)
    with pytest.raises(FitError, match="too few gemm points to fit and to hold some out"):
        fit_calibration(measured({"gemm": gemm_table(12)}), A100)


def test_tables_of_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("m,n,k,latency_us\n1,32,64,3.5\n2,32,64,4\n")
    (tmp_path / "b.csv").write_text(
        "batch_size,q_len,past_len,num_heads,num_key_value_heads,head_dim,latency_us\n1,1,15,8,2,64,9\n2,16,0,8,8,64,9\n"
    )
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    found = read_tables(tmp_path)
    assert {kind: len(table) for kind, table in found.items()} == {"gemm": 2, "prefill": 1, "decode": 1}
    assert found["decode"].shape[:, 0].tolist() == [1, 1, 16, 8, 2, 64]
    assert found["gemm"].seconds.tolist() == pytest.approx([3.5e-6, 4e-6])
    (tmp_path / "c.csv").write_text("m,n,k,latency_us\n1,32,64,-1\n")
    with pytest.raises(RecordError, match="latency_us in row 1: got '-1'; allowed: a number from"):
        read_tables(tmp_path / "c.csv")
    (tmp_path / "c.csv").write_text("m,n,k,latency_us\n1,32,x,1\n")
    with pytest.raises(RecordError, match="k in row 1: got 'x'"):
        read_tables(tmp_path / "c.csv")
    with pytest.raises(RecordError, match="no times of operations found"):
        read_tables(tmp_path / "notes.csv")
    with pytest.raises(RecordError, match="cannot read as CSV"):
        read_tables(tmp_path / "none.csv")
    assert tables_of(Table(file="here", columns={"x": [1]}, error=RecordError)) == []


def test_measured_operations_survive_a_folder(tmp_path: Path) -> None:
    prefill = OpTable(kind="prefill", shape=np.array([[2, 16, 48, 8, 8, 64]], dtype=float).T, seconds=np.array([9e-6]))
    manifest = Manifest(
        hardware="l4", dtype="bf16", runtimes=["graph"], provenance=[{"source": "x"}], host_launch_s=5e-6
    )
    stream = StreamTable(kind="norm", moved=np.array([4096.0, 8192.0]), seconds=np.array([2e-6, 3e-6]))
    tables: dict[Any, OpTable] = {"gemm": gemm_table(20), "prefill": prefill, "decode": attention_table(10)}
    write_ops(tmp_path, MeasuredOps(manifest=manifest, tables=tables, streams=[stream]))
    found = read_ops(tmp_path)
    assert found.manifest == manifest
    for kind, table in tables.items():
        assert (found.tables[kind].shape == table.shape).all()
        assert found.tables[kind].seconds == pytest.approx(table.seconds, rel=1e-5)
    assert found.streams[0].seconds == pytest.approx(stream.seconds)
    for content, message in ((b"{}", "schema is missing"), (b"no", "list of measured operations is not JSON")):
        (tmp_path / "tables.json").write_bytes(content)
        with pytest.raises(RecordError, match=message):
            read_ops(tmp_path)
    with pytest.raises(RecordError, match="cannot read list of measured operations"):
        read_ops(tmp_path / "none")


def test_fit_from_the_command_line(
    quick: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for training in ("_TEACHER", "_STUDENT"):
        monkeypatch.setattr(fit_few, training, dataclasses.replace(QUICK, epochs=3))
    write_ops(tmp_path / "times", measured({"gemm": gemm_table(60)}))
    out = tmp_path / "made-up.json"
    assert run(cli, ["fit", str(tmp_path / "times"), "--out", str(out), "--also", "fp16", "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    checker("fit").validate(shown)
    assert shown["hardware"] == "a100-sxm-80gb"
    assert load_calibration(out).dtypes == (DType.BF16, DType.FP16)
    assert len(shown["errors"]) == len(load_calibration(out).errors)
    assert run(cli, ["fit", str(tmp_path / "times" / "gemm.csv"), "--out", str(out)]) == 2
    assert "--hw is missing" in capsys.readouterr().err
    assert run(cli, ["fit", str(tmp_path / "none"), "--hw", "l4", "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
