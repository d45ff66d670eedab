"""Assumptions say what the numbers at hand rest on: level, source of the host's launch time, and the rows' keys."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from cases import spec_of
from family_configs import small

from costmodel.decomposition.factors import Decomposition
from costmodel.errors import InputError
from costmodel.families.load import load_model
from costmodel.forward.workload import Attention, Cache, ExpertKernels, Latent, Routing, Runtime, Workload
from costmodel.hardware.profile import HardwareProfile, load_hardware
from costmodel.model import ModelSpec
from costmodel.pricing.estimate import Estimate, estimate
from costmodel.pricing.setup import WorkloadSettings
from costmodel.timing.calibration.load import find_calibration, shipped_calibration
from costmodel.timing.calibration.record import Calibration
from costmodel.timing.experts import beyond
from costmodel.timing.moe_file import moe_table
from costmodel.units import DType

GPT2, A100, EPYC = load_model("gpt2"), load_hardware("a100-sxm-80gb"), load_hardware("amd-epyc-2t")


def priced(hardware: str, dtype: DType = DType.BF16, calibration: str = "auto") -> Estimate:
    device, work = load_hardware(hardware), Workload.prefill(8, dtype=dtype)
    return estimate(
        GPT2, device, Decomposition(), [work], calibration=find_calibration(calibration, device, dtype, work.runtime)
    )


def level_of(calibration: Calibration | None) -> str:
    work = Workload.prefill(8, dtype=DType.FP32)
    return estimate(GPT2, EPYC, Decomposition(), [work], calibration=calibration).assumptions[0]


def test_the_first_assumption_says_what_was_measured() -> None:
    whole = shipped_calibration(EPYC)
    assert whole is not None
    assert "whole passes (samples)" in level_of(whole)
    assert "measured alone (probes)" in level_of(replace(whole, passes=None, level="probes"))
    assert "datasheet" in level_of(None)
    first = priced("h100-pcie-80gb", DType.FP16).assumptions[0]
    assert "h100-pcie-80gb was not measured for fp16" in first


@pytest.mark.parametrize(("verified", "source"), [(True, "verified"), (False, "unverified")])
def test_the_host_s_launch_time_says_whether_it_was_checked(verified: bool, source: str) -> None:
    figure = replace(next(iter(A100.figures.values())), verified=verified)
    hardware = replace(A100, figures={**A100.figures, "host_launch_s": figure})
    found = estimate(GPT2, hardware, Decomposition(), [Workload.prefill(8)])
    (text,) = (text for text in found.assumptions if text.startswith("eager: "))
    assert f"({source}, " in text


@pytest.mark.parametrize(("stack", "launches"), [("vllm", False), ("transformers", True), (None, True)])
def test_host_time_is_assumed_where_the_stack_launches_whatever_the_runtime_says(
    stack: str | None, launches: bool
) -> None:
    found = estimate(GPT2, A100, Decomposition(), [Workload.prefill(8, stack=stack)])
    assert any("of host time" in text for text in found.assumptions) == launches


def test_a_runtime_that_the_stack_does_not_have_is_refused() -> None:
    asked = WorkloadSettings(model="gpt2", hw="a100-sxm-80gb", stack="vllm", runtime=Runtime.EAGER)
    with pytest.raises(InputError, match="--runtime contradicts --stack vllm"):
        asked.setup()
    assert replace(asked, runtime=Runtime.GRAPH).setup() == replace(asked, runtime=None).setup()


def test_rows_of_operations_have_the_keys_of_the_contract() -> None:
    rows = estimate(GPT2, A100, Decomposition(), [Workload.prefill(8, runtime=Runtime.GRAPH)]).phases[0].op_rows()
    keys = ["name", "kind", "m", "n", "k", "flops", "vector_flops", "hbm_bytes", "kernels", "arithmetic_intensity"]
    keys += ["compute_s", "memory_s", "overhead_s", "latency_s", "bound"]
    assert {tuple(row) for row in rows} == {tuple(keys)}


def texts_of(
    model: ModelSpec, work: Workload, hardware: HardwareProfile = A100, calibration: str = "none"
) -> list[str]:
    found = find_calibration(calibration, hardware, work.dtype, work.runtime)
    return list(estimate(model, hardware, Decomposition(), [work], calibration=found).assumptions)


@pytest.mark.parametrize(("calibration", "beyond_the_roofline"), [("none", True), ("auto", False)])
def test_energy_is_too_low_by_what_the_roofline_leaves_out_where_nothing_was_measured(
    calibration: str, beyond_the_roofline: bool
) -> None:
    """And nothing is said of energy where no power is known."""
    work = Workload.prefill(8)
    (text,) = (each for each in texts_of(GPT2, work, calibration=calibration) if each.startswith("energy: "))
    assert ("too low by the time that kernels take beyond the roofline" in text) == beyond_the_roofline
    assert text.endswith("too high if memory-bound)")
    for unknown in ("idle_power_w", "peak_power_w"):
        texts = texts_of(GPT2, work, replace(A100, **{unknown: None}))
        assert not any(each.startswith("energy: ") for each in texts)


BLOCKS = (
    "experts: ",
    "latent attention",
    "attention to compressed",
    "chosen blocks",
    "linear attention",
    "state-space",
)
LAYERS: dict[str, tuple[str, ...]] = {
    "llama": (),
    "mixtral": ("experts: ",),
    "deepseek_v3": ("experts: ", "latent attention"),
    "kimi_linear": ("experts: ", "latent attention", "linear attention"),
    "deepseek_v4": ("experts: ", "attention to compressed"),
    "minimax_m3_vl_text": ("experts: ", "chosen blocks"),
    "minimax": ("experts: ", "linear attention"),
    "mamba2": ("state-space",),
}


@pytest.mark.parametrize("model_type", LAYERS)
def test_each_kind_of_block_is_told_of_where_it_stands_and_nowhere_else(model_type: str) -> None:
    model = spec_of(small(model_type))
    texts = texts_of(model, Workload.prefill(8))
    told = [begin for begin in BLOCKS for text in texts if text.startswith(begin)]
    assert tuple(told) == LAYERS[model_type]
    assert all("either way" in text or "too low" in text or "too high" in text for text in texts)


def test_the_numbers_of_blocks_are_told() -> None:
    model = spec_of(small("minimax_m3_vl_text"))
    assert model.indexer is not None
    (text,) = (text for text in texts_of(model, Workload.decode(8)) if text.startswith("chosen blocks"))
    assert f"a step reads {model.indexer.seen} positions" in text
    lightning, delta = (
        next(text for text in texts_of(spec_of(small(name)), Workload.prefill(8)) if text.startswith("linear"))
        for name in ("minimax", "kimi_linear")
    )
    assert "chunks of 5 positions" in lightning  # as its configuration says
    assert "chunks of 64 positions" in delta


@pytest.mark.parametrize(
    ("model_type", "options", "words"),
    [
        ("mixtral", {}, "experts: balanced routing"),
        ("mixtral", {"routing": Routing.POWER_LAW}, "experts: power-law routing"),
        ("mixtral", {}, "one kernel for a linear of all experts"),
        ("mixtral", {"experts": ExpertKernels.LOOPED}, "a loop over them"),
        ("deepseek_v3", {}, "made from the whole cache in every pass"),
        ("deepseek_v3", {"latent": Latent.ABSORBED}, "latent attention: absorbed"),
        ("llama", {"attention": Attention.FUSED}, "attention: one fused kernel"),
        ("llama", {"kv_dtype": DType.FP8}, "KV cache in another type"),
        ("llama", {"weight_dtype": DType.INT4}, "weight-only int4"),
        ("llama", {"weight_dtype": DType.FP32}, "weights held in fp32, computed in bf16"),
        ("llama", {"tp": 2}, "2 devices: weights cut"),
        ("mixtral", {"ep": 2, "batch": 2}, "2 x 1 devices share out sequences"),
        ("llama", {"pp": 3}, "3 stages of as many layers"),
        ("llama", {"cache": Cache.PAGED}, "memory: weights, paged KV cache"),
        ("mistral", {}, "sliding-window layers keep"),
        ("bert", {}, "memory: weights and live activations"),
        ("bert", {}, "never writes its scores"),
        ("llama", {}, "reads grouped K and V once and skips masked tiles"),
    ],
)
def test_how_a_model_runs_is_told_of_that_way_alone(model_type: str, options: dict[str, Any], words: str) -> None:
    """Each sentence is there where it holds, once, and gone where the option is turned or the model is another."""
    model = spec_of(small(model_type))
    assert sum(words in text for text in texts_of(model, Workload.prefill(8, **options))) == 1
    turned = {
        "attention": Attention.UNFUSED,
        "routing": Routing.BALANCED,
        "experts": ExpertKernels.FUSED,
        "latent": Latent.PLAIN,
    }
    other = spec_of(small("gpt2")) if not options else model
    assert words not in " ".join(texts_of(other, Workload.prefill(8, **{k: turned[k] for k in options if k in turned})))


def test_layers_of_experts_say_what_times_them_where_more_than_the_datasheet_does() -> None:
    """A form that was fitted to a kernel, and which sizes lie beyond those it was fitted to; nothing at datasheet
    level."""
    h100, large = load_hardware("h100-sxm-80gb"), load_model("qwen3-30b-a3b")

    def told(model: ModelSpec, calibration: str = "auto", tokens: int = 64) -> list[str]:
        work = Workload.prefill(tokens, runtime=Runtime.GRAPH)
        return [text for text in texts_of(model, work, h100, calibration) if text.startswith("layers of experts: ")]

    numbers = moe_table()["h100-sxm-80gb", "bf16"][0]
    (inside,) = told(large)
    assert f"fitted to {numbers.kernel} measured on h100-sxm-80gb, " in inside
    assert f"within {math.exp(numbers.low):.2f} to {math.exp(numbers.high):.2f} of it" in inside
    small_one = spec_of(small("mixtral"))
    outside = beyond(numbers, small_one, Workload.prefill(1 << 20))
    assert len(outside) > 1
    wide, sizes = told(small_one, tokens=1 << 20)
    assert f"within {math.exp(2 * numbers.low):.2f} to {math.exp(2 * numbers.high):.2f} of it" in wide
    assert sizes == f"layers of experts: not measured at {', '.join(outside)}, the interval twice as wide (either way)"
    assert told(large, "none") == []
    assert told(load_model("gpt2")) == []
