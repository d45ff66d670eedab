"""Granite 4: experts beside packed shared MLPs, everything scaled, Mamba-2 in place of attention in most layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from costmodel.blocks import Experts
from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import by_kind, decoder_spec
from costmodel.families.experts import read_experts
from costmodel.families.fields import Fields
from costmodel.families.lists import names_by_layer
from costmodel.families.llama_kin import SCALED
from costmodel.families.mamba import MIXED, mamba2
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

GRANITE = replace(
    SCALED,
    experts="block_sparse_moe",
    mlp="shared_mlp",
    ups=("input_linear",),
    packed_gate=True,
    down="output_linear",
)
"""Experts and, beside them, the MLP that every token passes."""
_HYBRID = replace(GRANITE, mixer="mamba")


_BLOCKS = {"mamba": "mamba", "attention": "attention", "linear_attention": "mamba", "full_attention": "attention"}
"""Name of a layer's kind in a file -> that of its block, older names first."""


def granite_experts(fields: Fields) -> Experts:
    """The experts by Granite's names of their fields; errors as `read_experts`."""
    return read_experts(fields, "num_local_experts", "num_experts_per_tok", "intermediate_size")


def granite_spec(fields: Fields, row: FamilyRow, words: Words, experts: Experts | None, **options: Any) -> ModelSpec:
    """A model in Granite's words, without the shared MLP where a file has none; arguments as of `decoder_spec`."""
    shared = fields.count("shared_intermediate_size", minimum=0)
    return decoder_spec(
        fields,
        row,
        words if shared else replace(words, ups=()),
        intermediate_size=shared or fields.count("intermediate_size"),
        mlp_bias=False,
        experts=experts,
        **options,
    )


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    experts = granite_experts(fields) if fields.count("num_local_experts", minimum=0) else None
    options: dict[str, Any] = {}
    if fields.model_type == "granitemoehybrid":
        layers = fields.layers("num_hidden_layers")
        block = mamba2(fields, fields.count("mamba_expand") * fields.count("hidden_size"))
        name = "layer_types" if fields.given("layer_types") else "layers_block_type"
        types = names_by_layer(fields, name, layers, tuple(_BLOCKS))
        kinds = ["mamba"] * layers if types is None else [_BLOCKS[kind] for kind in types]
        options = {"recurrent": block, **by_kind(kinds, MIXED)}
    return granite_spec(fields, row, _HYBRID, experts, **options)


GRANITE_HYBRID = decoder_row(
    "granite-hybrid",
    {"granitemoehybrid": "GraniteMoeHybrid", "granitemoeshared": "GraniteMoeShared"},
    _read,
    norm="rms_norm",
)
