"""RecurrentGemma: linear recurrent units in most layers, attention with a window in the others (arXiv 2404.07839)."""

from __future__ import annotations

from costmodel.blocks import LinearUnit
from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import by_kind, decoder_spec
from costmodel.families.fields import Fields
from costmodel.families.lists import names
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_BLOCKS = ("recurrent", "attention")
_ATTENTION = Words(
    norms=("temporal_pre_norm", "channel_pre_norm"),
    attention="temporal_block",
    mixer="temporal_block",
    out_bias=True,
    mlp="mlp_block",
    rotary_share=0.5,
    embedding_scale=True,
    logit_kernels=3,
    final_norm="model.final_norm",
)


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    layers, hidden = fields.layers("num_hidden_layers"), fields.count("hidden_size")
    width, heads = fields.count_or_none("lru_width") or hidden, fields.count("num_attention_heads")
    if width % heads:
        raise fields.error("lru_width", f"a multiple of num_attention_heads {heads}")
    inner, given = fields.count("intermediate_size"), names(fields, "block_types", _BLOCKS)
    if inner % 2:
        raise fields.error("intermediate_size", "an even number")
    given = given or [*_BLOCKS[:1], *_BLOCKS]
    kinds = [given[layer % len(given)] for layer in range(layers)]
    return decoder_spec(
        fields,
        row,
        _ATTENTION,
        recurrent=LinearUnit(width=width, heads=heads, kernel=fields.count("conv1d_width")),
        intermediate_size=inner // 2,
        activation=fields.activation("hidden_activation", "gelu_pytorch_tanh"),
        mlp_bias=True,
        max_positions=fields.count("max_position_embeddings", 1 << 20),
        sliding_windows=(fields.count("attention_window_size"),) * layers,
        **by_kind(kinds, {"recurrent": {"attends": False}, "attention": {"recurrent": None}}),
    )


RECURRENT_GEMMA = decoder_row(
    "recurrent-gemma",
    {"recurrent_gemma": "RecurrentGemma"},
    _read,
    norm="rms_norm",
)
