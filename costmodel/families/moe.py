"""Decoders of mixtures of experts with grouped-query attention: Mixtral, Qwen-MoE, gpt-oss, OLMoE and their like.

Layers are of the kinds `dense` and `sparse` where a model has both.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from costmodel.blocks import Experts
from costmodel.families.decoder_fields import qkv_clip_of
from costmodel.families.experts import add_mlp, expert_tensors, read_sparse_layers
from costmodel.families.fields import Fields
from costmodel.families.heads import no_head
from costmodel.families.lists import layer_numbers
from costmodel.families.moe_types import MOE_TYPES, MoeType
from costmodel.families.rope import longest_sequence
from costmodel.families.rotary import (
    add_clip,
    add_rotated,
    read_layer_types,
    rotary_row,
)
from costmodel.families.row import FamilyRow
from costmodel.family import NormKind
from costmodel.forward.attention import add_attention
from costmodel.forward.frame import INPUT
from costmodel.forward.ops import Builder
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor, attention_weight
from costmodel.words import Words


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    own = MOE_TYPES[fields.model_type]
    fields.require("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    layers = fields.layers("num_hidden_layers")
    head_dim = fields.count_or_none("head_dim", own.head_dim) or fields.head_dim("num_attention_heads", "hidden_size")
    kv_heads = fields.count_or_none("num_key_value_heads", own.kv_heads) or heads
    if heads % kv_heads:
        raise fields.error("num_key_value_heads", f"a divisor of num_attention_heads {heads}", f"used: {kv_heads}")
    if fields.model_type == "ernie4_5_moe":
        fields.refuse("use_bias", "linears with biases are not supported")
    if fields.model_type == "deepseek" and fields.count("moe_layer_freq", 1) != 1:
        raise fields.error("moe_layer_freq", "1")
    sparse, dense_size = _sparse_layers(fields, layers), _dense_size(fields)
    experts = _experts(fields, own)
    bias = fields.flag("attention_bias", fields.model_type == "gpt_oss")
    norms = own.norms or ("head" if fields.flag("use_qk_norm", False) and fields.model_type == "glm4_moe" else "")
    mixed: dict[str, Any] = {}
    if fields.model_type == "olmoe":
        mixed["words"] = Words(qkv_clip=qkv_clip_of(fields, "in_place"))
    if not all(sparse):
        mixed["layer_kinds"] = tuple("sparse" if each else "dense" for each in sparse)
        mixed["kind_fields"] = {"dense": {"experts": None}}
    return ModelSpec(
        name=fields.name,
        family=row,
        model_type=fields.model_type,
        num_layers=layers,
        hidden_size=hidden,
        intermediate_size=dense_size,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=fields.count("vocab_size"),
        max_positions=longest_sequence(fields, fields.count("max_position_embeddings", own.positions)),
        embed_dim=hidden,
        activation=fields.activation("hidden_act", "silu"),
        gated_mlp=True,
        qkv_bias=bias if own.qkv_bias is None else fields.flag("qkv_bias", own.qkv_bias),
        attn_out_bias=bias if own.out_bias is None else own.out_bias,
        mlp_bias=False,
        qk_norm=norms == "head",
        experts=experts,
        tie_embeddings=fields.flag("tie_word_embeddings", own.tied),
        pre_norm=True,
        final_norm=True,
        sliding_windows=_windows(fields, own, layers),
        lm_head_bias=fields.model_type == "phimoe" and fields.flag_or("lm_head_bias", False),
        dtype=fields.dtype(),
        **mixed,
    )


def _experts(fields: Fields, own: MoeType) -> Experts:
    number, size = fields.count(*own.number), fields.count(*own.size)
    per_token = fields.count(own.per_token_field, own.per_token)
    if per_token > number:
        raise fields.error(own.per_token_field, f"at most the {number} experts", f"used: {per_token}")
    shared = size * fields.count(*own.shared_number, minimum=0) if own.shared_number else 0
    if fields.model_type == "qwen2_moe":
        shared = fields.count("shared_expert_intermediate_size", 5632)
    if fields.model_type == "llama4_text":
        shared = size
    return Experts(number=number, per_token=per_token, intermediate_size=size, shared_intermediate_size=shared)


def _sparse_layers(fields: Fields, layers: int) -> list[bool]:
    """Which layers have experts."""
    first_dense = MOE_TYPES[fields.model_type].first_dense
    if first_dense is not None:
        first = fields.count("first_k_dense_replace", first_dense, minimum=0)
        if fields.model_type == "exaone_moe":
            return read_sparse_layers(fields, layers, first)
        return [layer >= first for layer in range(layers)]
    if fields.model_type == "ernie4_5_moe":
        step, start = fields.count("moe_layer_interval"), fields.count("moe_layer_start_index", minimum=0)
        last = fields.count("moe_layer_end_index", minimum=-1)
        last = layers - 1 if last == -1 else last
        return [start <= layer <= last and (layer + 1) % step == 0 for layer in range(layers)]
    if fields.model_type == "llama4_text":
        step = fields.count("interleave_moe_layer_step", 1)
        given = layer_numbers(fields, "moe_layers")
        return [layer in given if given is not None else (layer + 1) % step == 0 for layer in range(layers)]
    if fields.model_type in ("qwen2_moe", "qwen3_moe", "qwen3_vl_moe_text", "qwen3_omni_moe_text"):
        step, dense = fields.count("decoder_sparse_step", 1), layer_numbers(fields, "mlp_only_layers") or []
        return [layer not in dense and (layer + 1) % step == 0 for layer in range(layers)]
    return [True] * layers


def _dense_size(fields: Fields) -> int:
    """Width of a dense layer's MLP; where no layer has one it is the experts'."""
    if fields.model_type == "llama4_text":
        return fields.count("intermediate_size_mlp", 16384)
    defaults = {"qwen2_moe": 5632, "qwen3_moe": 6144, "qwen3_vl_moe_text": 5632, "glm4_moe": 10944, "deepseek": 11008}
    return fields.count("intermediate_size", defaults.get(fields.model_type, MOE_TYPES[fields.model_type].size[1]))


def _windows(fields: Fields, own: MoeType, layers: int) -> tuple[int | None, ...]:
    if own.windowed:
        return (fields.count_or_none("sliding_window"),) * layers
    if fields.model_type == "gpt_oss":
        window = fields.count_or_none("sliding_window", 128)
        types = read_layer_types(fields, layers)
        sliding = [kind == "sliding_attention" for kind in types] if types else [not at % 2 for at in range(layers)]
        return tuple(window if each else None for each in sliding)
    if fields.model_type == "exaone_moe":
        window = fields.count_or_none("sliding_window", 4096)
        types = read_layer_types(fields, layers)
        every = layers if types else fields.count("sliding_window_pattern", 4)
        sliding = [kind == "sliding_attention" for kind in types or []]
        sliding = sliding or [(at + 1) % every != 0 for at in range(layers)]
        return tuple(window if each else None for each in sliding)
    if fields.model_type == "dots1":
        window, first = fields.count_or_none("sliding_window", 4096), fields.count("max_window_layers", 62, minimum=0)
        types = read_layer_types(fields, layers)
        sliding = [kind == "sliding_attention" for kind in types] if types else [at >= first for at in range(layers)]
        return tuple(window if each else None for each in sliding)
    if fields.model_type in ("qwen2_moe", "qwen3_moe") and fields.flag("use_sliding_window", False):
        window = fields.count_or_none("sliding_window", 4096)
        if fields.model_type == "qwen3_moe":
            return (window,) * layers
        types, most = read_layer_types(fields, layers), fields.count("max_window_layers", 28, minimum=0)
        sliding = [kind == "sliding_attention" for kind in types or []]
        sliding = sliding or [not at % 2 and at < most for at in range(layers)]
        return tuple(window if each else None for each in sliding)
    if fields.model_type == "llama4_text":
        return _chunks(fields, layers)
    return (None,) * layers


def _chunks(fields: Fields, layers: int) -> tuple[int | None, ...]:
    """Llama 4 attends within chunks of positions but for every fourth layer: as a window of a chunk's length."""
    chunk = fields.count_or_none("attention_chunk_size", 8192)
    types = read_layer_types(fields, layers, ("full_attention", "chunked_attention"))
    interval = fields.count("no_rope_layer_interval", 4)
    local = [kind == "chunked_attention" for kind in types or []] or [(at + 1) % interval != 0 for at in range(layers)]
    return tuple(chunk if each else None for each in local)


