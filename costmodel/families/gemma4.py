"""Gemma 3n and 4: an embedding of each layer, layers that share keys and values with earlier ones, heads that differ by
layer, and, of Gemma 3n, several streams of hidden states with a low-rank path beside attention.

A layer that shares keys and values projects queries alone and reads what the last layer of its kind before has cached.
All positions pass all layers; where logits of the last alone are asked for, transformers leaves the others out of such
layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from costmodel.blocks import AltUp, Experts
from costmodel.families.decoder import add_decoder_epilogue, add_decoder_prologue, decoder_row
from costmodel.families.decoder_fields import by_kind, decoder_spec, layer_overrides
from costmodel.families.decoder_layer import (
    add_attention_block,
    add_plain_mlp,
    attention_tensors,
    extra_params,
    mlp_tensors,
)
from costmodel.families.experts import add_mlp, expert_tensors
from costmodel.families.fields import Fields
from costmodel.families.heads import TEXT_HEADS
from costmodel.families.lists import counts_by_layer, names_by_layer
from costmodel.families.row import FamilyRow
from costmodel.forward.cost import batched_gemm
from costmodel.forward.frame import INPUT, Start
from costmodel.forward.ops import Builder
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor, mlp_weight
from costmodel.words import Words

_AROUND = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
_WORDS = Words(embedding_scale=True, placing="sandwich", norms=_AROUND, qk_norm="head", v_norm=True, logit_kernels=3)
_GATE, _BACK = "per_layer_input_gate", "per_layer_projection"
_UP, _DOWN = "laurel.linear_left", "laurel.linear_right"


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    third = fields.model_type == "gemma3n_text"
    layers, hidden = fields.layers("num_hidden_layers"), fields.count("hidden_size")
    types = _types(fields, layers, every=5 if third else 6)
    if not third:
        types[-1] = "full"
    words = _WORDS if fields.number_or_none("final_logit_softcapping", 10**6) else replace(_WORDS, logit_kernels=0)
    inner, sizes = _inner(fields, layers)
    kinds, own = list[str](), dict[str, dict[str, object]]()
    first_shared = layers - fields.count("num_kv_shared_layers", minimum=0)
    same = not third and fields.flag_or("attention_k_eq_v", False)
    heads = _heads(fields, [kind == "full" and not third for kind in types], same)
    for layer, kind in enumerate(types):
        values: dict[str, object] = {**heads[layer]}
        if any(other != values for other, each in zip(heads, types, strict=True) if each == kind):
            kind += "".join(f", {name} {size}" for name, size in values.items())
        if types[layer] == "full" and same:
            values["words"] = replace(words, qkv=words.qkv[:2])
        if layer >= first_shared:
            values["words"] = replace(words, qkv=words.qkv[:1], shared_cache=True)
            kind += ", shared"
            if fields.flag_or("use_double_wide_mlp", False):
                values["intermediate_size"] = 2 * inner
        if third and sizes[layer] != inner:
            values["intermediate_size"] = sizes[layer]
            kind += f", {sizes[layer]} wide"
        kinds.append(kind)
        own[kind] = values
    window = fields.count_or_none("sliding_window")
    both = not third and fields.choice_or("use_bidirectional_attention", "vision", ("all", "vision")) == "all"
    window = window // 2 + 1 if both and window else window
    options = _streams(fields) if third else _experts(fields)
    width = fields.count("hidden_size_per_layer_input", 0, minimum=0)
    table = fields.count("vocab_size_per_layer_input") if width else 0
    projections = 2 * (options["altup"].streams - 1) * hidden * hidden if third else 0
    return decoder_spec(
        fields,
        row,
        words,
        activation=fields.activation("hidden_activation", "gelu_pytorch_tanh"),
        intermediate_size=inner,
        mlp_bias=False,
        bidirectional=both,
        layer_inputs=width,
        sliding_windows=tuple(window if kind == "sliding" else None for kind in types),
        layer_norms=4 + bool(width) + (3 if options.get("experts") else 0) + (2 if third else 0),
        other_outer_params=layers * width * (table + hidden) + width + projections,
        **options,
        **by_kind(kinds, own),
    )


def _heads(fields: Fields, full: Sequence[bool], same: bool) -> list[dict[str, int]]:
    """Width of a head, and heads of keys, of each layer where they are not the model's: as the file lists them, else
    other ones for the layers that see every position."""
    listed = layer_overrides(fields, len(full), ("head_dim", "num_key_value_heads"))
    if listed is None:
        width = fields.count_or_none("global_head_dim", 512) or fields.count("head_dim") if any(full) else 0
        keys = fields.count_or_none("num_global_key_value_heads") if same else None
        own = {"head_dim": width, **({"num_kv_heads": keys} if keys else {})}
        return [own if each else {} for each in full]
    named = {"head_dim": "head_dim", "num_key_value_heads": "num_kv_heads"}
    return [{named[name]: size for name, size in each.items()} for each in listed]


def _types(fields: Fields, layers: int, every: int) -> list[str]:
    """sliding or full for each layer; without a list every so-manieth is full."""
    types = names_by_layer(fields, "layer_types", layers, ("sliding_attention", "full_attention"))
    if types is None:
        return ["sliding" if (layer + 1) % every else "full" for layer in range(layers)]
    return [kind.partition("_")[0] for kind in types]


def _inner(fields: Fields, layers: int) -> tuple[int, list[int]]:
    """The MLP's width, of the first layer and of each; a number for all, or in Gemma 3n a list of one for each."""
    if fields.model_type != "gemma3n_text" or not isinstance(fields.data.get("intermediate_size"), list):
        inner = fields.count("intermediate_size")
        return inner, [inner] * layers
    widths = counts_by_layer(fields, "intermediate_size", layers) or []
    return widths[0], widths


