"""Layers of experts in a calibrated pass: the fitted form dealt out to operations, dense and factored."""

from __future__ import annotations

import numpy as np
import pytest

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.text import parse_decomposition
from costmodel.families.load import load_model
from costmodel.forward.workload import ExpertKernels, Routing, Runtime, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.configurations import Configurations
from costmodel.pricing.estimate import estimate, pricer
from costmodel.timing.calibration.load import find_calibration
from costmodel.timing.columns import OpColumns
from costmodel.timing.experts import ExpertTimes
from costmodel.timing.moe import MoeLayer, moe_layer_time
from costmodel.units import DType

H100 = load_hardware("h100-sxm-80gb")
QWEN = load_model("qwen3-30b-a3b")
FACTORED = ["tensors=mlp rank=64", "layers=3 tensors=experts.down_proj rank=32 form=tucker"]


def calibration(hardware: str = "h100-sxm-80gb") -> object:
    return find_calibration("auto", load_hardware(hardware), DType.BF16, Runtime.GRAPH)


def work(tokens: int = 64, **options: object) -> Workload:
    return Workload.prefill(tokens, dtype=DType.BF16, runtime=Runtime.GRAPH, **options)


def seconds(specs: list[str], workload: Workload, hardware: str = "h100-sxm-80gb") -> float:
    decomposition = parse_decomposition(specs, QWEN)
    found = calibration(hardware)
    return float(
        estimate(QWEN, load_hardware(hardware), decomposition, [workload], calibration=found)  # type: ignore[arg-type]
        .phases[0]
        .decomposed.latency_s
    )


@pytest.mark.parametrize("tokens", [1, 4096])
def test_the_operations_of_a_dense_layer_take_what_the_measured_form_says_of_it(tokens: int) -> None:
    priced = pricer(QWEN, H100, work(tokens), calibration())  # type: ignore[arg-type]
    ops = [op for op in priced.ops(Decomposition()) if ".layers.5." in op.name and op.experts]
    assert len(ops) == 8  # router, dispatch, gate, activation, up, product, down, sum
    times = priced.time_model.times(OpColumns.of(ops))
    layer = MoeLayer(tokens=tokens, hidden_size=2048, intermediate_size=768, top_k=8, experts=128)
    expected = moe_layer_time(layer, H100, DType.BF16)
    assert times.latency_s.sum() == pytest.approx(expected.latency_s, rel=1e-9)
    assert times.p95_s.sum() == pytest.approx(expected.p95_s, rel=1e-9)
    assert (times.latency_s > 0).all()


@pytest.mark.parametrize("specs", [[], FACTORED])
def test_no_operation_is_left_out_and_lists_sum_to_what_arrays_say(specs: list[str]) -> None:
    decomposition = parse_decomposition(specs, QWEN)
    priced = pricer(QWEN, H100, work(), calibration())  # type: ignore[arg-type]
    times = priced.time_model.times(OpColumns.of(priced.ops(decomposition)))
    costs = priced.costs(Configurations.of(QWEN, decomposition))
    assert (times.latency_s > 0).all()
    assert float(np.asarray(costs.device_s).reshape(-1)[0]) == pytest.approx(times.latency_s.sum(), rel=1e-9)


def test_a_smaller_rank_is_never_slower_and_factors_cost_their_kernels() -> None:
    many = work(2048)
    by_rank = [seconds([f"tensors=mlp rank={rank}"], many) for rank in (32, 64, 128, 256, 512)]
    assert by_rank == sorted(by_rank)
    assert by_rank[0] < seconds([], many) < by_rank[-1]


def test_it_serves_measured_devices_and_fused_kernels_of_plain_weights_alone() -> None:
    def by_form(workload: Workload, hardware: str = "h100-sxm-80gb", found: object = None) -> bool:
        priced = pricer(QWEN, load_hardware(hardware), workload, found or calibration(hardware))  # type: ignore[arg-type]
        return isinstance(priced.time_model, ExpertTimes)

    assert by_form(work())
    assert by_form(work(routing=Routing.POWER_LAW))
    assert by_form(work(), "a100-sxm-80gb")
    assert not by_form(work(), "l40s")
    assert not by_form(work(experts=ExpertKernels.LOOPED))
    assert not by_form(work(weight_dtype=DType.INT4))
    assert not isinstance(pricer(QWEN, H100, work()).time_model, ExpertTimes)
