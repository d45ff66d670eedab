"""Devices that nobody measured: what their generation says, by hand and beside what was measured elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from costmodel.errors import CalibrationError
from costmodel.forward.workload import Runtime
from costmodel.hardware.file import ARCHITECTURES
from costmodel.hardware.profile import HardwareProfile, builtin_hardware, load_hardware, profile_folder
from costmodel.timing.calibration.load import find_calibration, shipped_calibration, time_model
from costmodel.timing.columns import OpColumns, OpTimings
from costmodel.timing.datasheet import DatasheetRoofline
from costmodel.timing.efficiencies import generation_of, generations, read_generations
from costmodel.timing.generation import GenerationRoofline, SiblingTimes
from costmodel.units import DType

BF16, FP16, FP32 = DType.BF16, DType.FP16, DType.FP32


def gemms(*shapes: tuple[int, int, int]) -> OpColumns:
    m, n, k = np.array(shapes, dtype=np.int64).T
    zero = np.zeros_like(m)
    moved = 2 * (n * k + m * n + m * k)
    return OpColumns(
        kind="gemm", m=m, n=n, k=k, executed_flops=2 * m * n * k, vector_flops=zero, hbm_bytes=moved, kernels=zero + 1
    )


def of(hardware: HardwareProfile, dtype: DType) -> GenerationRoofline:
    return GenerationRoofline.of(hardware, dtype, 0.0)


def auto(hardware: HardwareProfile, dtype: DType, ops: OpColumns) -> OpTimings:
    runtime = Runtime.GRAPH if hardware.asynchronous else Runtime.EAGER
    return time_model(hardware, dtype, runtime, find_calibration("auto", hardware, dtype, runtime)).times(ops)


def test_every_architecture_and_every_kind_has_numbers() -> None:
    assert {*generations()} == {*ARCHITECTURES, "gpu", "cpu"}
    for generation in generations().values():
        for name in generation.siblings:
            assert load_hardware(name).architecture == generation.name


@pytest.mark.parametrize("name", builtin_hardware())
def test_no_shipped_device_is_priced_at_its_peaks_unless_asked(name: str) -> None:
    """In every type that it has a rate for, 'auto' is slower than the ideal roofline wherever work is large."""
    hardware = load_hardware(name)
    runtime = Runtime.GRAPH if hardware.asynchronous else Runtime.EAGER
    for dtype in (FP32, DType.TF32, FP16, BF16):
        if dtype in hardware.matrix_flops_per_s:
            ops = gemms((1, 8192, 8192), (8192, 8192, 8192))
            ideal = DatasheetRoofline.of(hardware, dtype, runtime).times(ops).latency_s
            assert (auto(hardware, dtype, ops).latency_s > 1.05 * ideal).all()


def test_a_large_product_runs_at_the_generation_s_share_of_the_peak() -> None:
    """V100, fp16: 0.53 of 125 TFLOP/s, and a kernel's 4.5 us; traffic hides behind it but for its p-norm."""
    times = of(load_hardware("v100-sxm2-16gb"), FP16).times(gemms((8192, 8192, 8192)))
    compute, memory = 2 * 8192**3 / (0.53 * 125e12), 3 * 2 * 8192**2 / (0.78 * 900e9)
    assert times.latency_s == pytest.approx([(compute**1.8 + memory**1.8) ** (1 / 1.8) + 4.5e-6])


def test_products_in_fp8_run_at_their_own_rate_and_all_else_at_that_of_16_bits() -> None:
    l40s = load_hardware("l40s")
    model, ops = of(l40s, DType.FP8), gemms((4096, 8192, 8192))
    half, eighth = (model.times(replace(ops, fp8=np.array([fp8]))) for fp8 in (False, True))
    assert half.latency_s.tolist() == of(l40s, BF16).times(ops).latency_s.tolist()
    assert eighth.compute_s == pytest.approx([2 * 4096 * 8192**2 / (0.65 * 733e12 * 350 / (0.64 * 733))])


def test_a_card_without_the_power_for_its_peak_runs_slower() -> None:
    """72 W on an L4 hold 0.46 of what 1.29 W per TFLOP/s need; large products slow down, streams do not."""
    l4 = load_hardware("l4")
    fed = replace(l4, peak_power_w=1000.0)
    ops = gemms((8192, 8192, 8192), (1, 8192, 8192))
    slow, fast = (of(hardware, BF16).times(ops) for hardware in (l4, fed))
    assert slow.compute_s[0] / fast.compute_s[0] == pytest.approx(1.29 * 121 / 72)
    assert slow.memory_s.tolist() == fast.memory_s.tolist()
    assert of(replace(l4, peak_power_w=None), BF16).times(ops).latency_s.tolist() == fast.latency_s.tolist()