def _tensors(spec: ModelSpec) -> tuple[WeightTensor, ...]:
    own = MOE_TYPES[spec.model_type]
    hidden, queries, keys = spec.hidden_size, spec.q_size, spec.kv_size
    return (
        attention_weight("q_proj", "self_attn.q_proj", queries, hidden, bias=spec.qkv_bias),
        attention_weight("k_proj", "self_attn.k_proj", keys, hidden, bias=spec.qkv_bias),
        attention_weight("v_proj", "self_attn.v_proj", keys, hidden, bias=spec.qkv_bias),
        attention_weight("o_proj", "self_attn.o_proj", hidden, queries, bias=spec.attn_out_bias),
        *expert_tensors(spec, own.block, own.shared, bias=own.bias),
    )


def _other_params(spec: ModelSpec) -> int:
    """The router, the gate of Qwen2's shared expert, norms over all of q and k, attention sinks."""
    own, experts = MOE_TYPES[spec.model_type], spec.experts
    router = experts.number * (spec.hidden_size + (own.bias or own.router_bias)) if experts else 0
    gate = spec.hidden_size if experts and spec.model_type == "qwen2_moe" else 0
    norms = spec.q_size + spec.kv_size if own.norms == "all" else 0
    return router + gate + norms + (spec.num_heads if own.sinks else 0)


