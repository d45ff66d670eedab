"""GLM and GLM-4: gate and up in one product, half of each head turned, and in GLM-4 norms around both blocks."""

from __future__ import annotations

from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import decoder_spec
from costmodel.families.fields import Fields
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_AROUND = ("input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm")


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    around = fields.model_type != "glm"
    words = Words(
        placing="sandwich" if around else "pre",
        norms=_AROUND if around else Words().norms,
        ups=("gate_up_proj",),
        packed_gate=True,
        out_bias=False,
        rotary_share=fields.share("partial_rotary_factor", 0.5),
    )
    bias = True if fields.model_type == "glm4v_text" else None
    return decoder_spec(fields, row, words, bias=bias, mlp_bias=False)


GLM = decoder_row(
    "glm",
    {"glm": "Glm", "glm4": "Glm4", "glm4v_text": "Glm4vText", "glm_ocr_text": "GlmOcrText"},
    _read,
    norm="rms_norm",
)
