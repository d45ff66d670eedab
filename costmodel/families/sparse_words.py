"""Mixtures of experts whose layers words describe: DBRX, FlexOlmo, Hunyuan, Aria, Mellum, AFMoE, Laguna, Cohere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from costmodel.blocks import Experts
from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import by_kind, decoder_spec, qkv_clip_of, windows_by_type
from costmodel.families.experts import read_experts, read_sparse_layers
from costmodel.families.fields import Fields
from costmodel.families.granite import GRANITE, granite_experts, granite_spec
from costmodel.families.lists import counts_by_layer
from costmodel.families.llama_kin import every_fourth_full
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_BEHIND = ("post_attention_layernorm", "post_feedforward_layernorm")
_AROUND = ("input_layernorm", "post_attention_layernorm", "pre_mlp_layernorm", "post_mlp_layernorm")
_GATE = (("self_attn.gate_proj", "attn_gate"),)
"""The gate of attention's result, beside the MLP's of the same name."""
_HEAD_NORMS = Words(qk_norm="head")
_DBRX = Words(
    norms=("norm_attn_norm.norm_1", "norm_attn_norm.norm_2"),
    attention="norm_attn_norm.attn",
    qkv=("Wqkv",),
    out="out_proj",
    mlp="ffn",
    embedding="transformer.wte",
    final_norm="transformer.norm_f",
)


def _of_size(fields: Fields, **values: Any) -> Experts:
    """The experts by the names that most types give to their fields."""
    return read_experts(fields, "num_experts", "num_experts_per_tok", "moe_intermediate_size", **values)


def _mixed(sparse: Sequence[bool]) -> dict[str, Any]:
    """Kinds of layers, of which some are dense."""
    return by_kind(["sparse" if each else "dense" for each in sparse], {"dense": {"experts": None}})


def _sliding(fields: Fields, **options: Any) -> tuple[int | None, ...]:
    return windows_by_type(
        fields, fields.layers("num_hidden_layers"), fields.count_or_none("sliding_window"), **options
    )


def _aria(fields: Fields, row: FamilyRow) -> ModelSpec:
    experts = read_experts(fields, "moe_num_experts", "moe_topk", "intermediate_size", "moe_num_shared_experts")
    return decoder_spec(fields, row, Words(), experts=experts)


def _flex_olmo(fields: Fields, row: FamilyRow) -> ModelSpec:
    experts = read_experts(fields, "num_experts", "num_experts_per_tok", "intermediate_size")
    words = Words(placing="post", norms=_BEHIND, qk_norm="whole")
    return decoder_spec(fields, row, words, experts=experts, mlp_bias=False)


def _hunyuan3(fields: Fields, row: FamilyRow) -> ModelSpec:
    sparse = read_sparse_layers(fields, fields.layers("num_hidden_layers"), 1)
    return decoder_spec(
        fields, row, _HEAD_NORMS, experts=_of_size(fields, shared="num_shared_experts"), **_mixed(sparse)
    )


def _mellum(fields: Fields, row: FamilyRow) -> ModelSpec:
    sparse = read_sparse_layers(fields, fields.layers("num_hidden_layers"), 0)
    windows = _sliding(fields)
    return decoder_spec(fields, row, _HEAD_NORMS, experts=_of_size(fields), sliding_windows=windows, **_mixed(sparse))


def _hunyuan1(fields: Fields, row: FamilyRow) -> ModelSpec:
    """Hunyuan A13B and its kin; what a file says layer by layer must be the same for all."""
    words = Words(qk_norm="head", qk_norm_names=("query_layernorm", "key_layernorm"), shared="shared_mlp")
    same = {}
    for name in ("moe_topk", "moe_intermediate_size", "num_shared_expert", "num_experts"):
        value = fields.data.get(name)
        if isinstance(value, list) and value and all(each == value[0] for each in value):
            same[name] = value[0]
    fields = fields.with_values(**same)
    inner = fields.count("intermediate_size")
    if fields.count_or_none("moe_intermediate_size") not in (None, inner) or fields.count("num_shared_expert", 1) != 1:
        raise fields.error("moe_intermediate_size", f"intermediate_size {inner}, and one shared expert")
    for name in ("use_cla", "use_mla"):
        fields.refuse(name, "attention of another kind is not supported")
    experts = read_experts(fields, "num_experts", "moe_topk", "intermediate_size", shared_intermediate_size=inner)
    return decoder_spec(fields, row, words, experts=experts, mlp_bias=False)


def _afmoe(fields: Fields, row: FamilyRow) -> ModelSpec:
    layers, scaled = fields.layers("num_hidden_layers"), fields.flag_or("mup_enabled", False)
    words = Words(
        placing="sandwich", norms=_AROUND, qk_norm="head", gate="gate_proj", names=_GATE, embedding_scale=scaled
    )
    dense = fields.count("num_dense_layers", minimum=0)
    return decoder_spec(
        fields,
        row,
        words,
        mlp_bias=False,
        experts=_of_size(fields, shared="num_shared_experts", router_bias=True),
        sliding_windows=_sliding(fields, every=fields.count("global_attn_every_n_layers")),
        **_mixed([layer >= dense for layer in range(layers)]),
    )


def _laguna(fields: Fields, row: FamilyRow) -> ModelSpec:
    layers = fields.layers("num_hidden_layers")
    heads = counts_by_layer(fields, "num_attention_heads_per_layer", layers)
    heads = heads or [fields.count("num_attention_heads")] * layers
    keys = fields.count("num_key_value_heads")
    if any(number % keys for number in heads):
        raise fields.error("num_attention_heads_per_layer", f"a multiple of {keys} for each of {layers} layers")
    gates = ("per-head", "per-element")
    by_head = fields.says("gating", True) or fields.choice_or("gating", gates[0], gates) == gates[0]
    words = Words(qk_norm="head", gate="g_proj", gate_by_head=by_head)
    kinds, own = list[str](), dict[str, dict[str, object]]()
    for sparse, number in zip(read_sparse_layers(fields, layers, 1), heads, strict=False):
        kinds.append(f"{'sparse' if sparse else 'dense'}, {number} heads")
        own[kinds[-1]] = {"num_heads": number, **({} if sparse else {"experts": None})}
    shared = fields.count("shared_expert_intermediate_size")
    return decoder_spec(
        fields,
        row,
        words,
        mlp_bias=False,
        experts=_of_size(fields, shared_intermediate_size=shared, router_bias=True),
        sliding_windows=_sliding(fields),
        **by_kind(kinds, own),
    )


def _granite_swa(fields: Fields, row: FamilyRow) -> ModelSpec:
    words = replace(GRANITE, sinks=True)
    return granite_spec(fields, row, words, granite_experts(fields), sliding_windows=every_fourth_full(fields))


_READERS: Mapping[str, tuple[str, Callable[[Fields, FamilyRow], ModelSpec]]] = {
    "flex_olmo": ("FlexOlmo", _flex_olmo),
    "hy_v3": ("HYV3", _hunyuan3),
    "aria_text": ("AriaText", _aria),
    "mellum": ("Mellum", _mellum),
    "hunyuan_v1_moe": ("HunYuanMoEV1", _hunyuan1),
    "afmoe": ("Afmoe", _afmoe),
    "laguna": ("Laguna", _laguna),
    "granitemoe_swa": ("GraniteMoeSWA", _granite_swa),
}
"""model_type -> how its classes' names begin, and what reads it."""


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    return _READERS[fields.model_type][1](fields, row)


