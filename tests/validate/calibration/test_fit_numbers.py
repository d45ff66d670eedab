"""Fits of a few steps to made-up times give the numbers that they gave: the same tables, the same file.

What teaches, in which order and how much is drawn shows in no error of a fit that is long enough; here it does.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from costmodel.hardware.profile import load_hardware
from costmodel.timing.calibration.shaped import FormKind, nominal_work
from costmodel.units import DType
from validate.calibration import few, many, process, shaped, tiles
from validate.calibration.fit import device_of
from validate.calibration.many import shapes_between
from validate.calibration.net import Training
from validate.calibration.process import fit_process
from validate.calibration.shaped import cross_predict, fit_once
from validate.calibration.tables import Floats, OpTable
from validate.calibration.tiles import fit_tiles

A100 = load_hardware("a100-sxm-80gb")
SMALL = Training(hidden=(8, 4), epochs=6, batch=32, rate=2e-2, pairs=16)
CLOSE = 2e-3
"""Relative: what another order of a sum may change, many times over."""


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps of each search."""
    for module, name, value in (
        (few, "TAUGHT", 60),
        (few, "TEACHERS", 2),
        (few, "_TEACHER", dataclasses.replace(few._TEACHER, hidden=(8, 8), epochs=6, batch=32)),
        (few, "_STUDENT", dataclasses.replace(few._STUDENT, hidden=(8, 8), epochs=6, batch=32)),
        (many, "TAUGHT", 60),
        (many, "TEACHERS", 2),
        (shaped, "PAIRS", 200),
        (tiles, "STEPS", 3),
        (process, "STEPS", 3),
    ):
        monkeypatch.setattr(module, name, value)


def table_of(kind: FormKind, count: int = 60) -> OpTable:
    """Times of a device at 40 % of its peaks, with a factor that depends on the shape."""
    rng = np.random.default_rng(7)
    if kind == "gemm":
        shape = np.round(2 ** rng.uniform([0, 6, 6], [12, 13, 13], (count, 3))).T
        shape[1:] = np.round(shape[1:] / 32) * 32
    else:
        heads = 2.0 ** rng.integers(3, 6, count)
        length = np.round(2 ** rng.uniform(5, 11, count))
        queries = length if kind == "prefill" else np.ones(count)
        past = rng.integers(0, 2, count) * 64.0
        batch, shared = 2.0 ** rng.integers(0, 4, count), 2.0 ** rng.integers(0, 3, count)
        shape = np.stack([batch, queries, length + past, heads, heads / shared, np.full(count, 128.0)])
    work, moved = nominal_work(kind, shape, 2)
    bump = 1 + 0.3 * np.sin(np.log2(shape[0]) + np.log2(shape[2]))
    return OpTable(kind=kind, shape=shape, seconds=(work / 1.2e14 + moved / 8e11 + 5e-6) * bump)


def fitted(kind: FormKind, settings: Training = SMALL) -> Floats:
    """Microseconds of five shapes by a form that was fitted to the table."""
    table, device = table_of(kind), device_of(A100, DType.BF16, kind)
    form, net = fit_once(table, device, settings)
    shape = table.shape[:, :5] * np.array([[2.0], *[[1.0]] * (len(table.shape) - 1)])
    found = form.times(shape, *nominal_work(kind, shape, 2)).latency_s
    corrected = form.base_seconds(shape) * np.exp(
        net(form.features(np.clip(shape, form.low[:, None], form.high[:, None])).T)
    )
    assert found == pytest.approx(corrected, rel=1e-5)
    return np.asarray(1e6 * found)


@pytest.mark.parametrize(
    ("kind", "micros"),
    [
        ("gemm", [153.79, 8.0272, 33.661, 5.1036, 5.9185]),
        ("decode", [23.115, 8.383, 10.455, 8.8789, 10.372]),
        ("prefill", [195.19, 11.297, 32.375, 30.636, 76.203]),
    ],
)
def test_from_a_small_table_processes_tiles_and_networks_teach_one(kind: FormKind, micros: list[float]) -> None:
    assert fitted(kind) == pytest.approx(micros, rel=CLOSE)


def test_from_a_large_table_networks_of_several_seeds_teach_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without pairs that it must keep in order; of attention one network learns alone."""
    monkeypatch.setattr(shaped, "FEW", 0)
    assert fitted("gemm") == pytest.approx([162.94, 8.0691, 31.827, 5.5985, 5.96], rel=CLOSE)
    assert fitted("decode") == pytest.approx([21.717, 8.5909, 10.462, 8.7789, 12.019], rel=CLOSE)
    free = fitted("gemm", dataclasses.replace(SMALL, order=0.0))
    assert free == pytest.approx([147.21, 8.6673, 31.167, 6.054, 6.2485], rel=CLOSE)


def test_rows_are_predicted_by_the_other_folds() -> None:
    table = table_of("gemm")
    found = cross_predict(table, device_of(A100, DType.BF16, "gemm"), SMALL, folds=2, seed=1)
    assert 1e6 * found[:6] == pytest.approx([87.841, 7.571, 28.152, 4.5665, 6.3114, 123.08], rel=CLOSE)


def test_warm_rows_are_learned_from_as_they_would_be_cold() -> None:
    """The lightest weight of the table itself says from where on that was seen."""
    table, device = table_of("gemm"), device_of(A100, DType.BF16, "gemm")
    warm = OpTable(kind="gemm", shape=table.shape[:, ::3], seconds=table.seconds[::3] / 2)
    form, _ = fit_once(table, device, SMALL, warm)
    assert form.cold_bytes == (2 * table.shape[1] * table.shape[2]).min() == 28672
    shape = table.shape[:, :4]
    found = form.times(shape, *nominal_work("gemm", shape, 2)).latency_s
    assert 1e6 * found == pytest.approx([70.862, 6.3941, 32.366, 4.1343], rel=CLOSE)


def test_tiles_after_three_steps() -> None:
    table = table_of("gemm")
    found = fit_tiles(
        table.shape, table.seconds, flops_per_s=3e14, bytes_per_s=2e12, cores=108, cache_bytes=4e7, element_bytes=2
    )
    others = [-0.58865, 1.3073, -0.82946, -3.0053, -0.92781, -0.46207, -2.0866, 0.18852, 0.044732, -0.69887]
    shares = [-0.93046, -2.3598, -1.8428, -1.3839, -0.69315, -2.2592, -2.9826, -2.3642]
    assert found.logs == pytest.approx([*others, *shares], rel=CLOSE, abs=CLOSE)
    assert (found.flops_per_s, found.bytes_per_s, found.cores) == (3e14, 2e12, 108)
    assert (found.cache_bytes, found.element_bytes) == (4e7, 2)


def test_a_process_after_three_steps() -> None:
    table = table_of("gemm")
    features = np.log2(table.shape).T
    found = fit_process(features, np.log(table.seconds))
    kernel = [0.92982, 6.0051, 7.5801, 6.3121, 0.0047839]
    assert np.exp(found.regressor.kernel_.theta) == pytest.approx(kernel, rel=CLOSE)
    assert found(features[:4] * 1.1) == pytest.approx([-8.7171, -11.175, -10.331, -11.886], rel=CLOSE)


def test_shapes_that_are_drawn() -> None:
    table = table_of("gemm")
    assert shapes_between(table, 6, 3).tolist() == [
        [36.0, 40.0, 485.0, 76.0, 13.0, 177.0],
        [6480.0, 4960.0, 2176.0, 1840.0, 800.0, 4416.0],
        [64.0, 96.0, 1552.0, 5632.0, 176.0, 1344.0],
    ]
