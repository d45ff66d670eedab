"""DeepSeek-V4's attention as operations: a window of positions and compressed entries for those before, one key that
all heads share and that is the value, too; and the streams of hidden states around it.

Counted as transformers runs it: scores of all entries are made and masked, whatever the indexer chooses, where kernels
are separate; the fused kernel reads the chosen ones alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from costmodel.blocks import CompressedAttention
from costmodel.forward.attention import Attended, mask_name
from costmodel.forward.cost import FP32_BYTES, OpCost, batched_gemm, elementwise
from costmodel.forward.ops import Builder
from costmodel.forward.work import FMA, SOFTMAX_OPS, keys_held
from costmodel.forward.workload import Attention
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor


def compressed_of(model: ModelSpec) -> CompressedAttention:
    """The sizes of the attention of a model that has it."""
    assert model.compressed is not None
    return model.compressed


def add_streams_in(b: Builder, path: str, source: str) -> str:
    """What of the streams enters a block: weights of all of them from one product, and their weighted sum."""
    hidden, tokens, n = b.model.hidden_size, b.work.tokens, compressed_of(b.model).streams
    normed = b.pointwise(f"{path}.input_norm", "scale", [source], n * hidden)
    weights = b.linear(f"{path}.fn", tokens, n * (n + 2), n * hidden, normed, bias=False)
    return b.pointwise(f"{path}.collapse", "mul", [source, weights], hidden, rows=tokens * n)


def add_streams_out(b: Builder, path: str, source: str, result: str, holds: Sequence[str] = ()) -> str:
    """The streams mixed among each other, and what a block gave added to each; `holds` are kept alive until then."""
    hidden, tokens, n = b.model.hidden_size, b.work.tokens, compressed_of(b.model).streams
    cost = batched_gemm(tokens, n, hidden, n, act_bytes=b.work.act_bytes)
    mixed = b.add(f"{path}.mix", "elementwise", cost, [source], tokens * n * hidden)
    return b.pointwise(f"{path}.add", "add", [mixed, result], hidden, rows=tokens * n, holds=holds)


def add_entries(b: Builder, path: str, normed: str, width: int, tensors: dict[str, WeightTensor], name: str) -> str:
    """Entries of `width` features: each position's vectors weighed by a softmax within an entry, summed and normed."""
    work, block = b.work, compressed_of(b.model)
    made = [b.site(tensors[f"{name}.{leaf}"], normed) for leaf in ("kv_proj", "gate_proj")]
    weighed = elementwise("softmax", work.tokens, block.series * width, act_bytes=work.act_bytes)
    entries = max(1, -(-work.tokens // block.rate))
    summed = b.add(f"{path}.sum", "elementwise", weighed, made, entries * width)
    normed = b.norm(f"{path}.kv_norm", summed, rows=entries, columns=width)
    new = entries * width
    cost = OpCost(act_read_bytes=new * work.act_bytes, kv_write_bytes=new * work.kv_bytes, kernels=1)
    return b.add(f"{path}.append", "kv_cache", cost, [normed], 0)


def add_index(b: Builder, path: str, normed: str, narrow: str, tensors: dict[str, WeightTensor]) -> str:
    """Scores of all entries for each query by a few narrow heads, and the highest of them."""
    work, block = b.work, compressed_of(b.model)
    cached = add_entries(b, path, normed, block.index_dim, tensors, "indexer")
    query = b.site(tensors["indexer.q_b_proj"], narrow)
    weights = b.linear(f"{path}.weights_proj", work.tokens, block.index_heads, b.model.hidden_size, normed, bias=False)
    entries = work.kv_len // block.rate
    pairs = work.tokens * entries
    cost = OpCost(
        flops=FMA * pairs * block.index_heads * block.index_dim,
        vector_flops=4 * pairs * block.index_heads,
        act_read_bytes=work.tokens * block.index_heads * block.index_dim * work.act_bytes,
        act_write_bytes=pairs * FP32_BYTES,
        kv_read_bytes=work.batch * entries * block.index_dim * work.kv_bytes,
        kernels=2,
    )
    scores = b.add(f"{path}.scores", "attention", cost, [query, cached, weights], pairs * FP32_BYTES // work.act_bytes)
    chosen = work.tokens * min(entries, block.index_top)
    cost = OpCost(vector_flops=pairs, act_read_bytes=pairs * FP32_BYTES, act_write_bytes=chosen * FP32_BYTES, kernels=1)
    return b.add(f"{path}.top_k", "elementwise", cost, [scores], chosen * FP32_BYTES // work.act_bytes)


def add_compressed_attention(b: Builder, path: str, query: str, key: str, others: list[str]) -> Attended:
    """Attention of the queries to the window and the entries.

    Args:
        b: the builder.
        path: module path of attention inside the layer.
        query: name of the operation that made the queries, (tokens, heads x head_dim).
        key: of the one that made the new positions' keys, (tokens, head_dim).
        others: of those that made the entries and the choice among them.
    """
    model, work, block, size = b.model, b.work, compressed_of(b.model), b.work.act_bytes
    new = work.tokens * model.head_dim
    cost = OpCost(act_read_bytes=new * size, kv_write_bytes=new * work.kv_bytes, kernels=1)
    cached = b.add(f"{path}.kv_append", "kv_cache", cost, [key], 0)
    near, entries = keys_held(work.q_len, work.kv_len, block.window), work.kv_len // block.rate if block.rate else 0
    heads, keys, sources = work.batch * model.num_heads, near + entries, [query, cached, *others]
    rows = heads * work.q_len
    if work.attention is Attention.FUSED:
        top = min(entries, block.index_top) if block.index_top else entries
        seen = rows * (min(near, block.window) + top)
        read = work.batch * (near + (top if work.q_len == 1 else entries)) * model.head_dim
        cost = OpCost(
            flops=2 * FMA * rows * keys * model.head_dim,
            skipped_flops=2 * FMA * (rows * keys - seen) * model.head_dim,
            vector_flops=SOFTMAX_OPS * seen,
            act_read_bytes=work.tokens * model.q_size * size,
            act_write_bytes=work.tokens * model.q_size * size,
            kv_read_bytes=read * work.kv_bytes,
            kernels=1,
        )
        return Attended(b.add(f"{path}.sdpa", "attention", cost, sources, work.tokens * model.q_size))
    cost = batched_gemm(heads, work.q_len, keys, model.head_dim, act_bytes=size)
    weights = b.add(f"{path}.scores", "attention", cost, sources, rows * keys)
    masked = elementwise("scale", rows, keys, act_bytes=size) + elementwise("add", rows, keys, act_bytes=size)
    mask = mask_name(None if block.rate else block.window)
    weights = b.add(f"{path}.mask", "attention", masked, [weights, mask], rows * keys, holds=sources)
    softmax = elementwise("softmax", rows, keys, act_bytes=size)
    weights = b.add(f"{path}.softmax", "attention", softmax, [weights], rows * keys, holds=sources)
    cost = batched_gemm(heads, work.q_len, model.head_dim, keys, act_bytes=size)
    context = b.add(f"{path}.context", "attention", cost, [weights, *sources], work.tokens * model.q_size)
    return Attended(context, (weights,))
