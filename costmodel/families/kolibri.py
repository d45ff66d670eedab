"""Kolibri 1: norms around both blocks, norms of q and k, experts with a shared one in every layer, windows in four of
five layers."""

from __future__ import annotations

from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import decoder_spec, windows_by_type
from costmodel.families.experts import read_experts
from costmodel.families.fields import Fields
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_WORDS = Words(
    placing="sandwich",
    norms=("input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm"),
    qk_norm="head",
)


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    experts = read_experts(
        fields,
        "num_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        shared_intermediate_size=fields.count("shared_expert_intermediate_size"),
    )
    layers, window = fields.layers("num_hidden_layers"), fields.count("sliding_window")
    return decoder_spec(
        fields,
        row,
        _WORDS,
        intermediate_size=experts.intermediate_size,
        bias=False,
        mlp_bias=False,
        experts=experts,
        sliding_windows=windows_by_type(fields, layers, window, every=5),
    )


KOLIBRI = decoder_row("kolibri", {"kolibri1": "Kolibri1"}, _read, norm="rms_norm")
