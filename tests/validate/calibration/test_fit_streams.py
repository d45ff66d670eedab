"""What is fitted to kernels that move data: base, correction, interval, errors, and the file they are read from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from costmodel.hardware.profile import load_hardware
from costmodel.timing.calibration.shaped import StreamForm
from studies.calibrations.device_fit import related
from tests.fit_tables import BASE, table_of
from validate.calibration.fit import fit_streams
from validate.calibration.folder import Manifest, MeasuredOps, read_ops, read_streams, write_ops
from validate.calibration.spread import ends
from validate.calibration.streams import StreamTable, fit_stream, held_out_halves, stream_to_json, with_interval
from validate.errors import RecordError

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
