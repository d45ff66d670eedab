"""Attention as operations: one fused kernel, or the separate kernels of Hugging Face's "eager" attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from costmodel.forward.cost import FP32_BYTES, OpCost, batched_gemm, elementwise, fused_attention, kv_append, kv_grow
from costmodel.forward.ops import Builder
from costmodel.forward.work import AttentionShape, keys_held
from costmodel.forward.workload import Attention, Cache
from costmodel.units import DType

_MASK_KERNELS, _WINDOW_MASK_KERNELS = 10, 15
"""Kernels that make one additive mask, without and with a sliding window: position ranges, comparisons, select."""


class Attended(NamedTuple):
    """What `add_attention` leaves to the rest of the layer, as names of operations."""

    output: str
    """(tokens, num_heads * head_dim)."""
    weights: tuple[str, ...] = ()
    """The attention weights of the unfused form, which live to the end of the layer: Hugging Face's layers keep them in
    a local."""
    held: tuple[str, ...] = ()
    """Keys and values that a sliding window's cache has no room for, which live until the block returns."""


def mask_name(window: int | None) -> str:
    """Name of the mask that unfused causal attention adds to its scores."""
    return "attention_mask" if window is None else f"attention_mask.window_{window}"


def add_masks(b: Builder) -> None:
    """The additive masks of unfused causal attention, made once a pass for each sliding window.

    Fused attention needs none: a causal kernel, also one with a window, works them out by itself.
    """
    model, work = b.model, b.work
    if model.is_encoder or work.attention is Attention.FUSED:
        return
    for window in dict.fromkeys(model.sliding_windows):
        pairs = work.q_len * keys_held(work.q_len, work.kv_len, window)
        cost = OpCost(
            vector_flops=pairs,
            act_read_bytes=pairs,
            act_write_bytes=pairs + work.batch * pairs * work.act_bytes,
            kernels=_MASK_KERNELS if window is None else _WINDOW_MASK_KERNELS,
        )
        b.add(mask_name(window), "elementwise", cost, [], work.batch * pairs)


def add_attention(
    b: Builder, prefix: str, query: str, keys_values: Sequence[str], window: int | None, *, append: bool = True
) -> Attended:
    """Add KV-cache append and attention after the projections.

    The cache of a sliding window keeps the last `window` keys and values. Several queries that need more than that read
    the new ones where the projections left them or, after a past, a copy of the cache with the new ones behind it.

    Args:
        b: the builder, with model and workload.
        prefix: module path of the attention block inside the layer.
        query: name of the operation that made the queries.
        keys_values: names of those that made keys and values.
        window: sliding window in positions, or None.
        append: whether these are new keys and values; else those in the cache are an earlier layer's.
    """
    model, work = b.model, b.work
    width = (model.head_dim + model.value_width) // 2  # a fused kernel's bytes and FLOPs are those of both together
    keys, held = keys_held(work.q_len, work.kv_len, window), tuple[str, ...]()
    if not model.is_encoder and append:
        new = work.q_len if window is None else min(work.q_len, window)
        cost = kv_append(work.batch, model.num_kv_heads, new, width, act_bytes=work.act_bytes)
        if work.cache is Cache.GROWING and work.q_len < work.kv_len:
            cost = kv_grow(work.batch, model.num_heads, keys, new, width, act_bytes=work.act_bytes)
        beyond = window is not None and work.kv_len > window and work.q_len > 1
        copied = work.batch * keys * (model.kv_size + model.value_size) if beyond and work.q_len < work.kv_len else 0
        appended = b.add(f"{prefix}.kv_append", "kv_cache", cost, keys_values, copied)
        if beyond:
            held = (appended,) if copied else tuple(keys_values)
        keys_values = [appended]
    if work.attention is Attention.FUSED:
        causal, most = not model.is_encoder, model.indexer.seen if model.indexer else keys
        read = min(keys, most) if work.q_len == 1 else keys
        shape = AttentionShape(work.batch, work.q_len, read, model.num_heads, model.num_kv_heads, width)
        visible = window if most >= keys else most
        cost = fused_attention(shape, act_bytes=work.act_bytes, causal=causal, window=visible, cached=causal)
        sources = [query, *(name for name in keys_values if name != query)]
        logsumexp = work.tokens * model.num_heads * FP32_BYTES // work.act_bytes
        name = b.add(
            f"{prefix}.sdpa",
            "attention",
            cost,
            sources,
            work.tokens * model.mixed_size,
            workspace=logsumexp,
            holds=held,
            attention=shape,
        )
        return Attended(name, held=held)
    return _add_unfused(b, prefix, query, keys_values, mask_name(window), keys, held)