def _streams(fields: Fields) -> dict[str, Any]:
    return {"altup": AltUp(streams=fields.count("altup_num_inputs", minimum=2), rank=fields.count("laurel_rank"))}


def _experts(fields: Fields) -> dict[str, Any]:
    if not fields.flag_or("enable_moe_block", False):
        return {}
    number, per_token = fields.count("num_experts"), fields.count("top_k_experts")
    if per_token > number:
        raise fields.error("top_k_experts", f"at most the {number} experts")
    size = fields.count("moe_intermediate_size", fields.count_or_none("expert_intermediate_size") or -1)
    return {"experts": Experts(number=number, per_token=per_token, intermediate_size=size)}


def _tensors(spec: ModelSpec) -> tuple[WeightTensor, ...]:
    """Those of attention and the MLP; experts beside it; Laurel's path; what lets in the layer's own embedding."""
    hidden, width = spec.hidden_size, spec.layer_inputs
    experts = expert_tensors(spec, "") if spec.experts else ()
    shapes = [(_UP, spec.altup.rank, hidden), (_DOWN, hidden, spec.altup.rank)] if spec.altup else []
    shapes += [(_GATE, width, hidden), (_BACK, hidden, width)] if width else []
    extra = (mlp_weight(name.rpartition(".")[2], name, n, k, bias=False) for name, n, k in shapes)
    return (
        *attention_tensors(spec),
        *mlp_tensors(spec),
        *(replace(each, path=each.path.removeprefix(".")) for each in experts),
        *extra,
    )


def _other_params(spec: ModelSpec) -> int:
    """Norms of q and k; the router and its scales; what predicts and corrects streams."""
    router = spec.hidden_size + spec.experts.number if spec.experts else 0
    streams = 0
    if spec.altup:
        n = spec.altup.streams
        streams = n * n + n**3 + n * spec.hidden_size + spec.hidden_size
    return extra_params(spec) + router + streams


def _prologue(b: Builder) -> Start:
    start = add_decoder_prologue(b)
    hidden, tokens, width = b.model.hidden_size, b.work.tokens, b.model.layer_inputs
    columns = width * b.model.num_layers
    if width:
        own = b.embed("model.embed_tokens_per_layer", tokens, columns)
        projected = b.linear("model.per_layer_model_projection", tokens, columns, hidden, start.first, bias=False)
        rows = tokens * b.model.num_layers
        normed = b.norm("model.per_layer_projection_norm", projected, rows=rows, columns=width)
        b.pointwise("model.add_per_layer", "add", [normed, own], columns)
    if b.model.altup:
        for index in range(b.model.altup.streams - 1):
            made = b.linear(f"model.altup_projections.{index}", tokens, hidden, hidden, start.first, bias=False)
            b.pointwise(f"model.altup_projections.{index}.scale", "mul", [made, start.first], hidden)
    return Start(start.first, tuple(op.name for op in b.ops))


