"""Mixtures of experts whose layers words describe: DBRX, FlexOlmo, Hunyuan 3, Aria, Mellum."""

from __future__ import annotations

from collections.abc import Mapping

from costmodel.blocks import Experts
from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import by_kind, decoder_spec, windows_by_type
from costmodel.families.experts import read_sparse_layers
from costmodel.families.fields import Fields
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_BEHIND = ("post_attention_layernorm", "post_feedforward_layernorm")
_TYPES: dict[str, tuple[str, Words]] = {
    "flex_olmo": ("FlexOlmo", Words(placing="post", norms=_BEHIND, qk_norm="whole")),
    "hy_v3": ("HYV3", Words(qk_norm="head")),
    "aria_text": ("AriaText", Words()),
    "mellum": ("Mellum", Words(qk_norm="head")),
}
"""model_type -> how its classes' names begin, and its words."""
_DBRX = Words(
    norms=("norm_attn_norm.norm_1", "norm_attn_norm.norm_2"),
    attention="norm_attn_norm.attn",
    qkv=("Wqkv",),
    out="out_proj",
    mlp="ffn",
    embedding="transformer.wte",
    final_norm="transformer.norm_f",
)


def _experts(fields: Fields, number: str, per_token: str, size: str, shared: str = "") -> Experts:
    width, count = fields.count(size), fields.count(number)
    if fields.count(per_token) > count:
        raise fields.error(per_token, f"at most the {count} experts")
    return Experts(
        number=count,
        per_token=fields.count(per_token),
        intermediate_size=width,
        shared_intermediate_size=width * fields.count(shared, minimum=0) if shared else 0,
    )


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    kind, layers = fields.model_type, fields.layers("num_hidden_layers")
    words = _TYPES[kind][1]
    if kind == "aria_text":
        experts = _experts(fields, "moe_num_experts", "moe_topk", "intermediate_size", "moe_num_shared_experts")
        return decoder_spec(fields, row, words, experts=experts)
    if kind == "flex_olmo":
        experts = _experts(fields, "num_experts", "num_experts_per_tok", "intermediate_size")
        return decoder_spec(fields, row, words, experts=experts, mlp_bias=False)
    shared = "num_shared_experts" if kind == "hy_v3" else ""
    experts = _experts(fields, "num_experts", "num_experts_per_tok", "moe_intermediate_size", shared)
    sparse = read_sparse_layers(fields, layers, 1 if kind == "hy_v3" else 0)
    kinds = ["sparse" if each else "dense" for each in sparse]
    window = fields.count_or_none("sliding_window") if kind == "mellum" else None
    return decoder_spec(
        fields,
        row,
        words,
        experts=experts,
        sliding_windows=windows_by_type(fields, layers, window),
        **by_kind(kinds, {"dense": {"experts": None}}),
    )


def _read_dbrx(fields: Fields, row: FamilyRow) -> ModelSpec:
    attention, inner = (fields.data.get(name) for name in ("attn_config", "ffn_config"))
    if not isinstance(attention, Mapping) or not isinstance(inner, Mapping):
        raise fields.error("ffn_config", "objects attn_config and ffn_config")
    nested = fields.with_values(**inner, **attention)
    experts = _experts(nested, "moe_num_experts", "moe_top_k", "ffn_hidden_size")
    act = inner.get("ffn_act_fn")
    named = act.get("name", "silu") if isinstance(act, Mapping) else act or "silu"
    return decoder_spec(
        nested.with_values(hidden_act=named),
        row,
        _DBRX,
        num_kv_heads=nested.count("kv_n_heads"),
        intermediate_size=experts.intermediate_size,
        activation=nested.with_values(hidden_act=named).activation("hidden_act", "silu"),
        experts=experts,
        bias=False,
        mlp_bias=False,
        norm_bias=False,
    )


SPARSE_WORDS = decoder_row(
    "sparse-words", {name: prefix for name, (prefix, _) in _TYPES.items()}, _read, norm="rms_norm"
)
DBRX = decoder_row(
    "dbrx",
    {"dbrx": "Dbrx"},
    _read_dbrx,
    norm="layer_norm",
    layers="transformer.blocks",
    aliases={
        "hidden_size": "d_model",
        "num_attention_heads": "n_heads",
        "num_hidden_layers": "n_layers",
        "max_position_embeddings": "max_seq_len",
    },
)
