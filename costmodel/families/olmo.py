"""OLMo: LayerNorms without weights. OLMo 2 and 3: norms behind each block, and over q and k whole."""

from __future__ import annotations

from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import decoder_spec, windows_by_type
from costmodel.families.fields import Fields
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_BEHIND = Words(placing="post", norms=("post_attention_layernorm", "post_feedforward_layernorm"), qk_norm="whole")


def _read_olmo(fields: Fields, row: FamilyRow) -> ModelSpec:
    return decoder_spec(fields, row, Words(), norm_affine=False)


def _read_olmo2(fields: Fields, row: FamilyRow) -> ModelSpec:
    layers = fields.layers("num_hidden_layers")
    every = 4 if fields.model_type == "olmo3" else 0
    windows = windows_by_type(fields, layers, fields.count_or_none("sliding_window"), every=every)
    return decoder_spec(fields, row, _BEHIND, sliding_windows=windows)


OLMO = decoder_row("olmo", {"olmo": "Olmo"}, _read_olmo, norm="layer_norm")
OLMO2 = decoder_row("olmo2", {"olmo2": "Olmo2", "olmo3": "Olmo3"}, _read_olmo2, norm="rms_norm")