def _layer(b: Builder, window: int | None) -> None:
    hidden, altup = b.model.hidden_size, b.model.altup
    first = _predicted(b) if altup else INPUT
    normed = b.norm(_AROUND[0], first)
    beside = _laurel(b, normed) if altup else ""
    mixed, weights = add_attention_block(b, normed, window)
    residual = b.pointwise("add_attention", "add", [first, b.norm(_AROUND[1], mixed)], hidden)
    if beside:
        residual = b.pointwise("add_laurel", "add", [residual, beside], hidden)
    result = add_plain_mlp(b, b.norm(_AROUND[2], residual))
    if b.model.experts:
        result = b.norm("post_feedforward_layernorm_1", result)
        routed = add_mlp(b, b.norm("pre_feedforward_layernorm_2", residual), "router")
        routed = b.norm("post_feedforward_layernorm_2", routed)
        result = b.pointwise("add_experts", "add", [result, routed], hidden)
    holds = [INPUT, *weights]
    last = b.pointwise("add_mlp", "add", [residual, b.norm(_AROUND[3], result)], hidden, holds=holds)
    last = _corrected(b, last) if altup else last
    if b.model.layer_inputs:
        own = {tensor.name: tensor for tensor in b.model.tensors}
        gated = b.activation("act_fn", b.site(own[_GATE], last), b.model.layer_inputs)
        gated = b.pointwise("mul_per_layer", "mul", [gated], b.model.layer_inputs)
        normed = b.norm("post_per_layer_input_norm", b.site(own[_BACK], gated))
        last = b.pointwise("add_per_layer", "add", [last, normed], hidden, holds=holds)
    if not altup:
        b.pointwise("layer_scalar", "scale", [last], hidden, holds=holds)


def _router(b: Builder, source: str, which: str) -> str:
    """How much of each stream goes into the others, from the stream that the layer passes."""
    hidden, tokens, altup = b.model.hidden_size, b.work.tokens, b.model.altup
    assert altup is not None
    normed = b.norm(f"altup.router_norm.{which}", source)
    routed = b.linear(f"altup.modality_router.{which}", tokens, altup.streams, hidden, normed, bias=False)
    outputs = altup.streams * (altup.streams if which == "predict" else 1)
    return b.linear(f"altup.{which}_coefs", tokens, outputs, altup.streams, routed, bias=False)


def _predicted(b: Builder) -> str:
    altup, tokens, hidden = b.model.altup, b.work.tokens, b.model.hidden_size
    assert altup is not None
    coefs = _router(b, INPUT, "predict")
    cost = batched_gemm(tokens, hidden, altup.streams, altup.streams, act_bytes=b.work.act_bytes)
    size = tokens * hidden * altup.streams
    made = b.add("altup.predict", "elementwise", cost, [INPUT, coefs], size)
    return b.pointwise("altup.add_predicted", "add", [made, INPUT], hidden, rows=tokens * altup.streams)


def _corrected(b: Builder, activated: str) -> str:
    altup, tokens, hidden = b.model.altup, b.work.tokens, b.model.hidden_size
    assert altup is not None
    coefs = _router(b, activated, "correct")
    made = b.pointwise("altup.correct", "mul", [activated, coefs], hidden, rows=tokens * altup.streams)
    return b.pointwise("altup.add_corrected", "add", [made, activated], hidden, rows=tokens * altup.streams)


def _laurel(b: Builder, normed: str) -> str:
    own = {tensor.path: tensor for tensor in b.model.tensors}
    made = b.norm("laurel.post_laurel_norm", b.site(own[_DOWN], b.site(own[_UP], normed)))
    return b.pointwise("laurel.add", "add", [normed, made], b.model.hidden_size)


def _epilogue(b: Builder) -> None:
    if b.model.altup:
        hidden, tokens = b.model.hidden_size, b.work.tokens
        for index in range(b.model.altup.streams - 1):
            b.linear(f"model.altup_unembed_projections.{index}", tokens, hidden, hidden, INPUT, bias=False)
    add_decoder_epilogue(b)


GEMMA4 = decoder_row(
    "gemma4",
    {"gemma4_text": "Gemma4", "gemma4_unified_text": "Gemma4Unified", "gemma3n_text": "Gemma3n"},
    _read,
    norm="rms_norm",
    heads=TEXT_HEADS,
    tensors=_tensors,
    other_params=_other_params,
    prologue=_prologue,
    layer=_layer,
    epilogue=_epilogue,
)
