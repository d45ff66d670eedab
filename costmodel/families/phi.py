"""Phi 1 to 2: one LayerNorm before attention and MLP together. Phi 3 and 4: RMSNorm, packed projections."""

from __future__ import annotations

from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import decoder_spec, windows_by_type
from costmodel.families.fields import Fields
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words


def _read_phi(fields: Fields, row: FamilyRow) -> ModelSpec:
    words = Words(
        placing="parallel",
        norms=("input_layernorm",),
        out="dense",
        ups=("fc1",),
        down="fc2",
        qk_norm="head" if fields.flag_or("qk_layernorm", False) else "none",
        qk_norm_bias=True,
        qk_norm_names=("q_layernorm", "k_layernorm"),
        rotary_share=fields.share("partial_rotary_factor", 0.5),
        final_norm="model.final_layernorm",
    )
    return decoder_spec(fields, row, words, bias=True, mlp_bias=True, lm_head_bias=True)


def _read_phi3(fields: Fields, row: FamilyRow) -> ModelSpec:
    layers = fields.layers("num_hidden_layers")
    window = fields.count_or_none("sliding_window")
    words = Words(
        qkv=("qkv_proj",),
        ups=("gate_up_proj",),
        packed_gate=True,
        rotary_share=fields.share("partial_rotary_factor", 1.0),
    )
    windows = windows_by_type(fields, layers, window, default=True)
    return decoder_spec(fields, row, words, bias=False, mlp_bias=False, sliding_windows=windows)


PHI = decoder_row("phi", {"phi": "Phi"}, _read_phi, norm="layer_norm")
PHI3 = decoder_row("phi3", {"phi3": "Phi3"}, _read_phi3, norm="rms_norm", strided_heads=True)
