"""LFM2 and LFM2-MoE: short gated convolutions in most layers, grouped-query attention in the others."""

from __future__ import annotations

from typing import Any

from costmodel.blocks import ShortConv
from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import by_kind, decoder_spec
from costmodel.families.experts import read_experts
from costmodel.families.fields import Fields
from costmodel.families.lists import layer_numbers, names_by_layer
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_WORDS = Words(
    norms=("operator_norm", "ffn_norm"),
    mixer="conv",
    out="out_proj",
    mlp="feed_forward",
    ups=("w1", "w3"),
    down="w2",
    names=(("self_attn.out_proj", "o_proj"),),
    qk_norm="head",
    qk_norm_names=("q_layernorm", "k_layernorm"),
    final_norm="model.embedding_norm",
)


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    layers, hidden = fields.layers("num_hidden_layers"), fields.count("hidden_size")
    conv = ShortConv(width=hidden, kernel=fields.count("conv_L_cache", 3), bias=fields.flag_or("conv_bias", False))
    types = _types(fields, layers)
    sparse = [False] * layers
    experts = None
    if fields.model_type == "lfm2_moe":
        dense = fields.count("num_dense_layers", minimum=0)
        sparse = [layer >= dense for layer in range(layers)]
        experts = read_experts(fields, "num_experts", "num_experts_per_tok", "moe_intermediate_size")
    kinds = [f"{kind}, dense" if not each and experts else kind for kind, each in zip(types, sparse, strict=True)]
    own: dict[str, dict[str, object]] = {
        kind: {
            **({"attends": False} if kind.startswith("conv") else {"recurrent": None}),
            **({"experts": None} if kind.endswith("dense") else {}),
        }
        for kind in kinds
    }
    values: dict[str, Any] = {} if fields.model_type == "lfm2_moe" else {"intermediate_size": _inner(fields)}
    tied = fields.flag_or("tie_embedding", fields.flag_or("tie_word_embeddings", True))
    return decoder_spec(
        fields,
        row,
        _WORDS,
        recurrent=conv,
        experts=experts,
        bias=False,
        mlp_bias=False,
        tie_embeddings=tied,
        **values,
        **by_kind(kinds, own),
    )


def _types(fields: Fields, layers: int) -> list[str]:
    types = names_by_layer(fields, "layer_types", layers, ("conv", "full_attention"))
    if types is None:
        attending = layer_numbers(fields, "full_attn_idxs")
        return ["attention" if attending is None or layer in attending else "conv" for layer in range(layers)]
    return ["conv" if kind == "conv" else "attention" for kind in types]


def _inner(fields: Fields) -> int:
    """Width of the MLP: two thirds of what the field says, times a factor, rounded up, unless that is switched off."""
    inner = fields.count("block_ff_dim", fields.count("intermediate_size"))
    if not fields.flag_or("block_auto_adjust_ff_dim", True):
        return inner
    inner = 2 * inner // 3
    factor = fields.number_or_none("block_ffn_dim_multiplier", 100)
    if factor is None:
        return inner
    multiple = fields.count("block_multiple_of")
    return -(-int(factor * inner) // multiple) * multiple


LFM2 = decoder_row("lfm2", {"lfm2": "Lfm2", "lfm2_moe": "Lfm2Moe"}, _read, norm="rms_norm")
