"""Modules that a quantised checkpoint holds otherwise than the rest, as each library says so: plain, or in a format of
their own."""

from __future__ import annotations

from typing import Any

import pytest

from costmodel.errors import ModelError
from costmodel.families.registry import spec_from_config
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
}
MOE: dict[str, Any] = {
    **LLAMA,
    "model_type": "qwen3_moe",
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "head_dim": 16,
    "num_key_value_heads": 2,
}
FP8 = {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}}
FP4 = {"weight": {"dtype": "fp4", "qscheme": "per_group", "group_size": 32}}
INT4 = {"weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}}
INT8 = {"weights": {"num_bits": 8, "type": "int", "strategy": "channel"}}


def build(settings: dict[str, Any], config: dict[str, Any] = LLAMA, key: str = "quantization_config") -> ModelSpec:
    return spec_from_config({**config, key: settings}, name="test", source="test")


def bits(spec: ModelSpec, layer: int) -> dict[str, int]:
    """Bits of each weight of a layer as it is held."""

    def held(tensor: WeightTensor) -> int:
        form = tensor.form or spec.weights
        assert form is not None
        return 16 if tensor.plain else form.bits

    return {tensor.name: held(tensor) for tensor in spec.kind_of(layer).tensors}


def test_mlx_says_it_by_path() -> None:
    own = {"model.layers.0.mlp.down_proj": {"bits": 8, "group_size": 32}, "model.layers.1.self_attn.q_proj": False}
    spec = build({"bits": 4, "group_size": 64, **own}, key="quantization")
    assert {name for name, held in bits(spec, 0).items() if held != 4} == {"down_proj"}
    assert bits(spec, 0)["down_proj"] == 8
    assert {name: held for name, held in bits(spec, 1).items() if held != 4} == {"q_proj": 16}


def test_mlx_says_it_of_routers_and_of_all_experts_of_a_layer() -> None:
    router = {f"model.layers.{layer}.mlp.gate": {"bits": 8, "group_size": 64} for layer in (0, 1)}
    assert set(bits(build({"bits": 4, "group_size": 64, **router}, MOE, "quantization"), 0).values()) == {4}
    own = {"model.layers.1.mlp.switch_mlp.down_proj": {"bits": 6, "group_size": 64}}
    spec = build({"bits": 4, "group_size": 64, **own}, MOE, "quantization")
    assert set(bits(spec, 0).values()) == {4}
    assert bits(spec, 1)["experts.down_proj"] == 6


def test_gptqmodel_says_it_by_regular_expressions() -> None:
    dynamic = {r"-:.*\.1\..*": {}, r"+:.*down_proj": {"bits": 8}}
    spec = build({"quant_method": "gptq", "bits": 4, "group_size": 32, "dynamic": dynamic})
    assert set(bits(spec, 1).values()) == {16}
    assert bits(spec, 0) == {**dict.fromkeys(bits(spec, 0), 4), "down_proj": 8}


def test_auto_round_says_it_by_names_and_regular_expressions() -> None:
    extra = {
        "model.layers.0.self_attn.q_proj": {"bits": 16},
        r".*layers\.1\.mlp.*": {"bits": 8},
        "lm_head": {"bits": 16},
    }
    spec = build({"quant_method": "auto-round", "bits": 4, "group_size": 32, "extra_config": extra})
    assert {name for name, held in bits(spec, 0).items() if held != 4} == {"q_proj"}
    assert {name for name, held in bits(spec, 1).items() if held == 8} == {"gate_proj", "up_proj", "down_proj"}


def test_quark_says_it_by_patterns() -> None:
    settings = {"quant_method": "quark", "global_quant_config": FP4, "exclude": ["*o_proj", "lm_head"]}
    spec = build({**settings, "layer_quant_config": {"*self_attn*": FP8}})
    assert bits(spec, 0) == {name: 16 if name == "o_proj" else 8 if name[0] in "qkv" else 4 for name in bits(spec, 0)}


def test_hqq_says_it_by_names() -> None:
    settings = {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}}
    spec = build({**settings, "skip_modules": ["lm_head", "down_proj"]})
    assert {name for name, held in bits(spec, 0).items() if held == 16} == {"down_proj"}


def test_compressed_tensors_say_it_by_the_targets_of_groups() -> None:
    groups = {"group_0": {"targets": ["Linear"], **INT4}, "group_1": {"targets": ["re:.*self_attn.*"], **INT8}}
    spec = build({"quant_method": "compressed-tensors", "config_groups": groups})
    assert {name for name, held in bits(spec, 0).items() if held == 8} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    alone = build({"quant_method": "compressed-tensors", "config_groups": {"group_0": groups["group_1"]}})
    assert {name for name, held in bits(alone, 0).items() if held == 16} == {"gate_proj", "up_proj", "down_proj"}
    classes = {"group_0": groups["group_0"], "group_1": {"targets": ["LlamaMLP"], **INT8}}
    with pytest.raises(ModelError, match="config_groups"):
        build({"quant_method": "compressed-tensors", "config_groups": classes})


def test_names_below_a_model_around_the_language_model_are_those_of_its_layers() -> None:
    settings = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    for name in ("language_model.model.layers.1.mlp", "model.language_model.layers.1.mlp"):
        config = {"model_type": "llava", "text_config": LLAMA}
        spec = build({**settings, "llm_int8_skip_modules": [name, "vision_tower.layers.0.mlp"]}, config)
        assert set(bits(spec, 0).values()) == {4}
        assert {each for each, held in bits(spec, 1).items() if held == 16} == {"gate_proj", "up_proj", "down_proj"}


def test_an_embedding_held_otherwise_than_the_rest_is_refused() -> None:
    settings = {"bits": 4, "group_size": 64, "model.embed_tokens": {"bits": 4, "group_size": 64}}
    assert set(bits(build(settings, key="quantization"), 0).values()) == {4}
    with pytest.raises(ModelError, match="lm_head"):
        build({**settings, "lm_head": {"bits": 6, "group_size": 64}}, key="quantization")
