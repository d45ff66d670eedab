"""How far RoPE reaches: the longest sequence of a config.json whose rotary embedding is scaled."""

from __future__ import annotations

import math
from collections.abc import Mapping

from costmodel.families.fields import Fields

_MULTIPLIED = ("linear", "dynamic", "yarn")
"""Scalings whose factor comes on top of the length that a model was trained for. `llama3` and `longrope` change
frequencies of a model whose max_position_embeddings is the longer length already."""
_INCLUDED = ("gemma3",)
"""How types begin whose max_position_embeddings has the factor in it, though nothing in the file says so."""
_TRAINED = {"llama": (2048, 4096)}
"""Tokens that the models of a type were trained for which linear scaling is used on: Llama, then Llama 2 and DeepSeek.
A limit beyond `_LONG` that is one of them times the factor has the factor in it: LLaMA-2-7B-32K (32,768 and 8),
DeepSeek Coder (16,384 and 4); that of vicuna-16k (4,096 and 4) and of a Llama 3 scaled by 2 (8,192) has not, nor that
of a type trained for as much as its limit, such as Mistral (32,768)."""
_LONG = 8192
_MAX_FACTOR = 10_000.0
_NUMBERS = ("rope_type", "type", "factor", "partial_rotary_factor", "original_max_position_embeddings", "rope_theta")
"""Fields of a scaling that are no scaling of a kind of layers."""


def longest_sequence(fields: Fields, limit: int) -> int:
    """Tokens that a model with RoPE takes: its max_position_embeddings, times the factor of its scaling where that is
    of the trained length.

    `rope_parameters` is transformers 5's name of `rope_scaling`, which wins where both are there. The factor is of
    `original_max_position_embeddings`, in either place, else of max_position_embeddings; where the product is no longer
    than max_position_embeddings, this includes the factor already, and so does the linear scaling of a length that is
    known of the type. With scalings by kind of layer, the shortest counts.

    Args:
        limit: max_position_embeddings, or what the family calls it.

    Raises:
        ModelError: when a scaling is not an object, or a number in it is out of bounds.
    """
    first, second = (fields.nested(name) for name in ("rope_scaling", "rope_parameters"))
    whole = first if first.data else second
    if not whole.data or fields.model_type.startswith(_INCLUDED):
        return limit
    by_kind = [
        name
        for name, part in whole.data.items()
        if (name.endswith("_attention") or isinstance(part, Mapping)) and name not in _NUMBERS
    ]
    parts = [whole.nested(name) for name in by_kind] or [whole]
    return min(_scaled(fields, part, limit) for part in parts)


def _scaled(fields: Fields, scaling: Fields, limit: int) -> int:
    kind, factor = _kind(scaling), scaling.number_or_none("factor", _MAX_FACTOR)
    if kind not in _MULTIPLIED or factor is None:
        return limit
    name = "original_max_position_embeddings"
    original = fields.count_or_none(name) or scaling.count_or_none(name) or limit
    trained = _TRAINED.get(fields.model_type, ())
    if kind == "linear" and original == limit > _LONG and limit in [tokens * factor for tokens in trained]:
        return limit
    return max(limit, math.floor(original * factor))


def _kind(scaling: Fields) -> str:
    """What kind of scaling it is, by either name of the field; of a kind that is not known, the length stays."""
    return scaling.text("rope_type", scaling.text("type", "default"))
