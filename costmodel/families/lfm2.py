"""LFM2 and LFM2-MoE: short gated convolutions in most layers, grouped-query attention in the others."""

from __future__ import annotations

from typing import Any

from costmodel.blocks import Experts, ShortConv
from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import by_kind, decoder_spec
from costmodel.families.fields import Fields
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
        experts = Experts(
            number=fields.count("num_experts"),
            per_token=fields.count("num_experts_per_tok"),
            intermediate_size=fields.count("moe_intermediate_size"),
        )
    kinds = [f"{kind}, dense" if not each and experts else kind for kind, each in zip(types, sparse, strict=True)]
    own: dict[str, dict[str, object]] = {
        kind: {
            **({"attends": False} if kind.startswith("conv") else {"recurrent": None}),
            **({"experts": None} if kind.endswith("dense") else {}),
        }
        for kind in kinds
    }
    values: dict[str, Any] = {} if fields.model_type == "lfm2_moe" else {"intermediate_size": _inner(fields)}
    tied = fields.data.get("tie_embedding", fields.data.get("tie_word_embeddings", True))
    return decoder_spec(
        fields,
        row,
        _WORDS,
        recurrent=conv,
        experts=experts,
        bias=False,
        mlp_bias=False,
        tie_embeddings=tied is not False,
        **values,
        **by_kind(kinds, own),
    )


def _types(fields: Fields, layers: int) -> list[str]:
    types = fields.data.get("layer_types")
    if types is None:
        attending = fields.data.get("full_attn_idxs")
        attending = range(layers) if attending is None else attending
        if not isinstance(attending, list | range):
            raise fields.error("full_attn_idxs", "a list of numbers of layers")
        return ["attention" if layer in attending else "conv" for layer in range(layers)]
    known = ("conv", "full_attention")
    if not isinstance(types, list) or len(types) < layers or not all(kind in known for kind in types):
        raise fields.error("layer_types", f"{' or '.join(known)} for each of {layers} layers")
    return ["conv" if kind == "conv" else "attention" for kind in types[:layers]]


def _inner(fields: Fields) -> int:
    """Width of the MLP: two thirds of what the field says, times a factor, rounded up, unless that is switched off."""
    inner = fields.count("block_ff_dim", fields.count("intermediate_size"))
    if not fields.flag_or("block_auto_adjust_ff_dim", True):
        return inner
    inner = 2 * inner // 3
    factor = fields.data.get("block_ffn_dim_multiplier")
    if factor is None:
        return inner
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor <= 100:
        raise fields.error("block_ffn_dim_multiplier", "a number above 0 and up to 100")
    multiple = fields.count("block_multiple_of")
    return -(-int(factor * inner) // multiple) * multiple


LFM2 = decoder_row("lfm2", {"lfm2": "Lfm2", "lfm2_moe": "Lfm2Moe"}, _read, norm="rms_norm")
