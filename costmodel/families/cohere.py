"""Cohere's Command R and its successors: one norm without bias before attention and MLP together, logits multiplied."""

from __future__ import annotations

from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import decoder_spec, windows_by_type
from costmodel.families.fields import Fields
from costmodel.families.heads import TEXT_HEADS
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    words = Words(
        placing="parallel",
        norms=("input_layernorm",),
        qk_norm="each_head" if fields.flag_or("use_qk_norm", False) else "none",
        logit_kernels=1,
    )
    windows, vision = None, fields.model_type == "cohere_compass_text"
    if fields.model_type != "cohere":
        layers = fields.layers("num_hidden_layers")
        every = 0 if vision else fields.count("sliding_window_pattern", 4)
        windows = windows_by_type(fields, layers, fields.count_or_none("sliding_window"), every=every)
    return decoder_spec(fields, row, words, mlp_bias=False, norm_bias=False, sliding_windows=windows)


COHERE = decoder_row(
    "cohere",
    {"cohere": "Cohere", "cohere2": "Cohere2", "cohere_compass_text": "CohereCompass"},
    _read,
    norm="layer_norm",
    heads=TEXT_HEADS,
)
