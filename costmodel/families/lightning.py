"""MiniMax-Text-01 and M1, Ling and Ring: Lightning Attention in most layers, or attention in all, and experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from costmodel.blocks import Lightning
from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import by_kind, decoder_spec
from costmodel.families.experts import read_experts
from costmodel.families.fields import Fields
from costmodel.families.lists import marks_by_layer
from costmodel.families.rotary import read_layer_types
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_LINEAR, _FULL = "linear_attention", "full_attention"
_MINIMAX = Words(mixer="self_attn", residual_scale=True)
_OWN = ("minimax_text_01", "minimax_m1")
"""Types of the repository's own code, whose layers are those of transformers' minimax under other names."""
_LING = Words(
    attention="attention",
    mixer="attention",
    qkv=("query_key_value",),
    out="dense",
    linear=("query_key_value", "g_proj", "g_norm", "dense"),
    qk_norm_names=("query_layernorm", "key_layernorm"),
    embedding="model.word_embeddings",
)


def _kinds(types: list[str]) -> dict[str, Any]:
    return by_kind(types, {_LINEAR: {"attends": False}, _FULL: {"recurrent": None}})


def _read_minimax(fields: Fields, row: FamilyRow) -> ModelSpec:
    layers, words = fields.layers("num_hidden_layers"), _MINIMAX
    heads = fields.count("num_attention_heads")
    width = fields.count_or_none("head_dim") or fields.head_dim("num_attention_heads", "hidden_size")
    types = read_layer_types(fields, layers, (_LINEAR, _FULL))
    if fields.model_type in _OWN:
        fields.refuse("shared_intermediate_size", "a shared expert is not supported")
        marks = marks_by_layer(fields, "attn_type_list", layers)
        if marks is None:
            raise fields.error("attn_type_list", f"0 for linear attention or 1 for each of {layers} layers")
        types = [_FULL if each else _LINEAR for each in marks]
        turned = fields.count("rotary_dim", width)
        if turned > width:
            raise fields.error("rotary_dim", f"at most a head's width, {width}")
        words = replace(words, mlp="block_sparse_moe", rotary_share=turned / width)
    return decoder_spec(
        fields,
        row,
        words,
        recurrent=Lightning(heads=heads, head_dim=width, chunk=fields.count("block_size", 256)),
        experts=read_experts(fields, "num_local_experts", "num_experts_per_tok", "intermediate_size"),
        tie_embeddings=fields.flag_or("tie_word_embeddings", False),
        bias=False,
        mlp_bias=False,
        **_kinds(types or [_LINEAR if layer % 2 else _FULL for layer in range(layers)]),
    )


MINIMAX = decoder_row(
    "minimax",
    {"minimax": "MiniMax", "minimax_text_01": "MiniMaxText01", "minimax_m1": "MiniMaxM1"},
    _read_minimax,
    norm="rms_norm",
)

_LINGS: Mapping[str, str] = {
    "bailing_moe": "BailingMoe",
    "bailing_moe_v2": "BailingMoeV2",
    "bailing_moe_linear": "BailingMoeLinearV2",
}


def _read_ling(fields: Fields, row: FamilyRow) -> ModelSpec:
    kind, layers = fields.model_type, fields.layers("num_hidden_layers")
    first = fields.count("first_k_dense_replace", 0, minimum=0)
    if kind == "bailing_moe":
        fields.refuse("use_qk_norm", "norms of q and k are those of class BailingMoeV2ForCausalLM")
    normed = kind != "bailing_moe" and fields.flag_or("use_qk_norm", True)
    width = fields.count_or_none("head_dim") or fields.head_dim("num_attention_heads", "hidden_size")
    shared = "num_shared_experts" if fields.count_or_none("num_shared_experts", minimum=0) else ""
    experts = read_experts(fields, "num_experts", "num_experts_per_tok", "moe_intermediate_size", shared)
    options: dict[str, Any] = {}
    types = [_FULL] * layers
    if kind == "bailing_moe_linear":
        heads, size = fields.count("num_attention_heads"), fields.count("layer_group_size")
        options["recurrent"] = Lightning(heads=heads, head_dim=width, chunk=64, qk_norm=normed)
        full = [layer for layer in range(layers) if (layer + 1) % size == 0 or layer >= layers // size * size]
        types = [_FULL if layer in full else _LINEAR for layer in range(layers)]
    kinds = [each + (", dense" if layer < first else "") for layer, each in enumerate(types)]
    own: dict[str, dict[str, object]] = {
        each: {
            **({"attends": False} if each.startswith(_LINEAR) else {"recurrent": None}),
            **({"experts": None} if each.endswith("dense") else {}),
        }
        for each in kinds
    }
    bias = fields.flag_or("use_bias", False)
    return decoder_spec(
        fields,
        row,
        replace(_LING, qk_norm="head" if normed else "none", out_bias=bias),
        head_dim=width,
        bias=bias or fields.flag_or("use_qkv_bias", False),
        mlp_bias=False,
        experts=experts,
        tie_embeddings=fields.flag_or("tie_word_embeddings", False),
        **options,
        **by_kind(kinds, own),
    )


LING = decoder_row("ling", _LINGS, _read_ling, norm="rms_norm")
