"""The ideal roofline: max of compute and memory time, the sum as its upper bound, launches beside or in between."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.errors import HardwareError
from costmodel.forward.cost import OpCost, gemm
from costmodel.forward.ops import Op
from costmodel.forward.workload import Runtime
from costmodel.hardware.profile import load_hardware
from costmodel.timing.columns import OpColumns
from costmodel.timing.datasheet import DatasheetRoofline, energy_joules, host_seconds
from costmodel.units import DType

A100 = load_hardware("a100-sxm-80gb")
EPYC = load_hardware("epyc-9654")
GRAPH = DatasheetRoofline.of(A100, DType.BF16, Runtime.GRAPH)


def op(cost: OpCost, shape: tuple[int, int, int] | None = None) -> Op:
    return Op(name="x", kind="gemm" if shape else "norm", cost=cost, out_bytes=0, gemm=shape)


def square(m: int, n: int = 4096) -> Op:
    return op(gemm(m, n, n, act_bytes=2, weight_dtype=DType.BF16), (m, n, n))


def test_a_gemm_by_hand() -> None:
    """4096^3: 137 GFLOP at 312 TFLOP/s are 440.5 us, 100.7 MB at 2.039 TB/s 49.4 us, one kernel 2.4 us."""
    times = GRAPH.times(OpColumns.of([square(4096)]))
    assert times.compute_s == pytest.approx([2 * 4096**3 / 312e12])
    assert times.memory_s == pytest.approx([3 * 4096**2 * 2 / 2.039e12])
    assert times.overhead_s == pytest.approx([2.4e-6])
    assert times.latency_s == pytest.approx(times.compute_s + 2.4e-6)
    assert times.upper_s == pytest.approx(times.compute_s + times.memory_s + 2.4e-6)
    assert times.bound() == ["compute"]


def test_bounds_name_what_is_largest() -> None:
    tiny = op(OpCost(vector_flops=8, act_read_bytes=16, kernels=1))
    assert GRAPH.times(OpColumns.of([square(4096), square(1), tiny])).bound() == ["compute", "memory", "overhead"]


def test_the_ridge_point_divides_compute_from_memory() -> None:
    ridge = A100.ridge_flops_per_byte(DType.BF16)
    for m, n in ((64, 4096), (128, 4096), (160, 4096), (200, 4096), (400, 4096)):
        times = GRAPH.times(OpColumns.of([square(m, n)]))
        assert (times.compute_s >= times.memory_s)[0] == (square(m, n).cost.arithmetic_intensity >= ridge)


def test_what_a_masked_kernel_skips_takes_no_time() -> None:
    whole, skipping = OpCost(flops=10**12, kernels=1), OpCost(flops=10**12, skipped_flops=5 * 10**11, kernels=1)
    times = GRAPH.times(OpColumns.of([op(whole), op(skipping)]))
    assert times.compute_s[1] == times.compute_s[0] / 2


def test_nothing_takes_no_time() -> None:
    times = GRAPH.times(OpColumns.of([op(OpCost())]))
    assert (times.latency_s, times.lower_s, times.upper_s, times.busy_s) == ([0.0], [0.0], [0.0], [0.0])
    assert GRAPH.times(OpColumns.of([])).latency_s.shape == (0,)


COSTS = st.fixed_dictionaries(
    {
        "flops": st.integers(0, 10**15),
        "vector_flops": st.integers(0, 10**12),
        "weight_read_bytes": st.integers(0, 10**11),
        "act_read_bytes": st.integers(0, 10**11),
        "kernels": st.integers(1, 10),
    }
).map(lambda counts: OpCost(**counts))


@given(COSTS, COSTS)
def test_laws(one: OpCost, more: OpCost) -> None:
    """Lower <= latency <= upper <= 2 lower; more work takes no less time; two kernels no less than their union."""
    times = GRAPH.times(OpColumns.of([op(one), op(more), op(one + more)]))
    assert (times.lower_s <= times.latency_s).all()
    assert (times.latency_s <= times.upper_s).all()
    assert (times.upper_s <= 2 * times.lower_s * (1 + 1e-12)).all()
    assert times.latency_s[2] >= times.latency_s[:2].max() * (1 - 1e-12)
    assert times.latency_s[2] <= times.latency_s[:2].sum() * (1 + 1e-12)
    assert times.upper_s[2] == pytest.approx(times.upper_s[:2].sum())


def test_a_column_is_its_operations_one_by_one() -> None:
    ops = [square(m) for m in (1, 7, 512)]
    together = GRAPH.times(OpColumns.of(ops)).latency_s
    assert together.tolist() == [GRAPH.times(OpColumns.of([each])).latency_s.item() for each in ops]


def test_launches_run_beside_a_gpu_and_before_each_kernel_of_a_cpu() -> None:
    eager = DatasheetRoofline.of(A100, DType.BF16, Runtime.EAGER)
    assert (eager.host_launch_s, eager.kernel_s) == (A100.host_launch_s, A100.kernel_floor_s)
    assert (GRAPH.host_launch_s, GRAPH.kernel_s) == (0.0, A100.kernel_floor_s)
    cpu = DatasheetRoofline.of(EPYC, DType.FP32, Runtime.EAGER)
    assert (cpu.host_launch_s, cpu.kernel_s) == (0.0, EPYC.kernel_floor_s + EPYC.host_launch_s)
    assert host_seconds(A100, Runtime.EAGER, 100) == pytest.approx(100 * A100.host_launch_s)
    with pytest.raises(HardwareError, match="epyc-9654 is a CPU, which replays no graph: got 'graph'; allowed: eager"):
        DatasheetRoofline.of(EPYC, DType.BF16, Runtime.GRAPH)
    assert host_seconds(A100, Runtime.GRAPH, 100) == host_seconds(EPYC, Runtime.EAGER, 100) == 0.0


def test_a_type_without_a_rate_is_refused() -> None:
    with pytest.raises(HardwareError, match="t4 has no bf16 rate"):
        DatasheetRoofline.of(load_hardware("t4"), DType.BF16, Runtime.EAGER)


def test_energy() -> None:
    idle, peak = A100.idle_power_w, A100.peak_power_w
    assert idle is not None
    assert peak is not None
    found = energy_joules(A100, np.array([2.0, 1.0]), np.array([0.0, 1.0]))
    assert found is not None
    assert found.tolist() == [2 * idle, peak]
    assert energy_joules(EPYC, np.array([1.0]), np.array([1.0])) is None
