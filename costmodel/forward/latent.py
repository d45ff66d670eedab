"""Latent attention as operations: plain, with keys and values made from all that is cached, or absorbed.

The cache keeps kv_rank + rope_dim elements of each position (`LatentAttention`). Plain, as transformers does it,
kv_b_proj makes the keys and values of all heads and of all positions anew in every pass. Absorbed, its key half is
applied to the queries and its value half to the results instead, 2 x tokens x its weights FLOPs whatever the length,
and attention runs on the cached vectors themselves, one for all heads (DeepSeek-V2, section 2.1.2).
"""

from __future__ import annotations

from costmodel.forward.attention import Attended, mask_name
from costmodel.forward.cost import FP32_BYTES, OpCost, batched_gemm, elementwise
from costmodel.forward.ops import Builder
from costmodel.forward.work import FMA, SOFTMAX_OPS, AttentionShape, visible_pairs
from costmodel.forward.workload import Attention, Latent
from costmodel.tensors import WeightTensor


def add_latent_attention(
    b: Builder, prefix: str, query: str, compressed: str, expand: WeightTensor, window: int | None
) -> Attended:
    """Add the cache's append, kv_b_proj and attention.

    Args:
        b: the builder, of a model with latent attention.
        prefix: module path of the attention block inside the layer.
        query: name of the operation that made the queries, (tokens, heads x key_dim).
        compressed: of what made the vectors that are cached.
        expand: kv_b_proj.
        window: sliding window in positions, or None.
    """
    model, work, size = b.model, b.work, b.work.act_bytes
    latent = model.latent
    assert latent is not None
    new = work.tokens * latent.cached
    cost = OpCost(act_read_bytes=new * size, kv_write_bytes=new * work.kv_bytes, kernels=2)
    cached = b.add(f"{prefix}.kv_append", "kv_cache", cost, [compressed], 0)
    absorbed = work.latent is Latent.ABSORBED
    expanded = b.site(expand, query if absorbed else cached, holds=[query, compressed])
    heads, keys = model.num_heads, work.kv_len
    key, value = (latent.cached, latent.kv_rank) if absorbed else (latent.key_dim, latent.value_dim)
    sources = [expanded, cached] if absorbed else [query, expanded]
    out = work.tokens * heads * latent.value_dim
    if work.attention is Attention.UNFUSED:
        return _add_unfused(b, prefix, sources, (key, value), mask_name(window), out)
    pairs = work.batch * heads * visible_pairs(work.q_len, keys, True, latent.index_top or window)
    everything = work.batch * heads * work.q_len * keys
    seen = min(keys, latent.index_top) if latent.index_top and work.q_len == 1 else keys
    read = work.batch * seen * (latent.cached if absorbed else heads * (key + value))
    cost = OpCost(
        flops=FMA * everything * (key + value),
        skipped_flops=FMA * (everything - pairs) * (key + value),
        vector_flops=SOFTMAX_OPS * pairs,
        act_read_bytes=work.tokens * heads * key * size + (0 if absorbed else read * size),
        act_write_bytes=work.tokens * heads * value * size,
        kv_read_bytes=read * work.kv_bytes if absorbed else 0,
        kernels=1,
    )
    shape = None if absorbed else AttentionShape(work.batch, work.q_len, keys, heads, heads, (key + value) // 2)
    logsumexp = work.tokens * heads * FP32_BYTES // size
    name = f"{prefix}.sdpa"
    return Attended(b.add(name, "attention", cost, sources, out, workspace=logsumexp, attention=shape))


def add_indexer(b: Builder, prefix: str, normed: str, narrow: str, tensors: dict[str, WeightTensor]) -> str:
    """Add what chooses the positions that attention looks at (DeepSeek-V3.2): queries of a few narrow heads against one
    cached key of each position, a sum of their positive products, weighed by head, and the highest of them.

    Args:
        b: the builder, of a model whose latent attention has an indexer.
        prefix: module path of the attention block inside the layer.
        normed: name of the operation that made the layer's normed input.
        narrow: of the one that made the queries' narrow vector.
        tensors: those of the layer by name.
    """
    work, latent = b.work, b.model.latent
    assert latent is not None
    heads, width, size, path = latent.index_heads, latent.index_dim, work.act_bytes, f"{prefix}.indexer"
    query = b.site(tensors["indexer.wq_b"], narrow)
    key = b.norm(f"{path}.k_norm", b.site(tensors["indexer.wk"], normed), columns=width)
    new = work.tokens * width
    cost = OpCost(act_read_bytes=new * size, kv_write_bytes=new * work.kv_bytes, kernels=1)
    cached = b.add(f"{path}.k_append", "kv_cache", cost, [key], 0)
    weights = b.linear(f"{path}.weights_proj", work.tokens, heads, b.model.hidden_size, normed, bias=False)
    rows, keys = work.tokens, work.kv_len
    cost = OpCost(
        flops=FMA * rows * keys * heads * (width + 1),
        vector_flops=2 * rows * keys * heads,
        act_read_bytes=rows * heads * width * size,
        act_write_bytes=rows * keys * FP32_BYTES,
        kv_read_bytes=work.batch * keys * width * work.kv_bytes,
        kernels=2,
    )
    scores = b.add(f"{path}.scores", "attention", cost, [query, cached, weights], rows * keys * FP32_BYTES // size)
    chosen = min(keys, latent.index_top)
    cost = OpCost(
        vector_flops=rows * keys,
        act_read_bytes=rows * keys * FP32_BYTES,
        act_write_bytes=rows * chosen * FP32_BYTES,
        kernels=1,
    )
    return b.add(f"{path}.top_k", "elementwise", cost, [scores], rows * chosen * FP32_BYTES // size)


def _add_unfused(b: Builder, prefix: str, sources: list[str], widths: tuple[int, int], mask: str, out: int) -> Attended:
    """Scores, softmax and context as kernels of their own, for keys and values of these widths."""
    work, size = b.work, b.work.act_bytes
    heads, keys = work.batch * b.model.num_heads, work.kv_len
    rows = heads * work.q_len
    cost = batched_gemm(heads, work.q_len, keys, widths[0], act_bytes=size)
    weights = b.add(f"{prefix}.scores", "attention", cost, sources, rows * keys)
    masked = elementwise("scale", rows, keys, act_bytes=size) + elementwise("add", rows, keys, act_bytes=size)
    weights = b.add(f"{prefix}.mask", "attention", masked, [weights, mask], rows * keys, holds=sources)
    softmax = elementwise("softmax", rows, keys, act_bytes=size)
    weights = b.add(f"{prefix}.softmax", "attention", softmax, [weights], rows * keys, holds=sources)
    cost = batched_gemm(heads, work.q_len, widths[1], keys, act_bytes=size)
    context = b.add(f"{prefix}.context", "attention", cost, [weights, sources[-1]], out)
    return Attended(context, (weights,))
