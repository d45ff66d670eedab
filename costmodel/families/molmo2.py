"""Molmo 2, the language model: Qwen 3's layers, or OLMo's with norms behind blocks.

Its embedding has rows for images that the LM head has not.
"""

from __future__ import annotations

from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import decoder_spec
from costmodel.families.fields import Fields
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    by_head = fields.choice_or("qk_norm_type", "qwen3", ("qwen3", "olmo")) == "qwen3"
    words = Words(
        placing="post" if fields.flag_or("norm_after", False) else "pre", qk_norm="head" if by_head else "whole"
    )
    images = fields.count("additional_vocab_size", 128, minimum=0) * fields.count("hidden_size")
    fields.refuse("tie_word_embeddings", "its embedding has rows that an LM head has not")
    return decoder_spec(fields, row, words, attn_out_bias=False, mlp_bias=False, other_outer_params=images)


MOLMO2 = decoder_row("molmo2", {"molmo2_text": "Molmo2Text"}, _read, norm="rms_norm")
