"""Llama's kin: RMSNorm, RoPE and the same seven linears or six, with a word or two of their own each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import decoder_spec, windows_by_type
from costmodel.families.decoder_layer import extra_params
from costmodel.families.fields import Fields
from costmodel.families.lists import letters
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_BEHIND = ("post_attention_layernorm", "post_feedforward_layernorm")
_AROUND = ("input_layernorm", "post_norm1", "post_attention_layernorm", "post_norm2")
_PLAIN = Words()
SCALED = Words(embedding_scale=True, residual_scale=True, logit_kernels=1)
"""Granite's: numbers multiply embeddings, residuals and logits."""
_HEAD_NORMS = Words(qk_norm="head")
_HUNYUAN = Words(qk_norm="head", qk_norm_names=("query_layernorm", "key_layernorm"))
_QWEN2 = {
    "qwen2_vl_text": "Qwen2VLText",
    "qwen2_5_vl_text": "Qwen2_5_VLText",
    "qwen2_5_omni_text": "Qwen2_5OmniThinkerText",
}
"""Types that are Qwen2 with positions in space."""


def _windows(fields: Fields, default: bool = False) -> tuple[int | None, ...]:
    layers = fields.layers("num_hidden_layers")
    return windows_by_type(fields, layers, fields.count_or_none("sliding_window"), default=default)


def _qwen_windows(fields: Fields) -> tuple[int | None, ...]:
    layers = fields.layers("num_hidden_layers")
    window = fields.count_or_none("sliding_window") if fields.flag_or("use_sliding_window", False) else None
    if not fields.given("layer_types") and window is not None:
        first = fields.count("max_window_layers", 28, minimum=0)
        return tuple(window if layer >= first else None for layer in range(layers))
    return windows_by_type(fields, layers, window)


def every_fourth_full(fields: Fields) -> tuple[int | None, ...]:
    """Windows by `layer_types`; without them the first of four layers sees all."""
    layers, window = fields.layers("num_hidden_layers"), fields.count_or_none("sliding_window")
    if not fields.given("layer_types"):
        return tuple(window if layer % 4 else None for layer in range(layers))
    return windows_by_type(fields, layers, window)


def _of_ministral(fields: Fields) -> dict[str, Any]:
    return {"bias": False, "mlp_bias": False, "sliding_windows": _windows(fields, default=True)}


def _of_qwen2(fields: Fields) -> dict[str, Any]:
    return {"bias": True, "mlp_bias": False, "sliding_windows": _qwen_windows(fields)}


def _of_helium(fields: Fields) -> dict[str, Any]:
    hidden, width = fields.count("hidden_size"), fields.count_or_none("head_dim")
    if width is not None and width * fields.count("num_attention_heads") != hidden:
        raise fields.error("head_dim", f"hidden_size {hidden} over num_attention_heads")
    return {}


def _biased(fields: Fields) -> dict[str, Any]:
    bias = fields.flag_or("use_bias", False)
    return {"bias": bias, "mlp_bias": bias}


