"""Gemma 1, 2 and 3: wide heads, embeddings that are multiplied, and from 2 on norms around attention and MLP.

An example of a family that falls out of words: what follows is all there is to it.
"""

from __future__ import annotations

from typing import Any

from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import decoder_spec, windows_by_type
from costmodel.families.fields import Fields
from costmodel.families.heads import TEXT_HEADS
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_AROUND = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
_WORDS = {
    "gemma": Words(embedding_scale=True),
    "gemma2": Words(embedding_scale=True, placing="sandwich", norms=_AROUND, logit_kernels=3),
    "gemma3_text": Words(embedding_scale=True, placing="sandwich", norms=_AROUND, qk_norm="head"),
    "vaultgemma": Words(
        embedding_scale=True,
        norms=("input_layernorm", "pre_feedforward_layernorm"),
        logit_kernels=3,
    ),
}
_PERIOD = {"gemma": 0, "gemma2": 2, "vaultgemma": 2, "gemma3_text": 6}
"""Of as many layers the last sees every position."""


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    kind = fields.model_type
    layers = fields.layers("num_hidden_layers")
    values: dict[str, Any] = {}
    if kind != "gemma":
        every = fields.count("sliding_window_pattern", _PERIOD[kind])
        window = fields.count_or_none("sliding_window")
        values["activation"] = fields.activation("hidden_activation", "gelu_pytorch_tanh")
        if fields.flag_or("use_bidirectional_attention", False):
            values["bidirectional"] = True
            window = None if window is None else window // 2 + 1
        values["sliding_windows"] = windows_by_type(fields, layers, window, every=every)
    return decoder_spec(fields, row, _WORDS[kind], **values)


GEMMA = decoder_row(
    "gemma",
    {"gemma": "Gemma", "gemma2": "Gemma2", "gemma3_text": "Gemma3", "vaultgemma": "VaultGemma"},
    _read,
    norm="rms_norm",
    heads=TEXT_HEADS,
)
