"""Llama-Nemotron of a search over layers (DeciLM): each with an MLP of a width of its own, some without attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import by_kind, decoder_spec
from costmodel.families.fields import Fields
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_WORDS = Words()
_MULTIPLE = 256
"""Widths of MLPs are rounded up to it."""


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.require("hidden_size", "num_attention_heads", "vocab_size", "block_configs")
    blocks = fields.data["block_configs"]
    if not isinstance(blocks, list) or not blocks or not all(isinstance(block, Mapping) for block in blocks):
        raise fields.error("block_configs", "a list of objects with attention and ffn")
    blocks = blocks if fields.num_layers is None else blocks[: fields.num_layers]
    kinds, own = list[str](), dict[str, dict[str, object]]()
    for block in blocks:
        values = _values(fields, block)
        kind = ", ".join(f"{name} {value}" for name, value in values.items() if name != "words") or "empty"
        kinds.append(kind)
        own[kind] = values
    return decoder_spec(
        fields,
        row,
        _WORDS,
        num_layers=len(blocks),
        num_kv_heads=fields.count("num_attention_heads"),
        intermediate_size=fields.count("hidden_size"),
        max_positions=fields.count("max_position_embeddings", 2048),
        tie_embeddings=fields.flag_or("tie_word_embeddings", False),
        **by_kind(kinds, own),
    )


def _values(fields: Fields, block: Mapping[str, object]) -> dict[str, object]:
    """What a layer has: its KV heads or no attention, its MLP's width or none."""
    attention, inner = block.get("attention"), block.get("ffn")
    if not isinstance(attention, Mapping) or not isinstance(inner, Mapping):
        raise fields.error("block_configs", "objects attention and ffn in each")
    if any(part.get(name) for part in (attention, inner) for name in ("replace_with_linear", "sparsify")):
        raise fields.error("block_configs", "no replace_with_linear and no sparsify")
    values: dict[str, object] = {}
    norms = list(_WORDS.norms)
    if attention.get("no_op"):
        values["attends"] = False
        norms.remove("input_layernorm")
    else:
        heads, group = fields.count("num_attention_heads"), attention.get("n_heads_in_group")
        if type(group) is not int or group < 1 or heads % group:
            raise fields.error("block_configs", f"n_heads_in_group: a divisor of {heads}", f"found: {group}")
        values["num_kv_heads"] = heads // group
    words = replace(_WORDS, norms=tuple(norms))
    if inner.get("no_op"):
        norms.remove("post_attention_layernorm")
        words = replace(_WORDS, norms=tuple(norms), ups=())
    else:
        values["intermediate_size"] = _width(fields, inner)
    return {**values, "words": words, "layer_norms": len(norms)}


def _width(fields: Fields, inner: Mapping[str, object]) -> int:
    """intermediate_size, or two thirds of so many times hidden_size, rounded up."""
    given, times = inner.get("intermediate_size"), inner.get("ffn_mult")
    if type(given) is int and 1 <= given <= 10**6:
        return given
    if isinstance(times, bool) or not isinstance(times, int | float) or not 0 < times <= 100:
        raise fields.error("block_configs", "ffn_mult: a number above 0 and up to 100", f"found: {times!r}")
    return -(-int(2 * times * fields.count("hidden_size") / 3) // _MULTIPLE) * _MULTIPLE


NEMOTRON_NAS = decoder_row("nemotron-nas", {"nemotron-nas": "DeciLM"}, _read, norm="rms_norm")
