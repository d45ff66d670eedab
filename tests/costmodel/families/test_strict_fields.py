"""No value of a wrong type passes in silence: every field that the reader of a model_type reads, with wrong values."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Mapping
from typing import Any

import pytest
from family_configs import CHOICES, small

from costmodel.errors import ModelError
from costmodel.families.fields import Fields
from costmodel.families.registry import FAMILIES, defaults, spec_from_config
from costmodel.model import ModelSpec

WRONG: tuple[Any, ...] = ("x", [], {}, -1, True, 1.5, None)
NULL_SAYS = {
    "head_dim": "hidden_size over heads",
    "num_key_value_heads": "as many as heads, in the classes that take null",
    "sliding_window": "no window",
    "attention_chunk_size": "no chunks",
    "local_attention": "no window",
    "weight_tying": "tied, as where OLMo's own code is not told",
    "q_lora_rank": "queries without a narrow vector",
    "final_logit_softcapping": "logits as they are",
    "attention_bias": "none",
    "mlp_bias": "none",
    "global_head_dim": "that of the other layers",
    "mamba_d_ssm": "mamba_expand times hidden_size",
    "full_attn_idxs": "attention in every layer",
    "clip_qkv": "q, k and v as they are",
}
"""What null says where it is not what a type has without the field."""
EMPTY_SAYS_NO = "whatever is empty says no, as where transformers asks whether a field is set"
NO = {
    *("is_decoder", "add_cross_attention", "is_encoder_decoder", "per_layer_config", "pruned_heads", "talking_head"),
    *("is_folding_model", "rotary_value", "use_cla", "use_mla", "num_experts", "embedding_size", "n_shared_experts"),
    *("add_full_attention_sink_bias", "use_bias", "qk_ln", "norm_after", "attention_layer_norm", "use_qk_norm"),
    *("classifier_bias", "replace_with_linear", "sparsify", "shared_intermediate_size", "alibi_starting_size"),
    *("lora_adaptations", "attention_windows", "inner_hidden_size", "quant_mode"),
    *("scale_quant_params", "zero_quant_params"),
}
"""Fields of what is not supported, which are refused unless they are empty (EMPTY_SAYS_NO)."""
ALLOWED: dict[str, tuple[Any, ...]] = {
    "architectures": ([],),
    "pos_att_type": ([],),
    "norm_rel_ebd": ([],),
    "mlp_only_layers": ([],),
    "moe_layers": ([],),
    "attn_layer_indices": ([],),
    "cross_attention_layers": ([],),
    "full_attn_idxs": ([],),
    "max_relative_positions": (-1,),
    "clip_qkv": (1.5,),
    "position_buckets": (-1,),
    "moe_layer_end_index": (-1,),
    "group_size": (-1,),
    "gating": (True,),
    **{name: ([],) for name in ("modules_to_not_convert", "ignore", "exclude_modules", "ignored_layers")},
    **{name: ([],) for name in ("llm_int8_skip_modules", "skip_modules", "exclude", "targets", "lora_adaptations")},
    "rope_type": ("x",),
    "type": ("x",),
    "expert_dtype": ("x",),
    "factor": (1.5,),
    "rope_theta": (1.5,),
    "final_logit_softcapping": (1.5,),
    "block_ffn_dim_multiplier": (1.5,),
    "ffn_mult": (1.5,),
}
"""Values of `WRONG` that are right ones of a field: empty lists of layers, -1 for none or all, texts that stand for no
other model (a scaling of RoPE that is not known leaves the length), numbers."""
OVERRULED = {
    "kimi_linear": ("linear_head_dim", "linear_num_heads", "linear_conv_kernel_dim"),
    "RefinedWeb": ("new_decoder_architecture", "num_kv_heads"),
    "RefinedWebModel": ("new_decoder_architecture", "num_kv_heads"),
}
"""model_type -> fields that others stand in front of: those in `linear_attn_config`, and `n_head_kv`."""
SETTINGS: dict[str, dict[str, Any]] = {
    "gptq": {"bits": 4, "group_size": 128, "sym": True},
    "awq": {"bits": 4, "group_size": 64, "zero_point": True},
    "bitsandbytes": {"load_in_4bit": True, "bnb_4bit_use_double_quant": True},
    "fp8": {"weight_block_size": [128, 128]},
    "compressed-tensors": {
        "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "int", "strategy": "channel"}}},
        "ignore": ["lm_head"],
    },
    "modelopt": {"quant_algo": "NVFP4", "group_size": 16},
    "mlx": {"bits": 4, "group_size": 64},
    "hqq": {"quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}},
    "quanto": {"weights": "int8"},
    "torchao": {"quant_type": {"default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 32}}}},
    "quark": {"global_quant_config": {"weight": {"dtype": "int4", "qscheme": "per_group", "group_size": 128}}},
}
"""Settings of quantised checkpoints, by method."""


TOWERS = {"vision_config", "visual", "audio_config", "audio"}
"""Fields that are named in a note where they are objects, and never priced."""
FLAGS = {
    *("sym", "zero_point", "load_in_4bit", "load_in_8bit", "_load_in_4bit", "_load_in_8bit", "symmetric"),
    *("bnb_4bit_use_double_quant", "use_full_rank_gate", "include_embedding"),
    "include_input_output_embeddings",
}
"""Fields inside others that are true or false."""


class Recorder(dict[str, object]):
    """An object of a configuration that notes which of its fields are asked for."""

    def __init__(self, data: Mapping[str, object], path: str, log: dict[str, None]) -> None:
        super().__init__(data)
        self.path, self.log = path, log

    def get(self, key: str, default: Any = None) -> Any:
        self.log[self.path + key] = None
        return super().get(key, default)

    def __getitem__(self, key: str) -> object:
        self.log[self.path + key] = None
        return super().__getitem__(key)


def read(config: dict[str, Any]) -> ModelSpec:
    return spec_from_config(config, name="test", source="config.json")


def fields_read(config: dict[str, Any]) -> list[str]:
    """The paths of the fields that are read, with dots between the names of nested ones."""
    log: dict[str, None] = {}
    plain = Fields.__init__

    def recording(self: Fields, data: Mapping[str, object], **options: Any) -> None:
        plain(self, data, **options)
        self.data = Recorder(data, self.path, log)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fields, "__init__", recording)
        read(config)
    return [path for path in log if "[" not in path]


def samples(model_type: str) -> list[dict[str, Any]]:
    return [small(model_type, **change) for change in ({}, CHOICES.get(model_type)) if change is not None]


def replaced(config: dict[str, Any], path: str, value: Any) -> dict[str, Any] | None:
    """With another value at a path, or without the field for `...`; None where what is around it is no object."""
    changed = copy.deepcopy(config)
    *outer, last = path.split(".")
    inner = changed
    for name in outer:
        if not isinstance(inner.get(name), dict):
            return None
        inner = inner[name]
    inner[last] = value
    if value is ...:
        del inner[last]
    return changed


def same(one: Any, other: Any) -> bool:
    """Whether two models are alike; ModelSpec and what is in it compare by identity."""
    if isinstance(one, ModelSpec) and isinstance(other, ModelSpec):
        return all(same(getattr(one, each.name), getattr(other, each.name)) for each in dataclasses.fields(one))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def attempt(config: dict[str, Any] | None) -> ModelSpec | None:
    """The model, or None where it is refused; any other exception is a failure. An error is one line by its class."""
    try:
        return None if config is None else read(config)
    except ModelError:
        return None


def passes_in_silence(config: dict[str, Any], path: str, value: Any) -> bool:
    """Whether a value is taken that is neither what the field is of, nor null for no field, nor allowed for a reason
    that is written above."""
    name = path.rpartition(".")[2]
    right = any(type(value) is type(each) and value == each for each in ALLOWED.get(name, ()))
    if right or name in TOWERS or name in OVERRULED.get(config["model_type"], ()):
        return False
    if name in NO and not value and value != -1:
        return False
    spec = attempt(replaced(config, path, value))
    if spec is None:
        return False
    if value is None or value == {}:
        return name not in NULL_SAYS and not same(spec, attempt(replaced(config, path, ...)))
    known = {**defaults(config["model_type"]), **config}.get(path)
    return not (value is True and (name in FLAGS or ("." not in path and (known is None or isinstance(known, bool)))))


QUANTISED = {
    method: small("llama", **{"quantization" if method == "mlx" else "quantization_config": settings})
    for method, settings in SETTINGS.items()
}
for _method in set(QUANTISED) - {"mlx"}:
    QUANTISED[_method]["quantization_config"]["quant_method"] = _method
SAMPLES = {**{name: samples(name) for name in FAMILIES}, **{name: [config] for name, config in QUANTISED.items()}}
"""Configurations by model_type, and of a Llama by the method that its weights are quantised with."""


def silent(name: str, number: int | None) -> list[tuple[str, Any]]:
    """Fields and wrong values of them that pass in silence, of so many at random, or of all."""
    rng, passed = random.Random(name), list[tuple[str, Any]]()
    for config in SAMPLES[name]:
        tried = [(path, value) for path in fields_read(config) for value in WRONG]
        tried = tried if number is None else rng.sample(tried, number)
        passed += [(path, value) for path, value in tried if passes_in_silence(config, path, value)]
    return passed


@pytest.mark.parametrize("name", SAMPLES)
def test_wrong_values_of_some_fields_are_refused(name: str) -> None:
    assert silent(name, 6) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
def test_wrong_values_of_every_field_are_refused(name: str) -> None:
    assert silent(name, None) == []


KIMI = small("kimi_linear", layer_types=None)
LINEAR = {"head_dim": 8, "num_heads": 2}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a span of DeBERTa": (small("deberta", max_relative_positions="x"), "max_relative_positions: got 'x'"),
    "buckets of DeBERTa": (small("deberta-v2", relative_attention=True, position_buckets="x"), "position_buckets"),
    "a norm of DeBERTa": (small("deberta-v2", norm_rel_ebd="batch_norm"), "norm_rel_ebd: got 'batch_norm'"),
    "a pattern of MiMo": (small("mimo_v2_flash", layer_types=None, hybrid_layer_pattern="x"), "hybrid_layer_pattern"),
    "experts of MiMo": (small("mimo_v2_flash", moe_layer_freq=1), "moe_layer_freq: got 1"),
    "blocks of RecurrentGemma": (small("recurrent_gemma", block_types={}), "block_types: got {}"),
    "kinds of Granite": (small("granitemoehybrid", layer_types=["mamba", "mambo", "mamba"]), "layer_types"),
    "a pattern of EXAONE": (small("exaone4", sliding_window_pattern=[]), "sliding_window_pattern"),
    "letters of EXAONE": (small("exaone4", sliding_window_pattern="LLXG"), "sliding_window_pattern"),
    "a width for each layer of Gemma 4": (small("gemma4_text", intermediate_size=[96, 20, 20]), "intermediate_size"),
    "an offset beyond the period": (small("jamba", attn_layer_offset=3), "attn_layer_offset.*below"),
    "rates of DeepSeek-V4": (small("deepseek_v4", compress_rates=[4]), "compress_rates: got"),
    "a layer of Kimi in both lists": (
        {**KIMI, "linear_attn_config": {**LINEAR, "kda_layers": [1, 2, 3], "full_attn_layers": [3]}},
        "linear_attn_config.*in one of",
    ),
    "a layer of Kimi in no list": (
        {**KIMI, "linear_attn_config": {**LINEAR, "kda_layers": [1], "full_attn_layers": [3]}},
        "linear_attn_config.*each of the layers 1 to 3",
    ),
    "one list of Kimi alone": (
        {**KIMI, "linear_attn_config": {**LINEAR, "full_attn_layers": [3]}},
        "linear_attn_config.*each of the layers 1 to 3",
    ),
    "a part that is no object": (small("llama", text_config="x"), "text_config: got 'x'"),
    "a type of the part": (
        {"model_type": "llava", "text_config": {**small("llama"), "model_type": 5}},
        "model_type: got 5",
    ),
    "labels that are a list": (small("llama", id2label=["a"], architectures=["LlamaModel"]), "id2label"),
    "scalings of kinds": (
        small("olmo3", rope_parameters={"full_attention": "x", "sliding_attention": {"rope_type": "default"}}),
        "rope_parameters.full_attention: got 'x'",
    ),
    "modules that are a text": (
        small("llama", quantization_config={"quant_method": "gptq", "modules_to_not_convert": "lm_head"}),
        "modules_to_not_convert: got 'lm_head'",
    ),
    "a pattern that is none": (
        small("llama", quantization_config={"quant_method": "gptq", "ignore": ["re:.*mlp[.*"]}),
        r"quantization_config.ignore: got \['re:.*found: 're",
    ),
    "a pattern that never ends": (
        small("llama", quantization_config={"quant_method": "gptq", "ignore": [r"re:model(\w+[.]?)+mlpx$"]}),
        "none of \\* and \\+ behind a group",
    ),
    "a method that is no text": (small("llama", quantization_config={"quant_method": 5}), "quant_method: got 5"),
    "a module of MLX that is neither plain nor of settings": (
        small("llama", quantization={"bits": 4, "model.layers.0.mlp.up_proj": 8}),
        "model.layers.0.mlp.up_proj: got 8",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_was_taken_for_absent_is_refused_by_name(name: str) -> None:
    config, message = REFUSED[name]
    with pytest.raises(ModelError, match=message):
        read(config)


@pytest.mark.parametrize(("model_type", "layers"), [("nemotron_h", 9), ("nemotron-nas", 9)])
def test_more_layers_than_a_list_has_are_refused(model_type: str, layers: int) -> None:
    with pytest.raises(ModelError, match=f"for each of {layers} layers"):
        spec_from_config(small(model_type), name="test", source="config.json", num_layers=layers)


@pytest.mark.parametrize("model_type", ["arcee", "olmo2", "gemma", "qwen2", "opt"])
def test_null_for_a_tied_head_is_what_the_type_has_without_the_field(model_type: str) -> None:
    config = small(model_type)
    config.pop("tie_word_embeddings", None)
    assert read({**config, "tie_word_embeddings": None}).tie_embeddings == read(config).tie_embeddings


def test_settings_of_quantised_weights_outside_of_the_part_hold_for_it() -> None:
    settings = {"config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 32, "strategy": "group"}}}}
    config = {"model_type": "llava", "text_config": small("llama"), "compression_config": settings}
    assert read(config).weights == read(small("llama", compression_config=settings)).weights is not None


def test_lists_of_more_layers_than_any_model_has_are_refused() -> None:
    block = {"attention": {"n_heads_in_group": 2}, "ffn": {"intermediate_size": 96}}
    for config in (small("nemotron-nas", block_configs=[block] * 1001), small("recurrent_gemma", block_types=["x"])):
        with pytest.raises(ModelError, match=r"block_(configs|types): got"):
            read(config)


def test_names_of_plain_modules_are_found_at_any_depth() -> None:
    settings = {"quant_method": "gptq", "ignore": ["mlp.up_proj", "model.layers.1.self_attn.q_proj", "lm_head"]}
    spec = read(small("llama", quantization_config=settings))
    plain = [set(spec.kind_of(layer).plain_tensors) for layer in range(spec.num_layers)]
    assert plain == [{"up_proj"}, {"up_proj", "q_proj"}, {"up_proj"}]