_KIN: dict[str, tuple[str, Words, Callable[[Fields], dict[str, Any]]]] = {
    "arcee": ("Arcee", Words(ups=("up_proj",)), lambda fields: {}),
    "bitnet": (
        "BitNet",
        Words(attention_norm="attn_sub_norm", mlp_norm="ffn_sub_norm"),
        lambda fields: {"mlp_bias": False},
    ),
    "cwm": ("Cwm", _PLAIN, lambda fields: {"bias": False, "sliding_windows": every_fourth_full(fields)}),
    "ernie4_5": ("Ernie4_5", _PLAIN, _biased),
    "exaone4": (
        "Exaone4",
        Words(placing="post", norms=_BEHIND, qk_norm="head"),
        lambda fields: {"bias": False, "mlp_bias": False, "sliding_windows": _exaone_windows(fields)},
    ),
    "granite": ("Granite", SCALED, lambda fields: {}),
    "granite_swa": (
        "GraniteSWA",
        replace(SCALED, sinks=True),
        lambda fields: {"sliding_windows": every_fourth_full(fields)},
    ),
    "helium": ("Helium", Words(out_bias=False), _of_helium),
    "hunyuan_v1_dense": ("HunYuanDenseV1", _HUNYUAN, lambda fields: {"mlp_bias": False}),
    "hunyuan_vl_text": ("HunYuanVLText", _HUNYUAN, lambda fields: {"mlp_bias": False}),
    "hyperclovax": ("HyperCLOVAX", SCALED, lambda fields: {}),
    "ministral": ("Ministral", _PLAIN, _of_ministral),
    "ministral3": ("Ministral3", _PLAIN, _of_ministral),
    "iquestcoder": ("IQuestCoder", _PLAIN, lambda fields: {}),
    **{name: (prefix, Words(out_bias=False), _of_qwen2) for name, prefix in _QWEN2.items()},
    "qwen3_vl_text": ("Qwen3VLText", _HEAD_NORMS, lambda fields: {"mlp_bias": False}),
    "seed_oss": ("SeedOss", _PLAIN, lambda fields: {"attn_out_bias": fields.flag_or("attention_out_bias", False)}),
    "smollm3": ("SmolLM3", _PLAIN, lambda fields: {"sliding_windows": _smollm_windows(fields)}),
}
"""model_type -> how its classes' names begin, its words, and what its fields say otherwise than Llama's."""


def _exaone_windows(fields: Fields) -> tuple[int | None, ...]:
    layers = fields.layers("num_hidden_layers")
    window = fields.count_or_none("sliding_window")
    if window is None:
        return (None,) * layers
    name = "sliding_window_pattern"
    if fields.is_text(name):
        near = [kind == "local" for kind in letters(fields, name, {"L": "local", "G": "global"}) or []]
        if not fields.given("layer_types"):
            return tuple(window if near[layer % len(near)] else None for layer in range(layers))
    every = 4 if fields.is_text(name) else fields.count_or_none(name, 4) or 4
    return windows_by_type(fields, layers, window, every=every)


def _smollm_windows(fields: Fields) -> tuple[int | None, ...]:
    return (
        _windows(fields)
        if fields.flag_or("use_sliding_window", False)
        else (None,) * fields.layers("num_hidden_layers")
    )


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    _, words, values = _KIN[fields.model_type]
    if fields.model_type == "hyperclovax" and fields.flag_or("use_post_norm", True):
        words = replace(SCALED, placing="sandwich", norms=_AROUND)
    return decoder_spec(fields, row, words, **values(fields))


LLAMA_KIN = decoder_row("llama-kin", {name: kin[0] for name, kin in _KIN.items()}, _read, norm="rms_norm")


def _read_apertus(fields: Fields, row: FamilyRow) -> ModelSpec:
    words = Words(norms=("attention_layernorm", "feedforward_layernorm"), ups=("up_proj",), qk_norm="head")
    return decoder_spec(fields, row, words, activation=fields.activation("hidden_act", "xielu"), mlp_bias=False)


def _apertus_params(spec: ModelSpec) -> int:
    """Beside the norms of q and k the two numbers of xIELU (arXiv 2411.13010)."""
    return extra_params(spec) + (2 if spec.activation == "xielu" else 0)


APERTUS = decoder_row("apertus", {"apertus": "Apertus"}, _read_apertus, norm="rms_norm", other_params=_apertus_params)


def _read_nanochat(fields: Fields, row: FamilyRow) -> ModelSpec:
    capped = fields.number_or_none("final_logit_softcapping", 10**6) is not None
    words = Words(
        ups=("fc1",), down="fc2", qk_norm="head", embedding_norm="model.norm", logit_kernels=3 if capped else 0
    )
    return decoder_spec(fields, row, words, mlp_bias=False, norm_affine=False, embedding_norm=True)


NANOCHAT = decoder_row("nanochat", {"nanochat": "NanoChat"}, _read_nanochat, norm="rms_norm")
