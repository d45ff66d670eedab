"""Phi 1 to 2: one LayerNorm before attention and MLP together, also in the older layout of the repository's own code
(`phi-msft`). Phi 3 and 4: RMSNorm, packed projections."""

from __future__ import annotations

from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import decoder_spec, windows_by_type
from costmodel.families.fields import Fields
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words


def _read_phi(fields: Fields, row: FamilyRow) -> ModelSpec:
    words = Words(
        placing="parallel",
        norms=("input_layernorm",),
        out="dense",
        ups=("fc1",),
        down="fc2",
        qk_norm="head" if fields.flag_or("qk_layernorm", False) else "none",
        qk_norm_bias=True,
        qk_norm_names=("q_layernorm", "k_layernorm"),
        rotary_share=fields.share("partial_rotary_factor", 0.5),
        final_norm="model.final_layernorm",
    )
    return decoder_spec(fields, row, words, bias=True, mlp_bias=True, lm_head_bias=True)


def _read_phi_msft(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.require("n_embd", "n_head", "n_layer", "vocab_size")
    hidden, head_dim = fields.count("n_embd"), fields.head_dim("n_head", "n_embd")
    turned = fields.count("rotary_dim", 32)
    if turned > head_dim:
        raise fields.error("rotary_dim", f"at most a head's width, {head_dim}")
    words = Words(
        placing="parallel",
        norms=("ln",),
        attention="mixer",
        qkv=("Wqkv",),
        out="out_proj",
        ups=("fc1",),
        down="fc2",
        rotary_share=turned / head_dim,
        embedding="transformer.embd.wte",
        tables="transformer.rotary",
        final_norm="lm_head.ln",
        lm_head="lm_head.linear",
        layers="transformer.h",
    )
    return decoder_spec(
        fields,
        row,
        words,
        intermediate_size=fields.count_or_none("n_inner") or 4 * hidden,
        max_positions=fields.count("n_positions", 2048),
        activation=fields.activation("activation_function", "gelu_new"),
        bias=True,
        mlp_bias=True,
        lm_head_bias=True,
        tie_embeddings=fields.flag_or("tie_word_embeddings", False),
    )


def _read_phi3(fields: Fields, row: FamilyRow) -> ModelSpec:
    layers = fields.layers("num_hidden_layers")
    window = fields.count_or_none("sliding_window")
    words = Words(
        qkv=("qkv_proj",),
        ups=("gate_up_proj",),
        packed_gate=True,
        rotary_share=fields.share("partial_rotary_factor", 1.0),
    )
    windows = windows_by_type(fields, layers, window, default=True)
    return decoder_spec(fields, row, words, bias=False, mlp_bias=False, sliding_windows=windows)


def _read_phi3_small(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.require("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "ff_intermediate_size")
    words = Words(
        qkv=("query_key_value",),
        out="dense",
        ups=("up_proj",),
        packed_gate=True,
        embedding_scale=True,
        logit_kernels=1,
        final_norm="model.final_layernorm",
    )
    every = fields.count_or_none("dense_attention_every_n_layers")
    return decoder_spec(
        fields,
        row,
        words,
        max_positions=fields.count("max_position_embeddings", 8192),
        activation="quick_gelu",
        bias=True,
        mlp_bias=True,
        tie_embeddings=fields.flag_or("tie_word_embeddings", True),
        notes=("its block-sparse attention is priced as attention to all positions, an upper bound",)
        if every != 1
        else (),
    )


PHI = decoder_row("phi", {"phi": "Phi"}, _read_phi, norm="layer_norm")
PHI_MSFT = decoder_row(
    "phi-msft",
    {"phi-msft": "Phi"},
    _read_phi_msft,
    norm="layer_norm",
    layers="transformer.h",
    aliases={
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "num_key_value_heads": "n_head_kv",
        "intermediate_size": "n_inner",
        "max_position_embeddings": "n_positions",
    },
    strided_heads=True,
)
PHI3 = decoder_row("phi3", {"phi3": "Phi3"}, _read_phi3, norm="rms_norm", strided_heads=True)
PHI3_SMALL = decoder_row(
    "phi3-small",
    {"phi3small": "Phi3Small"},
    _read_phi3_small,
    norm="layer_norm",
    aliases={"intermediate_size": "ff_intermediate_size"},
    strided_heads=True,
)