def _layer(b: Builder, window: int | None) -> None:
    model, own = b.model, MOE_TYPES[b.model.model_type]
    tensors = {tensor.name: tensor for tensor in model.tensors}
    normed = b.norm("input_layernorm", INPUT)

    def heads_of(which: str, heads: int) -> str:
        source = b.site(tensors[f"{which}_proj"], normed, holds=[INPUT])
        if model.qk_norm:
            return b.norm(f"self_attn.{which}_norm", source, rows=b.work.tokens * heads, columns=model.head_dim)
        if own.norms == "all":
            return b.norm(f"self_attn.{which}_norm", source, columns=heads * model.head_dim)
        return source

    query, key = heads_of("q", model.num_heads), heads_of("k", model.num_kv_heads)
    value = b.site(tensors["v_proj"], normed, holds=[INPUT])
    query, key = (add_clip(b, "self_attn", *each) for each in (("q", query, model.q_size), ("k", key, model.kv_size)))
    value = add_clip(b, "self_attn", "v", value, model.value_size)
    query = add_rotated(b, "q", query, model.q_size)
    key = add_rotated(b, "k", key, model.kv_size, holds=[query])
    attended = add_attention(b, "self_attn", query, [key, value], window)
    projected = b.site(tensors["o_proj"], attended.output, holds=[normed, query, *attended.held])
    residual = b.pointwise("add_attention", "add", [INPUT, projected], model.hidden_size)
    normed = b.norm("post_attention_layernorm", residual)
    output = add_mlp(b, normed, own.block, own.shared)
    b.pointwise("add_mlp", "add", [residual, output], model.hidden_size, holds=[INPUT, *attended.weights])


def _row(name: str, types: Collection[str], norm: NormKind) -> FamilyRow:
    prefixes = {model_type: MOE_TYPES[model_type].prefix for model_type in types}
    own = {"Llama4TextModel": no_head}
    return rotary_row(name, prefixes, _read, _tensors, _layer, other_params=_other_params, norm=norm, own_heads=own)


MOE = _row("moe", [name for name in MOE_TYPES if name != "phimoe"], "rms_norm")
PHIMOE = _row("phimoe", ["phimoe"], "layer_norm")
"""Phi-3.5-MoE: layers of the others with a LayerNorm."""