def _add_unfused(
    b: Builder, prefix: str, query: str, keys_values: Sequence[str], mask: str, keys: int, held: tuple[str, ...]
) -> Attended:
    model, work, size = b.model, b.work, b.work.act_bytes
    heads = work.batch * model.num_heads
    rows, scores = heads * work.q_len, heads * work.q_len * keys
    per_width = work.batch * model.num_kv_heads * keys * size
    grouped = model.num_kv_heads != model.num_heads
    if grouped:
        both = model.head_dim + model.value_width
        wide = heads * keys * both
        cost = OpCost(kv_read_bytes=per_width * both, act_write_bytes=wide * size, kernels=2)
        keys_values = [b.add(f"{prefix}.repeat_kv", "attention", cost, keys_values, wide, holds=held)]
    from_cache = not grouped and not model.is_encoder
    locals_ = [*keys_values, *held]

    def folded(name: str, source: str, copied: bool) -> str:
        """torch.matmul's copy of an operand whose batch and heads are no single dimension of its memory."""
        if not copied:
            return source
        cost = elementwise("copy", work.tokens, model.q_size, act_bytes=size)
        return b.add(f"{prefix}.{name}", "elementwise", cost, [source], work.tokens * model.q_size)

    def product(name: str, n: int, k: int, width: int, sources: Sequence[str], holds: Sequence[str]) -> str:
        cost = batched_gemm(heads, work.q_len, n, k, act_bytes=size)
        if from_cache:
            cost += OpCost(act_read_bytes=-per_width * width, kv_read_bytes=per_width * width)
        return b.add(f"{prefix}.{name}", "attention", cost, sources, heads * work.q_len * n, holds=holds)

    def pointwise(name: str, program: str, sources: list[str], extra: OpCost, workspace: int = 0) -> str:
        cost = elementwise(program, rows, keys, act_bytes=size) + extra
        return b.add(f"{prefix}.{name}", "attention", cost, sources, scores, workspace=workspace, holds=locals_)

    loose = model.is_encoder or (bool(held) and held[0] not in keys_values and not grouped)  # not out of a cache
    strided = work.batch > 1 and model.num_heads > 1 and (work.q_len > 1 or model.family.strided_heads)
    key, value = keys_values[0], keys_values[-1]
    sources = [folded("copy_query", query, strided), folded("copy_key", key, strided and loose)]
    weights = product("scores", keys, model.head_dim, model.head_dim, sources, [query, *locals_])
    weights = pointwise("scale", "scale", [weights], OpCost())
    if not model.is_encoder:
        mask_bytes = work.batch * work.q_len * keys * size
        weights = pointwise("mask", "scale", [weights, mask], OpCost(act_read_bytes=mask_bytes))
    upcast = model.family.upcasts_softmax and size < FP32_BYTES
    program, temporaries = "softmax", 0
    if upcast:
        program, temporaries = ("softmax_upcast_bf16", 3) if work.dtype is DType.BF16 else ("softmax_upcast", 2)
    weights = pointwise("softmax", program, [weights], OpCost(), temporaries * scores)
    value = folded("copy_value", value, strided and loose)
    context = product("context", model.value_width, keys, model.value_width, [weights, value], [query, *locals_])
    if work.q_len > 1 and model.num_heads > 1:
        cost = elementwise("copy", work.tokens, model.mixed_size, act_bytes=size)
        context = b.add(
            f"{prefix}.merge_heads",
            "elementwise",
            cost,
            [context],
            work.tokens * model.mixed_size,
            holds=[*locals_, query],
        )
    return Attended(context, (weights,), held)