@pytest.mark.parametrize(
    ("name", "dtype", "unaligned"), [("l40s", BF16, 2.36), ("l40s", FP32, 1), ("epyc-9654", FP32, 1)]
)
def test_ranks_that_fill_no_tile_cost_more_on_tensor_cores_alone(name: str, dtype: DType, unaligned: float) -> None:
    """107 is no multiple of 8, 104 one of 8 and 112 one of 16."""
    model = of(load_hardware(name), dtype)
    ops = gemms((4096, 4096, 107), (4096, 4096, 104), (4096, 4096, 112))
    each = model.times(ops).compute_s / ops.k
    assert each[0] / each[2] == pytest.approx(unaligned)
    assert each[1] / each[2] == pytest.approx(1.18 if unaligned > 1 else 1)


def test_more_work_takes_no_less_time() -> None:
    """In m at any width, and in all dimensions among widths of one alignment."""
    rng = np.random.default_rng(3)
    for name in ("l40s", "t4", "epyc-7763"):
        model = of(load_hardware(name), FP32 if name == "epyc-7763" else FP16)
        small = rng.integers(1, 5000, (500, 3))
        longer = small + rng.integers(0, 500, (500, 1)) * [1, 0, 0]
        aligned = small * [1, 16, 16]
        larger = aligned + rng.integers(0, 50, (500, 3)) * [1, 16, 16]
        for less, more in ((small, longer), (aligned, larger)):
            assert (model.times(gemms(*less)).latency_s <= model.times(gemms(*more)).latency_s * (1 + 1e-12)).all()


def test_a_sibling_s_calibration_is_carried_over_by_the_ratio_of_generation_times() -> None:
    h100, pcie = load_hardware("h100-sxm-80gb"), load_hardware("h100-pcie-80gb")
    ops = gemms((16, 4096, 4096), (4096, 11008, 4096), (1, 4096, 64))
    own = time_model(h100, BF16, Runtime.GRAPH, shipped_calibration(h100)).times(ops).latency_s
    ratio = of(pcie, BF16).times(ops).latency_s / of(h100, BF16).times(ops).latency_s
    assert auto(pcie, BF16, ops).latency_s == pytest.approx(own * ratio)
    assert (ratio > 1).all()
    found = time_model(pcie, BF16, Runtime.GRAPH, find_calibration("auto", pcie, BF16, Runtime.GRAPH))
    assert isinstance(found, SiblingTimes)
    assert found.level == "generation"


def test_a_type_that_no_calibration_serves_stands_on_the_generation_alone() -> None:
    a100 = load_hardware("a100-sxm-80gb")
    for dtype in (FP32, DType.TF32):
        found = time_model(a100, dtype, Runtime.EAGER, find_calibration("auto", a100, dtype, Runtime.EAGER))
        assert isinstance(found, GenerationRoofline)
        assert found.host_launch_s == a100.host_launch_s


def test_a_profile_without_an_architecture_takes_after_the_average_of_its_kind() -> None:
    for name, kind in (("l4", "gpu"), ("epyc-7763", "cpu")):
        assert generation_of(replace(load_hardware(name), architecture=None)).name == kind


def test_a_cpu_s_dispatch_is_part_of_every_kernel() -> None:
    cpu = load_hardware("epyc-9654")
    slower = replace(cpu, host_launch_s=cpu.host_launch_s + 1e-3)
    before, after = (of(each, FP32).times(gemms((1, 64, 64))).latency_s for each in (cpu, slower))
    assert after - before == pytest.approx([1e-3])


def test_the_interval_has_the_stated_width() -> None:
    generation, times = generations()["turing"], auto(load_hardware("t4"), FP16, gemms((512, 512, 512)))
    assert np.log(times.p95_s / times.latency_s) == pytest.approx([1.645 * generation.log_sd])
    assert np.log(times.p05_s / times.latency_s) == pytest.approx([-1.645 * generation.log_sd])


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("compute = 0.53", "compute = 1.2", "generations.volta.half.compute"),
        ("log_sd  = 0.30", "log_ds = 0.30", "generations.volta"),
        ("schema = 1", "schema = 2", "schema"),
    ],
)
def test_a_malformed_table_is_named_by_its_key(tmp_path: Path, old: str, new: str, key: str) -> None:
    text = (profile_folder() / "calibrations" / "generations.toml").read_text(encoding="utf-8")
    path = tmp_path / "generations.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(CalibrationError, match=key.replace(".", r"\.")):
        read_generations(path)
