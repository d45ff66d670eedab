"""How far RoPE reaches: the longest sequence of a config.json whose rotary embedding is scaled."""

from __future__ import annotations

import math
from collections.abc import Mapping

from costmodel.families.fields import LIMITS, Fields

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
    name = next((each for each in ("rope_scaling", "rope_parameters") if fields.data.get(each)), None)
    if name is None or fields.model_type.startswith(_INCLUDED):
        return limit
    given = fields.data[name]
    if not isinstance(given, Mapping):
        raise fields.error(name, "an object such as {rope_type: linear, factor: 4.0}")
    nested = [part for part in given.values() if isinstance(part, Mapping)]
    return min(_scaled(fields, name, part, limit) for part in nested or [given])


def _scaled(fields: Fields, name: str, scaling: Mapping[str, object], limit: int) -> int:
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in _MULTIPLIED or scaling.get("factor") is None:
        return limit
    factor = scaling["factor"]
    original = fields.data.get("original_max_position_embeddings")
    if original is None:
        original = scaling.get("original_max_position_embeddings")
    if original is None:
        original = limit
    known = isinstance(factor, int | float) and not isinstance(factor, bool)
    if not known or not 0 < factor <= _MAX_FACTOR:  # type: ignore[operator]
        raise fields.error(name, f"a factor above 0, up to {_MAX_FACTOR:,.0f}")
    if type(original) is not int or not 1 <= original <= LIMITS["max_position_embeddings"]:
        raise fields.error(name, "original_max_position_embeddings: a whole number of tokens")
    trained = _TRAINED.get(fields.model_type, ())
    if kind == "linear" and original == limit > _LONG and limit in [tokens * factor for tokens in trained]:  # type: ignore[operator]
        return limit
    return max(limit, math.floor(original * factor))  # type: ignore[operator]
