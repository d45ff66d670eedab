"""Decoders with LayerNorm and RoPE: StarCoder 2, StableLM, Nemotron, Persimmon, Orion, Pythia, GPT-J, CodeGen."""

from __future__ import annotations

from typing import Any

from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import decoder_spec, windows_by_type
from costmodel.families.fields import Fields
from costmodel.families.heads import DECODER_HEADS, classifier
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_TWO = ("input_layernorm", "post_attention_layernorm")
OLD_HEADS = {**DECODER_HEADS, "ForTokenClassification": classifier("token_classification", "classifier")}
"""Heads of decoders from before transformers had one for all."""


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    return _READERS[fields.model_type](fields, row)


def _starcoder2(fields: Fields, row: FamilyRow) -> ModelSpec:
    bias = fields.flag_or("use_bias", True)
    layers = fields.layers("num_hidden_layers")
    windows = windows_by_type(fields, layers, fields.count_or_none("sliding_window"), default=True)
    words = Words(ups=("c_fc",), down="c_proj")
    return decoder_spec(fields, row, words, bias=bias, mlp_bias=bias, sliding_windows=windows)


def _stablelm(fields: Fields, row: FamilyRow) -> ModelSpec:
    parallel = fields.flag_or("use_parallel_residual", False)
    words = Words(
        placing="parallel" if parallel else "pre",
        norms=_TWO[: 1 if parallel else 2],
        qk_norm="each_head" if fields.flag_or("qk_layernorm", False) else "none",
        qk_norm_names=("q_layernorm", "k_layernorm"),
        rotary_share=fields.share("rope_pct" if "rope_pct" in fields.data else "partial_rotary_factor", 0.25),
        out_bias=False,
    )
    return decoder_spec(fields, row, words, bias=fields.flag_or("use_qkv_bias", False), mlp_bias=False)


def _nemotron(fields: Fields, row: FamilyRow) -> ModelSpec:
    words = Words(ups=("up_proj",), rotary_share=fields.share("partial_rotary_factor", 0.5))
    return decoder_spec(fields, row, words)


def _orion(fields: Fields, row: FamilyRow) -> ModelSpec:
    return decoder_spec(fields, row, Words(), tie_embeddings=fields.flag_or("tie_word_embeddings", False))


def _persimmon(fields: Fields, row: FamilyRow) -> ModelSpec:
    words = Words(
        qkv=("query_key_value",),
        out="dense",
        ups=("dense_h_to_4h",),
        down="dense_4h_to_h",
        qk_norm="head" if fields.flag_or("qk_layernorm", True) else "none",
        qk_norm_bias=True,
        qk_norm_names=("q_layernorm", "k_layernorm"),
        rotary_share=0.5,
        final_norm="model.final_layernorm",
    )
    return decoder_spec(fields, row, words, bias=True, mlp_bias=True)


_READERS = {
    "jais2": lambda fields, row: decoder_spec(fields, row, Words(ups=("up_proj",))),
    "nemotron": _nemotron,
    "orion": _orion,
    "persimmon": _persimmon,
    "stablelm": _stablelm,
    "stablelm_epoch": _stablelm,
    "starcoder2": _starcoder2,
}


def _read_neox(fields: Fields, row: FamilyRow) -> ModelSpec:
    parallel = fields.flag_or("use_parallel_residual", True)
    words = Words(
        placing="parallel" if parallel else "pre",
        norms=_TWO,
        attention="attention",
        qkv=("query_key_value",),
        out="dense",
        ups=("dense_h_to_4h",),
        down="dense_4h_to_h",
        rotary_share=fields.share("rotary_pct", 0.25),
        embedding="gpt_neox.embed_in",
        tables="gpt_neox.rotary_emb",
        final_norm="gpt_neox.final_layer_norm",
    )
    return decoder_spec(fields, row, words, bias=fields.flag_or("attention_bias", True), mlp_bias=True)


def _read_gptj(fields: Fields, row: FamilyRow) -> ModelSpec:
    packed = fields.model_type == "codegen"
    hidden = fields.count("n_embd")
    inner = fields.count_or_none("n_inner")
    words = Words(
        placing="parallel",
        norms=("ln_1",),
        attention="attn",
        qkv=("qkv_proj",) if packed else Words().qkv,
        out="out_proj",
        ups=("fc_in",),
        down="fc_out",
        embedding="transformer.wte",
        tables="transformer.rotary_emb",
        final_norm="transformer.ln_f",
    )
    values: dict[str, Any] = {"intermediate_size": inner or 4 * hidden, "bias": False, "mlp_bias": True}
    return decoder_spec(fields, row, words, lm_head_bias=True, **values)


LAYER_NORM_KIN = decoder_row(
    "layer-norm-kin",
    {
        "jais2": "Jais2",
        "nemotron": "Nemotron",
        "orion": "Orion",
        "persimmon": "Persimmon",
        "stablelm": "StableLm",
        "stablelm_epoch": "StableLMEpoch",
        "starcoder2": "Starcoder2",
    },
    _read,
    norm="layer_norm",
)
GPT_NEOX = decoder_row(
    "gpt-neox",
    {"gpt_neox": "GPTNeoX"},
    _read_neox,
    norm="layer_norm",
    layers="gpt_neox.layers",
    heads=OLD_HEADS,
    strided_heads=True,
)
GPTJ_ALIASES = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
    "hidden_act": "activation_function",
    "intermediate_size": "n_inner",
}
GPTJ = decoder_row(
    "gptj",
    {"gptj": "GPTJ", "codegen": "CodeGen"},
    _read_gptj,
    norm="layer_norm",
    layers="transformer.h",
    heads={**DECODER_HEADS, "ForQuestionAnswering": classifier("question_answering", "qa_outputs")},
    aliases=GPTJ_ALIASES,
)
