"""Encoders of other make than BERT: ModernBERT, Nomic BERT, GTE and ESM, with RoPE, gates or norms before blocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from costmodel.families.bert import HEADS as BERT_HEADS
from costmodel.families.encoders import BERT_WORDS, BY_FIRST_TOKEN, encoder_row, encoder_spec
from costmodel.families.fields import Fields
from costmodel.families.heads import classifier, masked_lm, masked_lm_parts, no_head
from costmodel.families.nomic_moe import nomic_params, read_nomic_moe
from costmodel.families.row import FamilyRow
from costmodel.head import Head, linear, norm
from costmodel.model import ModelSpec
from costmodel.words import Words

# EuroBERT: Llama's layers, seeing both sides


def _read_eurobert(fields: Fields, row: FamilyRow) -> ModelSpec:
    return encoder_spec(
        fields,
        row,
        Words(embedding="embed_tokens", final_norm="norm", tables="rotary_emb"),
        bias=fields.flag_or("attention_bias", False),
        mlp_bias=fields.flag_or("mlp_bias", False),
        embedding_norm=False,
        final_norm=True,
        head_width=0 if fields.flag_or("tie_word_embeddings", False) else fields.count("hidden_size"),
    )


def _eurobert_lm(spec: ModelSpec, labels: int) -> Head:
    tied = not spec.head_width
    last = linear("lm_head", spec.vocab_size, spec.hidden_size, bias=spec.mlp_bias, vocabulary=True, tied=tied)
    return Head(kind="masked_lm", parts=(last,))


EUROBERT = encoder_row(
    "eurobert",
    {"eurobert": "EuroBert"},
    _read_eurobert,
    norm="rms_norm",
    layers="layers",
    heads={
        "Model": no_head,
        "ForMaskedLM": _eurobert_lm,
        "ForSequenceClassification": classifier("sequence_classification", "dense", "classifier", first_token=True),
        "ForTokenClassification": classifier("token_classification", "classifier"),
    },
)

# ModernBERT


def _read_modernbert(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.refuse("classifier_bias", "a bias of the head's first linear is not supported")
    layers = fields.layers("num_hidden_layers")
    rest = Words(
        norms=("attn_norm", "mlp_norm"),
        attention="attn",
        qkv=("Wqkv",),
        out="Wo",
        mlp="mlp",
        ups=("Wi",),
        packed_gate=True,
        down="Wo",
        names=(("attn.Wo", "attn_output"), ("mlp.Wo", "mlp_output")),
        embedding="embeddings.tok_embeddings",
        embedding_norm="embeddings.norm",
        tables="rotary_emb",
        final_norm="final_norm",
    )
    bias, mlp_bias = fields.flag_or("attention_bias", False), fields.flag_or("mlp_bias", False)
    spec = encoder_spec(
        fields,
        row,
        rest,
        activation=fields.activation("hidden_activation", "gelu"),
        bias=bias,
        mlp_bias=mlp_bias,
        norm_bias=fields.flag_or("norm_bias", False),
        lm_head_bias=fields.flag_or("decoder_bias", True),
        final_norm=True,
        layer_kinds=("first", *["other"] * (layers - 1)),
        kind_fields={"first": {"words": _without_first_norm(rest), "layer_norms": 1}},
    )
    return spec


def _without_first_norm(words: Words) -> Words:
    return replace(words, norms=("", *words.norms[1:]))


def _modern_head(kind: Any, outputs: int | None = None) -> Any:
    def make(spec: ModelSpec, labels: int) -> Head:
        wide = spec.hidden_size
        dense = linear("head.dense", wide, wide, bias=False, activation=True, first_token=kind in _BY_SEQUENCE)
        after = norm("head.norm", wide, bias=spec.norm_bias, first_token=kind in _BY_SEQUENCE)
        if kind == "masked_lm":
            last = linear("decoder", spec.vocab_size, wide, bias=spec.lm_head_bias, tied=True)
        else:
            last = linear("classifier", outputs or labels, wide, first_token=kind in _BY_SEQUENCE)
        return Head(kind=kind, parts=(dense, after, last), labels=0 if kind == "masked_lm" else last.out_features)

    return make


_BY_SEQUENCE = ("sequence_classification", "multiple_choice")
MODERNBERT = encoder_row(
    "modernbert",
    {"modernbert": "ModernBert"},
    _read_modernbert,
    layers="layers",
    strided_heads=True,
    heads={
        "Model": no_head,
        "ForMaskedLM": _modern_head("masked_lm"),
        "ForSequenceClassification": _modern_head("sequence_classification"),
        "ForTokenClassification": _modern_head("token_classification"),
        "ForQuestionAnswering": _modern_head("question_answering"),
        "ForMultipleChoice": _modern_head("multiple_choice", 1),
    },
)

# Nomic BERT, GTE


def _read_gated(fields: Fields, row: FamilyRow) -> ModelSpec:
    """Nomic BERT; GTE, and GTE before transformers had it ("new"), whose projections are packed."""
    if fields.model_type == "nomic_bert" and fields.count_or_none("num_experts", minimum=0):
        return read_nomic_moe(fields, row)
    gte, packed = fields.model_type != "nomic_bert", fields.model_type == "new"
    words = Words(
        placing="after",
        norms=("attn_ln", "mlp_ln") if packed else ("post_attention_layernorm", "post_mlp_layernorm"),
        attention="attention" if packed else "self_attn",
        qkv=("qkv_proj",) if packed else Words().qkv,
        ups=("up_gate_proj",) if packed else Words().ups,
        packed_gate=packed,
        embedding="embeddings.word_embeddings",
        embedding_norm="embeddings.LayerNorm",
        tables="rotary_emb",
        down_bias=gte,
    )
    if packed:
        fields.require("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
        fields.choice("position_embedding_type", "rope", ("rope",))
    if not gte:
        fields.choice("activation_function", "swiglu", ("swiglu",))
    types = fields.count("type_vocab_size", 0, minimum=0)
    positions = fields.count("max_position_embeddings", 8192)
    return encoder_spec(fields, row, words, bias=gte, mlp_bias=False, token_types=types, max_positions=positions)


_NOMIC_LM = ("cls.predictions.transform.dense", "cls.predictions.transform.layer_norm", "cls.predictions.decoder")
_GTE_LM = ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder")
NOMIC_BERT = encoder_row(
    "nomic-bert",
    {"nomic_bert": "NomicBert", "gte": "Gte", "new": "New"},
    _read_gated,
    layers="layers",
    other_params=nomic_params,
    aliases={
        "n_embd": "hidden_size",
        "n_head": "num_attention_heads",
        "n_inner": "intermediate_size",
        "n_layer": "num_hidden_layers",
        "n_positions": "max_position_embeddings",
    },
    heads={
        "Model": no_head,
        "ForMaskedLM": lambda spec, labels: Head(
            kind="masked_lm",
            parts=masked_lm_parts(spec, *_NOMIC_LM)
            if spec.model_type == "nomic_bert"
            else masked_lm_parts(spec, *_GTE_LM, second_bias=False),
        ),
        "ForSequenceClassification": BERT_HEADS["ForSequenceClassification"],
        "ForTokenClassification": classifier("token_classification", "classifier"),
    },
)

# ESM


def _read_esm(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.refuse("is_folding_model", "folding heads are not supported")
    learned = fields.choice("position_embedding_type", "absolute", ("absolute", "rotary")) == "absolute"
    words = replace(
        BERT_WORDS,
        placing="pre",
        norms=("attention.LayerNorm", "LayerNorm"),
        rotary=not learned,
        embedding_norm="embeddings.layer_norm",
        tables="rotary_embeddings",
        final_norm="encoder.emb_layer_norm_after",
    )
    return encoder_spec(
        fields,
        row,
        words,
        activation="gelu",
        final_norm=True,
        embedding_norm=fields.flag_or("emb_layer_norm_before", False),
        position_rows=fields.count("max_position_embeddings") if learned else 0,
        pooler=True,
        other_outer_params=fields.layers("num_hidden_layers") * fields.count("num_attention_heads") + 1,
    )


ESM = encoder_row(
    "esm",
    {"esm": "Esm"},
    _read_esm,
    heads={
        "Model": no_head,
        "ForMaskedLM": masked_lm("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", second_bias=False),
        "ForSequenceClassification": BY_FIRST_TOKEN,
        "ForTokenClassification": classifier("token_classification", "classifier"),
    },
)
