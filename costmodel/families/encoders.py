"""Encoders put together as BERT is: DistilBERT, MPNet, ELECTRA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from costmodel.families.bert import HEADS as BERT_HEADS
from costmodel.families.decoder import Read, decoder_row
from costmodel.families.decoder_fields import decoder_spec
from costmodel.families.fields import Fields
from costmodel.families.heads import Heads, classifier, masked_lm, no_head
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_QKV = (("q_lin", "query"), ("k_lin", "key"), ("v_lin", "value"), ("q", "query"), ("k", "key"), ("v", "value"))
_NAMES = (
    *_QKV,
    ("out_lin", "attn_output"),
    ("o", "attn_output"),
    ("output.dense", "output"),
    ("intermediate.dense", "intermediate"),
    ("lin1", "intermediate"),
    ("lin2", "output"),
)
BERT_WORDS = Words(
    placing="after",
    norms=("attention.output.LayerNorm", "output.LayerNorm"),
    attention="attention",
    qkv=("self.query", "self.key", "self.value"),
    out="output.dense",
    mlp="",
    ups=("intermediate.dense",),
    down="output.dense",
    names=(
        ("self.query", "query"),
        ("self.key", "key"),
        ("self.value", "value"),
        ("attention.output.dense", "attn_output"),
        (".output.dense", "output"),
        ("intermediate.dense", "intermediate"),
    ),
    rotary=False,
    embedding="embeddings.word_embeddings",
    position_table="embeddings.position_embeddings",
    embedding_norm="embeddings.LayerNorm",
)
"""BERT's layer and embeddings; what is put together as it is differs in a word or two."""
BY_FIRST_TOKEN = classifier("sequence_classification", "classifier.dense", "classifier.out_proj", first_token=True)
"""Sequences classified by their first token, without a pooler."""
LINEAR_HEADS: Heads = {
    "Model": no_head,
    "ForTokenClassification": classifier("token_classification", "classifier"),
    "ForQuestionAnswering": classifier("question_answering", "qa_outputs"),
}
"""Heads of one linear over each token."""


def encoder_spec(fields: Fields, row: FamilyRow, words: Words, **values: Any) -> ModelSpec:
    """A model whose linears have biases and whose embeddings a norm follows, unless `values` say otherwise."""
    options: dict[str, Any] = {"bias": True, "mlp_bias": True, "final_norm": False, "embedding_norm": True, **values}
    return decoder_spec(fields, row, words, **options)


def encoder_row(name: str, classes: Mapping[str, str], read: Read, *, heads: Heads, **options: Any) -> FamilyRow:
    """The row of a family with BERT's norms and module path of layers, unless `options` of `decoder_row` say
    otherwise."""
    kept: dict[str, Any] = {"norm": "layer_norm", "layers": "encoder.layer", **options}
    return decoder_row(name, classes, read, causal=False, heads=heads, **kept)


# DistilBERT


def _read_distilbert(fields: Fields, row: FamilyRow) -> ModelSpec:
    words = replace(
        BERT_WORDS,
        norms=("sa_layer_norm", "output_layer_norm"),
        qkv=("q_lin", "k_lin", "v_lin"),
        out="out_lin",
        mlp="ffn",
        ups=("lin1",),
        down="lin2",
        names=_NAMES,
    )
    return encoder_spec(fields, row, words, position_rows=fields.count("max_position_embeddings"))


DISTILBERT = encoder_row(
    "distilbert",
    {"distilbert": "DistilBert"},
    _read_distilbert,
    layers="transformer.layer",
    aliases={
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
    },
    heads={
        **LINEAR_HEADS,
        "ForMaskedLM": masked_lm("vocab_transform", "vocab_layer_norm", "vocab_projector", second_bias=False),
        "ForSequenceClassification": classifier(
            "sequence_classification", "pre_classifier", "classifier", first_token=True
        ),
        "ForMultipleChoice": classifier("multiple_choice", "pre_classifier", "classifier", first_token=True, outputs=1),
    },
)

# MPNet


def _read_mpnet(fields: Fields, row: FamilyRow) -> ModelSpec:
    words = replace(
        BERT_WORDS,
        norms=("attention.LayerNorm", "output.LayerNorm"),
        attention="attention.attn",
        qkv=("q", "k", "v"),
        out="o",
        names=_NAMES,
    )
    rows = fields.count("max_position_embeddings")
    buckets = fields.count("relative_attention_num_buckets", 32)
    return encoder_spec(
        fields,
        row,
        words,
        position_rows=rows,
        max_positions=rows - 2,
        pooler=True,
        other_outer_params=buckets * fields.count("num_attention_heads"),
    )


MPNET = encoder_row(
    "mpnet",
    {"mpnet": "MPNet"},
    _read_mpnet,
    heads={
        **LINEAR_HEADS,
        "ForMaskedLM": masked_lm("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder"),
        "ForSequenceClassification": BY_FIRST_TOKEN,
        "ForMultipleChoice": BERT_HEADS["ForMultipleChoice"],
    },
)

# ELECTRA


def _read_electra(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.refuse("is_decoder", "only the encoder is supported, without cross-attention")
    fields.refuse("add_cross_attention", "only the encoder is supported, without cross-attention")
    if not fields.flag_or("summary_use_proj", True):
        raise fields.error("summary_use_proj", "true")
    return encoder_spec(
        fields,
        row,
        BERT_WORDS,
        embed_dim=fields.count("embedding_size"),
        narrow_embeddings=True,
        position_rows=fields.count("max_position_embeddings"),
        token_types=fields.count("type_vocab_size"),
    )


ELECTRA = encoder_row(
    "electra",
    {"electra": "Electra"},
    _read_electra,
    heads={
        **LINEAR_HEADS,
        "ForMaskedLM": masked_lm(
            "generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head", second_bias=False
        ),
        "ForPreTraining": classifier(
            "pretraining", "discriminator_predictions.dense", "discriminator_predictions.dense_prediction", outputs=1
        ),
        "ForSequenceClassification": BY_FIRST_TOKEN,
        "ForMultipleChoice": classifier(
            "multiple_choice", "sequence_summary.summary", "classifier", first_token=True, outputs=1
        ),
    },
)
