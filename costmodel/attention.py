"""Attention as operations: one fused kernel, or the separate kernels of Hugging Face's "eager" attention."""

from __future__ import annotations

from collections.abc import Sequence

from costmodel.cost import FP32_BYTES, OpCost, batched_gemm, elementwise, fused_attention, keys_held, kv_append
from costmodel.model_spec import Family
from costmodel.ops import Builder
from costmodel.workload import Attention

_UPCASTING = (Family.LLAMA, Family.OPT)
"""Families whose unfused attention takes the softmax in fp32 and casts back."""


def add_attention(
    b: Builder, prefix: str, query: str, keys_values: Sequence[str], window: int | None
) -> tuple[str, str]:
    """Add KV-cache append and attention after the projections.

    Args:
        b: the builder, with model and workload.
        prefix: module path of the attention block inside the layer.
        query: name of the operation that made the queries.
        keys_values: names of those that made keys and values.
        window: sliding window in positions, or None.

    Returns:
        The name of the output, (tokens, num_heads * head_dim), and of what stays alive to the end of the layer
        (the attention weights of the unfused form, which Hugging Face's layers keep in a local; else the output).
    """
    model, work = b.model, b.work
    if not model.is_encoder:
        cost = kv_append(work.batch, model.num_kv_heads, work.q_len, model.head_dim, act_bytes=work.act_bytes)
        keys_values = [b.add(f"{prefix}.kv_append", "kv_cache", cost, keys_values, 0)]
    if work.attention is Attention.FUSED:
        cost = fused_attention(
            work.batch, model.num_heads, model.num_kv_heads, work.q_len, work.kv_len, model.head_dim,
            act_bytes=work.act_bytes, causal=not model.is_encoder, window=window, cached=not model.is_encoder,
        )  # fmt: skip
        sources = [query, *(name for name in keys_values if name != query)]
        name = b.add(f"{prefix}.sdpa", "attention", cost, sources, work.tokens * model.q_size)
        return name, name
    return _add_unfused(b, prefix, query, keys_values, window)


def _add_unfused(
    b: Builder, prefix: str, query: str, keys_values: Sequence[str], window: int | None
) -> tuple[str, str]:
    model, work, size = b.model, b.work, b.work.act_bytes
    heads, keys = work.batch * model.num_heads, keys_held(work.q_len, work.kv_len, window)
    rows, scores = heads * work.q_len, heads * work.q_len * keys
    one_operand = work.batch * model.num_kv_heads * keys * model.head_dim * size
    expanded: list[str] = []
    if model.num_kv_heads != model.num_heads:
        wide = heads * keys * model.head_dim
        cost = OpCost(kv_read_bytes=2 * one_operand, act_write_bytes=2 * wide * size, kernels=2)
        expanded = [b.add(f"{prefix}.repeat_kv", "attention", cost, keys_values, 2 * wide)]
        keys_values = expanded
    from_cache = not expanded and not model.is_encoder

    def product(name: str, n: int, k: int, sources: Sequence[str], holds: Sequence[str]) -> str:
        cost = batched_gemm(heads, work.q_len, n, k, act_bytes=size)
        if from_cache:
            cost += OpCost(act_read_bytes=-one_operand, kv_read_bytes=one_operand)
        return b.add(f"{prefix}.{name}", "attention", cost, sources, heads * work.q_len * n, holds=holds)

    def pointwise(name: str, program: str, source: str, extra: OpCost, workspace: int = 0) -> str:
        cost = elementwise(program, rows, keys, act_bytes=size) + extra
        held = [*keys_values, *expanded]
        return b.add(f"{prefix}.{name}", "attention", cost, [source], scores, workspace=workspace, holds=held)

    sources = [query, *(name for name in keys_values if name != query)]
    weights = product("scores", keys, model.head_dim, sources, [])
    weights = pointwise("scale", "scale", weights, OpCost())
    if not model.is_encoder:
        mask_bytes = work.batch * work.q_len * keys * size
        weights = pointwise("mask", "scale", weights, OpCost(act_read_bytes=mask_bytes))
    upcast = model.family in _UPCASTING and size < FP32_BYTES
    weights = pointwise("softmax", "softmax_upcast" if upcast else "softmax", weights, OpCost(), 2 * scores * upcast)
    context = product("context", model.head_dim, keys, [weights, *keys_values], [query])
    if work.q_len > 1:
        cost = elementwise("copy", work.tokens, model.q_size, act_bytes=size)
        context = b.add(
            f"{prefix}.merge_heads", "elementwise", cost, [context], work.tokens * model.q_size,
            holds=[*keys_values, query],
        )  # fmt: skip
    return context, weights
