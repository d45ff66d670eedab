"""Layers of experts in a calibrated pass: the fitted form dealt out to operations, dense and factored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.text import parse_decomposition
from costmodel.families.load import load_model
from costmodel.forward.workload import ExpertKernels, Routing, Runtime, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.configurations import Configurations
from costmodel.pricing.estimate import estimate, pricer
from costmodel.pricing.sites import additive_of
from costmodel.timing.calibration.load import find_calibration
from costmodel.timing.calibration.scaled import ScaledForm
from costmodel.timing.columns import OpColumns
from costmodel.timing.experts import ExpertTimes, numbers_of
from costmodel.timing.moe import MoeLayer, moe_layer_times
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
    expected, _ = moe_layer_times([layer], H100, DType.BF16)
    assert times.latency_s.sum() == pytest.approx(expected.latency_s[0], rel=1e-9)
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


def test_a_pass_keeps_the_interval_of_its_layers_of_experts() -> None:
    """Their errors go with a shape that all layers share, and do not cancel among them as those of kernels do."""
    device, model = load_hardware("a100-sxm-80gb"), load_model("mixtral-8x7b")
    priced = pricer(model, device, work(2048), calibration("a100-sxm-80gb"))  # type: ignore[arg-type]
    ops = [op for op in priced.ops(Decomposition()) if op.experts]
    summed = additive_of(priced.time_model, OpColumns.of(ops))
    layer = MoeLayer(tokens=2048, hidden_size=4096, intermediate_size=14336, top_k=2, experts=8)
    measured, _ = moe_layer_times([layer], device, DType.BF16)
    assert summed.time("p05_s") / summed.time("device_s") == pytest.approx(
        (measured.p05_s / measured.latency_s)[0], rel=0.1
    )
    assert summed.time("p95_s") / summed.time("device_s") == pytest.approx(
        (measured.p95_s / measured.latency_s)[0], rel=0.1
    )


def test_layers_beyond_the_measured_ones_are_named_and_have_a_wider_interval() -> None:
    tiny = replace(QWEN, name="tiny", hidden_size=256)
    answers = [
        estimate(model, H100, Decomposition(), [work()], calibration=calibration())  # type: ignore[arg-type]
        for model in (QWEN, tiny)
    ]
    inside, outside = (
        numbers_of(pricer(model, H100, work(), calibration()).time_model)  # type: ignore[arg-type]
        for model in (QWEN, tiny)
    )
    assert inside is not None
    assert outside is not None
    assert (outside.low, outside.high) == (2 * inside.low, 2 * inside.high)
    named = [[text for text in answer.assumptions if "hidden_size 256 (2048 to 6144)" in text] for answer in answers]
    assert [len(texts) for texts in named] == [0, 1]


def test_a_calibration_of_whole_passes_times_experts_by_itself() -> None:
    found = replace(calibration(), passes=ScaledForm(), level="samples")  # type: ignore[type-var]
    priced = pricer(QWEN, H100, work(), found)  # type: ignore[arg-type]
    assert numbers_of(priced.time_model) is None
