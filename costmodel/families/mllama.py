"""The language model of Llama 3.2 Vision: Llama's layers, and between them layers that attend to an image alone.

Without an image, transformers passes by the layers of cross-attention: their weights are held, and nothing runs.
"""

from __future__ import annotations

from dataclasses import replace

from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import by_kind, decoder_spec
from costmodel.families.decoder_layer import extra_params
from costmodel.families.fields import Fields
from costmodel.families.lists import layer_numbers
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_WORDS = Words()
_CROSS = replace(_WORDS, norms=(), ups=())
_MORE_WORDS = 8
"""Rows of the token embedding that the LM head has not: for images."""
_LAYERS = [3, 8, 13, 18, 23, 28, 33, 38]
"""Numbers of the layers of cross-attention where a file does not say."""


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    layers, crossing = fields.layers("num_hidden_layers"), layer_numbers(fields, "cross_attention_layers")
    crossing = _LAYERS if crossing is None else crossing
    kinds = ["cross" if layer in crossing else "self" for layer in range(layers)]
    return decoder_spec(
        fields,
        row,
        _WORDS,
        bias=False,
        mlp_bias=False,
        other_outer_params=_MORE_WORDS * fields.count("hidden_size"),
        notes=(
            "its layers of cross-attention run with images alone: their weights are held, their work is not priced",
        ),
        **by_kind(kinds, {"cross": {"attends": False, "words": _CROSS, "layer_norms": 2}}),
    )


def _other_params(spec: ModelSpec) -> int:
    """Of a layer of cross-attention its linears, the norms of q and k, and a gate behind either block."""
    if spec.attends:
        return extra_params(spec)
    attention = 2 * spec.hidden_size * (spec.q_size + spec.kv_size) + 2 * spec.head_dim
    return attention + 3 * spec.hidden_size * spec.intermediate_size + 2


MLLAMA = decoder_row("mllama", {"mllama_text_model": "MllamaText"}, _read, norm="rms_norm", other_params=_other_params)
