"""OLMo: LayerNorms without weights. OLMo 2 and 3: norms behind each block, and over q and k whole. OLMo Hybrid: three
layers of linear attention, with norms before each block, to one as OLMo 3's. OLMo in its first form (hf_olmo): packed
projections."""

from __future__ import annotations

from dataclasses import replace

from costmodel.blocks import DeltaNet
from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import by_kind, decoder_spec, qkv_clip_of, windows_by_type
from costmodel.families.fields import Fields
from costmodel.families.heads import causal_lm
from costmodel.families.rotary import read_layer_types
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_MAX_BASE = 1e12
_BEHIND = Words(placing="post", norms=("post_attention_layernorm", "post_feedforward_layernorm"), qk_norm="whole")
_LINEAR = Words(mixer="linear_attn")


def _read_olmo(fields: Fields, row: FamilyRow) -> ModelSpec:
    return decoder_spec(fields, row, Words(qkv_clip=qkv_clip_of(fields, "in_place")), norm_affine=False)


def _read_olmo2(fields: Fields, row: FamilyRow) -> ModelSpec:
    layers = fields.layers("num_hidden_layers")
    every = 4 if fields.model_type == "olmo3" else 0
    windows = windows_by_type(fields, layers, fields.count_or_none("sliding_window"), every=every)
    return decoder_spec(fields, row, _BEHIND, sliding_windows=windows)


def _read_hybrid(fields: Fields, row: FamilyRow) -> ModelSpec:
    layers, heads = fields.layers("num_hidden_layers"), fields.count("num_attention_heads")
    key_heads = fields.count_or_none("linear_num_key_heads") or heads
    key_dim = fields.count_or_none("linear_key_head_dim") or 3 * fields.count("hidden_size") // (4 * key_heads)
    delta = DeltaNet(
        key_heads=key_heads,
        value_heads=fields.count_or_none("linear_num_value_heads") or heads,
        key_dim=key_dim,
        value_dim=fields.count_or_none("linear_value_head_dim") or 2 * key_dim,
        kernel=fields.count("linear_conv_kernel_dim"),
    )
    types = read_layer_types(fields, layers, ("linear_attention", "full_attention"))
    if types is None:
        types = ["full_attention" if layer % 4 == 3 else "linear_attention" for layer in range(layers)]
        types[-1] = types[-1] if "full_attention" in types else "full_attention"
    base = fields.number_or_none("rope_theta", _MAX_BASE)
    turned = (base or fields.nested("rope_parameters").number_or_none("rope_theta", _MAX_BASE)) is not None
    words = replace(_BEHIND, rotary=turned)
    own: dict[str, dict[str, object]] = {
        "linear_attention": {"attends": False, "words": replace(_LINEAR, rotary=turned), "pre_norm": True},
        "full_attention": {"recurrent": None},
    }
    return decoder_spec(fields, row, words, recurrent=delta, mlp_bias=False, **by_kind(types, own))


_FIRST_FORM = {
    "activation_type": "swiglu",
    "alibi": False,
    "attention_layer_norm": False,
    "block_group_size": 1,
    "block_type": "sequential",
    "embedding_layer_norm": False,
    "include_bias": False,
    "layer_norm_type": ("default", "low_precision"),
    "layer_norm_with_affine": False,
    "multi_query_attention": (False, None),
    "n_kv_heads": None,
    "norm_after": False,
    "rope": True,
    "scale_logits": False,
}
"""What the published models have of the fields of OLMo's own code."""
_GIVEN = ("activation_type", "layer_norm_with_affine", "rope", "include_bias", "weight_tying")
"""Fields whose defaults in that code are others, so that they must be there."""


def _read_first_form(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.require("d_model", "n_layers", "n_heads", "vocab_size", *_GIVEN)
    for name, value in _FIRST_FORM.items():
        allowed = value if isinstance(value, tuple) else (value,)
        if name in fields.data and fields.data[name] not in allowed:
            raise fields.error(name, " or ".join(map(str, allowed)))
    words = Words(
        norms=("attn_norm", "ff_norm"),
        attention="self_attn",
        qkv=("att_proj",),
        out="attn_out",
        mlp="",
        ups=("ff_proj",),
        packed_gate=True,
        down="ff_out",
        embedding="model.transformer.wte",
        qkv_clip=qkv_clip_of(fields, "in_place"),
        tables="model.transformer.rotary_emb",
        final_norm="model.transformer.ln_f",
    )
    ratio = fields.count("mlp_ratio", 4) * fields.count("d_model")
    return decoder_spec(
        fields.with_values(vocab_size=fields.count_or_none("embedding_size") or fields.count("vocab_size")),
        row,
        words,
        intermediate_size=(fields.count_or_none("mlp_hidden_size") or ratio) // 2,
        max_positions=fields.count("max_sequence_length", 2048),
        activation="silu",
        bias=False,
        mlp_bias=False,
        norm_affine=False,
        tie_embeddings=fields.flag_or("weight_tying", True),
    )


OLMO = decoder_row("olmo", {"olmo": "Olmo"}, _read_olmo, norm="layer_norm")
OLMO2 = decoder_row("olmo2", {"olmo2": "Olmo2", "olmo3": "Olmo3"}, _read_olmo2, norm="rms_norm")
OLMO_HYBRID = decoder_row("olmo-hybrid", {"olmo_hybrid": "OlmoHybrid"}, _read_hybrid, norm="rms_norm")
HF_OLMO = decoder_row(
    "hf-olmo",
    {"hf_olmo": "OLMo"},
    _read_first_form,
    norm="layer_norm",
    layers="model.transformer.blocks",
    heads={"ForCausalLM": causal_lm, "ModelForCausalLM": causal_lm},
    aliases={"hidden_size": "d_model", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"},
    strided_heads=True,
)
