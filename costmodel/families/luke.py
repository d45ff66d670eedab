"""LUKE: RoBERTa with entities beside the words. Texts without entities are priced: tables of entities, and the queries
between words and entities, are there and not read."""

from __future__ import annotations

from costmodel.families.bert import HEADS as BERT_HEADS
from costmodel.families.decoder_layer import extra_params
from costmodel.families.encoders import BERT_WORDS, LINEAR_HEADS, encoder_row, encoder_spec
from costmodel.families.fields import Fields
from costmodel.families.heads import classifier
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec

_QUERIES = 3
"""Linears of a layer to queries between words and entities: each to the other, and entities to entities."""


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    if not fields.flag_or("use_entity_aware_attention", True):
        raise fields.error("use_entity_aware_attention", "true")
    rows, types, hidden = (fields.count(name) for name in ("max_position_embeddings", "type_vocab_size", "hidden_size"))
    width, reserved = fields.count("entity_emb_size"), fields.count("pad_token_id", 1, minimum=0) + 1
    if rows <= reserved:
        raise fields.error("max_position_embeddings", f"more than pad_token_id + 1 = {reserved}")
    widened = width * hidden if width != hidden else 0
    return encoder_spec(
        fields,
        row,
        BERT_WORDS,
        position_rows=rows,
        max_positions=rows - reserved,
        token_types=types,
        pooler=True,
        other_outer_params=fields.count("entity_vocab_size") * width + widened + (rows + types + 2) * hidden,
        notes=("texts are priced without entities",),
    )


def _other_params(spec: ModelSpec) -> int:
    """The queries between words and entities."""
    return extra_params(spec) + _QUERIES * spec.hidden_size * (spec.hidden_size + 1)


LUKE = encoder_row(
    "luke",
    {"luke": "Luke"},
    _read,
    other_params=_other_params,
    heads={
        **LINEAR_HEADS,
        "ForSequenceClassification": classifier("sequence_classification", "classifier", first_token=True, pooler=True),
        "ForMultipleChoice": BERT_HEADS["ForMultipleChoice"],
    },
)
