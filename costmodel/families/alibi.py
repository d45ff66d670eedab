"""Falcon, BLOOM and MPT: LayerNorm, q, k and v in one product, and slopes (ALiBi) or RoPE for positions."""

from __future__ import annotations

from typing import Any

from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import decoder_spec, qkv_clip_of
from costmodel.families.fields import Fields
from costmodel.families.layer_norm_kin import OLD_HEADS
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_PACKED: dict[str, Any] = {
    "attention": "self_attention",
    "qkv": ("query_key_value",),
    "out": "dense",
    "ups": ("dense_h_to_4h",),
    "down": "dense_4h_to_h",
    "embedding": "transformer.word_embeddings",
    "tables": "transformer.rotary_emb",
    "final_norm": "transformer.ln_f",
}


def _read_falcon(fields: Fields, row: FamilyRow) -> ModelSpec:
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    new = fields.flag_or("new_decoder_architecture", False)
    parallel = fields.flag_or("parallel_attn", True)
    multi_query = fields.flag_or("multi_query", True)
    norms = fields.count_or_none("num_ln_in_parallel_attn")
    norms = (2 if new else None) if norms is None else norms
    if norms is not None and not 1 <= norms <= 1 + new:
        raise fields.error("num_ln_in_parallel_attn", f"absent, null or 1{' or 2' * new}")
    kv_heads = 1 if multi_query and not new else (new and fields.count_or_none("num_kv_heads")) or heads
    names: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    if new and norms == 2:
        names = ("ln_attn", "ln_mlp")
    elif parallel or new:
        names = ("input_layernorm",)
    words = Words(
        placing="parallel" if parallel or new else "pre",
        norms=names,
        rotary=not fields.flag_or("alibi", False),
        **_PACKED,
    )
    bias = fields.flag_or("bias", False)
    return decoder_spec(
        fields,
        row,
        words,
        num_kv_heads=kv_heads,
        intermediate_size=fields.count_or_none("ffn_hidden_size") or 4 * hidden,
        activation=fields.activation("activation", "gelu"),
        bias=bias,
        mlp_bias=bias,
    )


def _read_refined_web(fields: Fields, row: FamilyRow) -> ModelSpec:
    """Falcon before transformers had it: heads of keys alone say which of the two layers it has."""
    fields.require("hidden_size", "n_layer", "n_head", "vocab_size")
    keys = fields.count_or_none("n_head_kv")
    renamed = fields.renamed({"n_layer": "num_hidden_layers", "n_head": "num_attention_heads"})
    known = renamed.with_defaults({"max_position_embeddings": 2048, "activation": "gelu"})
    return _read_falcon(known.with_values(num_kv_heads=keys, new_decoder_architecture=keys is not None), row)


def _read_bloom(fields: Fields, row: FamilyRow) -> ModelSpec:
    words = Words(rotary=False, embedding_norm="transformer.word_embeddings_layernorm", **_PACKED)
    return decoder_spec(
        fields,
        row,
        words,
        num_kv_heads=fields.count("n_head"),
        intermediate_size=4 * fields.count("hidden_size"),
        max_positions=fields.count("seq_length", 2048),
        activation="gelu_new",
        bias=True,
        mlp_bias=True,
        embedding_norm=True,
    )


def _read_mpt(fields: Fields, row: FamilyRow) -> ModelSpec:
    attention = fields.nested("attn_config")
    attention.choice("attn_type", "multihead_attention", ("multihead_attention",))
    attention.refuse("qk_ln", "norms of q and k are not supported")
    words = Words(
        norms=("norm_1", "norm_2"),
        attention="attn",
        qkv=("Wqkv",),
        out="out_proj",
        mlp="ffn",
        ups=("up_proj",),
        names=(("attn.out_proj", "attn_proj"),),
        qkv_clip=qkv_clip_of(attention, "copied"),
        rotary=False,
        embedding="transformer.wte",
        final_norm="transformer.norm_f",
    )
    hidden, heads = fields.count("d_model"), fields.count("n_heads")
    if not fields.flag_or("no_bias", True):
        raise fields.error("no_bias", "true: transformers' Mpt has no biases")
    return decoder_spec(
        fields,
        row,
        words,
        num_kv_heads=heads,
        intermediate_size=4 * hidden,
        activation="gelu",
        bias=False,
        mlp_bias=False,
        norm_bias=False,
    )


FALCON = decoder_row(
    "falcon",
    {"falcon": "Falcon"},
    _read_falcon,
    norm="layer_norm",
    layers="transformer.h",
    heads=OLD_HEADS,
    strided_heads=True,
)
REFINED_WEB = decoder_row(
    "refined-web",
    {"RefinedWeb": "RW", "RefinedWebModel": "RW"},
    _read_refined_web,
    norm="layer_norm",
    layers="transformer.h",
    heads=OLD_HEADS,
    strided_heads=True,
)
BLOOM = decoder_row(
    "bloom",
    {"bloom": "Bloom"},
    _read_bloom,
    norm="layer_norm",
    layers="transformer.h",
    heads=OLD_HEADS,
    aliases={"n_embed": "hidden_size", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head"},
    strided_heads=True,
)
MPT = decoder_row(
    "mpt",
    {"mpt": "Mpt"},
    _read_mpt,
    norm="layer_norm",
    layers="transformer.blocks",
    heads=OLD_HEADS,
    aliases={
        "hidden_size": "d_model",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "max_position_embeddings": "max_seq_len",
    },
    strided_heads=True,
)