def _read_dbrx(fields: Fields, row: FamilyRow) -> ModelSpec:
    attention, inner = fields.nested("attn_config"), fields.nested("ffn_config")
    nested = fields.with_data({**inner.data, **attention.data, **fields.data})
    experts = read_experts(nested, "moe_num_experts", "moe_top_k", "ffn_hidden_size")
    act, name = (inner, "ffn_act_fn") if inner.is_text("ffn_act_fn") else (inner.nested("ffn_act_fn"), "name")
    return decoder_spec(
        nested,
        row,
        replace(_DBRX, qkv_clip=qkv_clip_of(nested, "copied")),
        num_kv_heads=nested.count("kv_n_heads"),
        intermediate_size=experts.intermediate_size,
        activation=act.activation(name, "silu"),
        experts=experts,
        bias=False,
        mlp_bias=False,
        norm_bias=False,
    )


def _read_cohere(fields: Fields, row: FamilyRow) -> ModelSpec:
    layers, first = fields.layers("num_hidden_layers"), fields.count("first_k_dense_replace", 0, minimum=0)
    sparse = read_sparse_layers(fields, layers, first)
    inner = fields.count("intermediate_size")
    window = fields.count_or_none("sliding_window")
    periods = fields.count("prefix_dense_sliding_window_pattern"), fields.count("sliding_window_pattern")
    full = [
        (layer + 1) % periods[0] == 0 if layer < first else (layer - first + 1) % periods[1] == 0
        for layer in range(layers)
    ]
    windows = _sliding(fields) if fields.given("layer_types") else tuple(None if each else window for each in full)
    return decoder_spec(
        fields,
        row,
        Words(placing="parallel", norms=("input_layernorm",), logit_kernels=1),
        intermediate_size=fields.count_or_none("prefix_dense_intermediate_size") or inner,
        mlp_bias=False,
        norm_bias=False,
        experts=read_experts(fields, "num_experts", "num_experts_per_tok", "intermediate_size", "num_shared_experts"),
        sliding_windows=windows,
        **_mixed(sparse),
    )


SPARSE_WORDS = decoder_row(
    "sparse-words", {name: prefix for name, (prefix, _) in _READERS.items()}, _read, norm="rms_norm"
)
COHERE_MOE = decoder_row("cohere-moe", {"cohere2_moe": "Cohere2Moe"}, _read_cohere, norm="layer_norm")
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
