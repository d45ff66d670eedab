"""Settings of a workload: each reaches what is priced, and one that says nothing of the question is refused by name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from costmodel.errors import CostModelError, HardwareError, InputError
from costmodel.families.load import load_model
from costmodel.forward.workload import (
    MAX_BATCH,
    MAX_DEVICES,
    MAX_LENGTH,
    MAX_NEW_TOKENS,
    Attention,
    Cache,
    ExpertKernels,
    Latent,
    LmHead,
    Routing,
    Runtime,
    Workload,
)
from costmodel.hardware.profile import load_hardware
from costmodel.hardware.stack import load_stack
from costmodel.pricing.checks import check_dtype, check_phases
from costmodel.pricing.setup import Setup, WorkloadSettings
from costmodel.timing.calibration.load import find_calibration
from costmodel.units import DType

A100 = load_hardware("a100-sxm-80gb")
DEFAULTS: dict[str, Any] = {
    "batch": 1,
    "dtype": DType.BF16,
    "runtime": Runtime.EAGER,
    "attention": Attention.FUSED,
    "lm_head": LmHead.LAST,
    "cache": Cache.STATIC,
    "routing": Routing.BALANCED,
    "experts": ExpertKernels.FUSED,
    "latent": Latent.PLAIN,
}


def setup(**options: Any) -> Setup:
    return WorkloadSettings(**{"model": "llama-70m", "hw": "a100-sxm-80gb", **options}).setup()


# --- What reaches the workload --------------------------------------------------------------------------------------


def test_without_options_a_prompt_of_512_tokens_and_the_step_after_it_are_priced() -> None:
    found = setup()
    assert found.workloads == (Workload.prefill(512, **DEFAULTS), Workload.decode(513, **DEFAULTS))
    assert (found.model, found.hardware, found.new_tokens) == (load_model("llama-70m"), A100, None)
    assert found.calibration == find_calibration("auto", A100, DType.BF16, Runtime.EAGER)
    assert setup(model="bert-base").workloads == (Workload.prefill(512, **DEFAULTS),)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"batch": 3}, {"batch": 3}),
        ({"dtype": "float16"}, {"dtype": DType.FP16}),
        ({"weight_dtype": "int4"}, {"weight_dtype": DType.INT4}),
        ({"kv_dtype": "fp8"}, {"kv_dtype": DType.FP8}),
        ({"runtime": Runtime.GRAPH}, {"runtime": Runtime.GRAPH}),
        ({"attention": Attention.UNFUSED}, {"attention": Attention.UNFUSED}),
        ({"lm_head": LmHead.ALL}, {"lm_head": LmHead.ALL}),
        ({"cache": Cache.GROWING}, {"cache": Cache.GROWING}),
        ({"host": "desktop"}, {"host": "desktop"}),
        ({"routing": Routing.POWER_LAW}, {"routing": Routing.POWER_LAW}),
        ({"experts": ExpertKernels.LOOPED}, {"experts": ExpertKernels.LOOPED}),
        ({"latent": Latent.ABSORBED}, {"latent": Latent.ABSORBED}),
        ({"tp": 2, "tp_ways": " gather, replicate"}, {"tp": 2, "ways": ("gather", "replicate")}),
        ({"pp": 2, "microbatches": 4, "batch": 4}, {"pp": 2, "microbatches": 4, "batch": 4}),
        ({"ep": 2, "batch": 6, "model": "mixtral-8x7b"}, {"ep": 2, "batch": 6}),
    ],
)
def test_an_option_reaches_every_phase(options: dict[str, Any], expected: dict[str, Any]) -> None:
    how = {**DEFAULTS, **expected}
    assert setup(**options).workloads == (Workload.prefill(512, **how), Workload.decode(513, **how))


@pytest.mark.parametrize(
    ("options", "prefill", "decode"),
    [
        ({"seq_len": 7}, 7, 8),
        ({"kv_len": 9}, 512, 9),
        ({"seq_len": 100, "kv_len": 9}, 100, 9),
        ({"phase": "decode", "kv_len": 9}, None, 9),
        ({"phase": "decode", "seq_len": 9}, None, 10),
        ({"phase": "prefill", "seq_len": 9}, 9, None),
    ],
)
def test_lengths_are_those_of_the_phases_that_are_asked_for(
    options: dict[str, Any], prefill: int | None, decode: int | None
) -> None:
    expected = [Workload.prefill(prefill)] if prefill else []
    assert list(setup(**options).workloads) == [*expected, *([Workload.decode(decode)] if decode else [])]


def test_tokens_of_a_request_pass_through() -> None:
    assert setup(new_tokens=5).new_tokens == 5


@pytest.mark.parametrize("name", ["vllm", "transformers-dynamic", "torchscript", "graph", "eager"])
def test_a_stack_says_how_it_runs_unless_the_question_does(name: str) -> None:
    """A stack other than bare kernels absorbs latent attention."""
    stack, (work, _) = load_stack(name), setup(stack=name).workloads
    found = (work.stack, work.runtime.value, work.attention.value, work.cache.value)
    assert found == (name, stack.runtime, stack.attention, stack.cache)
    assert work.latent is (Latent.PLAIN if name in ("graph", "eager") else Latent.ABSORBED)
    asked = {"attention": Attention.UNFUSED, "cache": Cache.GROWING, "latent": Latent.PLAIN}
    (work, _) = setup(stack=name, **asked).workloads
    assert {key: getattr(work, key) for key in asked} == asked


def test_a_model_and_a_device_that_are_given_take_the_place_of_their_names() -> None:
    settings = WorkloadSettings(model="nothing", hw="nothing")
    found = settings.setup(load_model("gpt2"), A100)
    assert (found.model.name, found.hardware) == ("gpt2", A100)
    for given in ({"model": load_model("gpt2")}, {"hardware": A100}):
        with pytest.raises(CostModelError, match="nothing"):
            settings.setup(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, ("auto", DType.BF16, Runtime.EAGER, None)),
        ({"calibration": "none"}, ("none", DType.BF16, Runtime.EAGER, None)),
        ({"dtype": "fp16", "runtime": Runtime.GRAPH}, ("auto", DType.FP16, Runtime.GRAPH, None)),
        ({"stack": "vllm"}, ("auto", DType.BF16, Runtime.GRAPH, "vllm")),
    ],
)
def test_the_calibration_is_the_one_for_the_type_and_the_runtime(
    options: dict[str, Any], asked: tuple[Any, ...]
) -> None:
    name, dtype, runtime, stack = asked
    assert setup(**options).calibration == find_calibration(name, A100, dtype, runtime, stack)


def test_a_calibration_for_the_stack_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr("costmodel.pricing.setup.find_calibration", lambda *given: asked.append(given))
    setup(stack="vllm", calibration="x.json")
    assert asked == [("x.json", A100, DType.BF16, Runtime.GRAPH, "vllm")]


# --- What is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "largest", "needed"),
    [
        ("batch", MAX_BATCH, True),
        ("seq_len", MAX_LENGTH - 1, False),
        ("kv_len", MAX_LENGTH, False),
        ("new_tokens", MAX_NEW_TOKENS, False),
        ("tp", MAX_DEVICES, True),
        ("ep", MAX_DEVICES, True),
        ("pp", MAX_DEVICES, True),
        ("microbatches", MAX_BATCH, True),
    ],
)
def test_a_number_out_of_range_is_named(option: str, largest: int, needed: bool) -> None:
    settings = WorkloadSettings(model="gpt2", hw="l4")
    for value in (1, largest):
        replace(settings, **{option: value}).require_numbers()
    name = f"--{option.replace('_', '-')}"
    for wrong in (0, -1, largest + 1, True, 1.0, "2"):
        with pytest.raises(InputError, match=rf"{name} out of range: got {wrong!r}; .* from 1 to {largest:,}$"):
            replace(settings, **{option: wrong}).setup()
    if needed:
        with pytest.raises(InputError, match=f"{name} out of range: got None"):
            replace(settings, **{option: None}).require_numbers()
    else:
        replace(settings, **{option: None}).require_numbers()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"phase": "verify"}, "unknown phase: got 'verify'; allowed: prefill, decode, both"),
        ({"dtype": "int8"}, "unknown dtype: got 'int8'; allowed: fp32, tf32, fp16, bf16, fp8"),
        ({"weight_dtype": "fp9"}, "unknown weight dtype: got 'fp9'; allowed: .*int4"),
        ({"kv_dtype": "int4"}, "unknown KV dtype: got 'int4'; allowed: fp32, tf32, fp16, bf16, fp8, int8"),
        ({"kv_dtype": "fp9"}, "unknown KV dtype: got 'fp9'; allowed: fp32, tf32, fp16, bf16, fp8, int8$"),
        ({"host": "nowhere"}, "unknown host: got 'nowhere'"),
        ({"stack": "nothing"}, "unknown stack: got 'nothing'"),
        ({"stack": "vllm", "runtime": Runtime.EAGER}, "--stack vllm: got 'eager'; allowed: graph"),
        ({"stack": "eager", "runtime": Runtime.GRAPH}, "--stack eager: got 'graph'; allowed: eager"),
        ({"tp": 5}, "got 5"),
        ({"model": "minilm-l6", "pp": 7}, "--pp .*: got 7; allowed: at most 6"),
        ({"model": "mixtral-8x7b", "ep": 3, "batch": 3}, "--ep .*: got 3"),
        ({"ep": 2, "batch": 2}, "no experts to share out: got '--ep 2'; allowed: 1"),
        ({"microbatches": 2, "batch": 2}, "--microbatches .*: got 2"),
        ({"pp": 2, "microbatches": 2, "batch": 3}, "--microbatches 2: got 3; allowed: a multiple of 2"),
        ({"tp": 2, "tp_ways": "gather,gahter"}, "--tp-ways: got 'gahter'; .*gather"),
        ({"tp_ways": "gather"}, "--tp-ways .*: got 'gather'"),
        ({"phase": "prefill", "kv_len": 8}, "--kv-len .*: got 8"),
        ({"phase": "decode", "new_tokens": 2}, "--new-tokens .*: got '--phase decode'"),
        ({"kv_len": 8, "new_tokens": 2}, "--kv-len .*: got 8"),
    ],
)
def test_what_cannot_be_asked_is_named(options: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=what):
        setup(**{"model": "llama-70m", **options})


def test_a_runtime_beside_a_stack_is_refused_only_where_launches_run_beside_the_device() -> None:
    asked = WorkloadSettings(model="gpt2", hw="amd-epyc-2t", stack="onnxruntime-cpu", runtime=Runtime.EAGER)
    assert load_stack("onnxruntime-cpu").runtime == "eager"
    assert asked.setup().workloads[0].runtime is Runtime.EAGER
    assert setup(stack="vllm", runtime=Runtime.GRAPH).workloads == setup(stack="vllm").workloads


@pytest.mark.parametrize(
    ("name", "asked", "value"),
    [
        ("bert-base", {"phase": "decode"}, "'decode'"),
        ("bert-base", {"kv_len": 5}, "'--kv-len 5'"),
        ("bert-base", {"new_tokens": 3}, "'--new-tokens 3'"),
        ("gpt2", {"phase": "prefill", "kv_len": 5}, "5"),
        ("gpt2", {"phase": "decode", "kv_len": 5, "seq_len": 4}, "'4, 5'"),
        ("gpt2", {"kv_len": 5, "new_tokens": 3}, "5"),
        ("gpt2", {"phase": "decode", "new_tokens": 3}, "'--phase decode'"),
    ],
)
def test_lengths_of_other_phases_are_refused(name: str, asked: dict[str, Any], value: str) -> None:
    nothing: dict[str, Any] = {"phase": "both", "seq_len": None, "kv_len": None, "new_tokens": None}
    with pytest.raises(InputError, match=f": got {value};"):
        check_phases(load_model(name), **{**nothing, **asked})


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("bert-base", {}),
        ("bert-base", {"phase": "prefill", "seq_len": 5}),
        ("gpt2", {"kv_len": 5, "seq_len": 4}),
        ("gpt2", {"phase": "decode", "kv_len": 5}),
        ("gpt2", {"phase": "decode", "seq_len": 5}),
        ("gpt2", {"phase": "prefill", "seq_len": 5, "new_tokens": 2}),
        ("gpt2", {"new_tokens": 2}),
    ],
)
def test_lengths_of_the_phases_that_are_asked_for_are_taken(name: str, asked: dict[str, Any]) -> None:
    nothing: dict[str, Any] = {"phase": "both", "seq_len": None, "kv_len": None, "new_tokens": None}
    check_phases(load_model(name), **{**nothing, **asked})


@pytest.mark.parametrize(
    ("rates", "allowed", "hint"),
    [
        ([DType.FP32, DType.TF32, DType.FP16, DType.BF16], "fp32, tf32, fp16, bf16", "bf16"),
        ([DType.INT8, DType.FP32], "fp32", "fp32"),
    ],
)
def test_a_type_without_a_rate_is_refused_with_those_that_have_one(rates: list[DType], allowed: str, hint: str) -> None:
    device = replace(A100, matrix_flops_per_s=dict.fromkeys(rates, 1e12))
    with pytest.raises(HardwareError, match=rf"got 'fp8'; allowed: {allowed}; use --dtype {hint}$"):
        check_dtype(device, DType.FP8)
    check_dtype(device, DType(hint))


def test_a_device_without_any_rate_for_activations_offers_no_type() -> None:
    with pytest.raises(HardwareError) as refused:
        check_dtype(replace(A100, matrix_flops_per_s={DType.INT8: 1e12}), DType.BF16)
    assert "use --dtype" not in str(refused.value)
    assert "allowed" not in str(refused.value)
