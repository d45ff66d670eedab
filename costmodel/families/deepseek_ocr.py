"""DeepSeek-OCR 2, the language model: DeepSeek's experts behind Llama's attention."""

from __future__ import annotations

from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import by_kind, decoder_spec
from costmodel.families.experts import read_experts, read_sparse_layers
from costmodel.families.fields import Fields
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    sparse = read_sparse_layers(fields, fields.layers("num_hidden_layers"), 0)
    experts = read_experts(
        fields, "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size", "n_shared_experts"
    )
    return decoder_spec(
        fields.without("head_dim"),
        row,
        Words(),
        experts=experts,
        **by_kind(["sparse" if each else "dense" for each in sparse], {"dense": {"experts": None}}),
    )


DEEPSEEK_OCR = decoder_row(
    "deepseek-ocr",
    {"deepseek_ocr2_text": "DeepseekOcr2Text"},
    _read,
    norm="rms_norm",
)
