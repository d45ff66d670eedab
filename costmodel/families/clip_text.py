"""The text encoder of CLIP, which image generators keep apart: norms before blocks, and causal attention that no cache
follows, as a text is read once."""

from __future__ import annotations

from costmodel.families.encoders import encoder_row, encoder_spec
from costmodel.families.fields import Fields
from costmodel.families.heads import no_head
from costmodel.families.row import FamilyRow
from costmodel.head import Head, linear
from costmodel.model import ModelSpec
from costmodel.words import Words

_WORDS = Words(
    norms=("layer_norm1", "layer_norm2"),
    out="out_proj",
    ups=("fc1",),
    down="fc2",
    rotary=False,
    embedding="embeddings.token_embedding",
    position_table="embeddings.position_embedding",
    final_norm="final_layer_norm",
)


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    return encoder_spec(
        fields,
        row,
        _WORDS,
        position_rows=fields.count("max_position_embeddings"),
        embedding_norm=False,
        final_norm=True,
        head_width=fields.count("projection_dim", 512),
    )


def _projection(spec: ModelSpec, labels: int) -> Head:
    """A linear without bias from one token of each sequence."""
    part = linear("text_projection", spec.head_width, spec.hidden_size, bias=False, first_token=True)
    return Head(kind="none", parts=(part,))


CLIP_TEXT = encoder_row(
    "clip-text",
    {"clip_text_model": "CLIP"},
    _read,
    layers="encoder.layers",
    heads={"TextModel": no_head, "TextModelWithProjection": _projection},
)
