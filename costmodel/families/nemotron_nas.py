"""Llama-Nemotron of a search over layers (DeciLM): each with an MLP of a width of its own, some without attention."""

from __future__ import annotations

from dataclasses import replace

from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import by_kind, decoder_spec
from costmodel.families.fields import Fields
from costmodel.families.lists import objects
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_WORDS = Words()
_MULTIPLE = 256
"""Widths of MLPs are rounded up to it."""


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.require("hidden_size", "num_attention_heads", "vocab_size", "block_configs")
    blocks = objects(fields, "block_configs")
    if len(blocks) < (fields.num_layers or 1):
        raise fields.error("block_configs", f"an object for each of {fields.num_layers} layers")
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


def _values(fields: Fields, block: Fields) -> dict[str, object]:
    """What a layer has: its KV heads or no attention, its MLP's width or none."""
    block.require("attention", "ffn")
    attention, inner = block.nested("attention"), block.nested("ffn")
    for part in (attention, inner):
        part.refuse("replace_with_linear", "not supported")
        part.refuse("sparsify", "not supported")
    values: dict[str, object] = {}
    norms = list(_WORDS.norms)
    if attention.flag_or("no_op", False):
        values["attends"] = False
        norms.remove("input_layernorm")
    else:
        heads, group = fields.count("num_attention_heads"), attention.count("n_heads_in_group")
        if heads % group:
            raise attention.error("n_heads_in_group", f"a divisor of num_attention_heads {heads}")
        values["num_kv_heads"] = heads // group
    words = replace(_WORDS, norms=tuple(norms))
    if inner.flag_or("no_op", False):
        norms.remove("post_attention_layernorm")
        words = replace(_WORDS, norms=tuple(norms), ups=())
    else:
        values["intermediate_size"] = _width(fields, inner)
    return {**values, "words": words, "layer_norms": len(norms)}


def _width(fields: Fields, inner: Fields) -> int:
    """intermediate_size, or two thirds of so many times hidden_size, rounded up."""
    given, times = inner.count_or_none("intermediate_size"), inner.number_or_none("ffn_mult", 100)
    if given is not None:
        return given
    if times is None:
        raise inner.error("ffn_mult", "a number above 0 and up to 100, or intermediate_size")
    return -(-int(2 * times * fields.count("hidden_size") / 3) // _MULTIPLE) * _MULTIPLE


NEMOTRON_NAS = decoder_row("nemotron-nas", {"nemotron-nas": "DeciLM"}, _read, norm="rms_norm")
