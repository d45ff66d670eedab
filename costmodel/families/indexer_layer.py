"""What chooses blocks of positions for plain attention: its linears and its operations (MiniMax-M3)."""

from __future__ import annotations

from costmodel.blocks import BlockIndexer
from costmodel.forward.cost import FP32_BYTES, OpCost, elementwise
from costmodel.forward.ops import Builder
from costmodel.forward.work import FMA
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor, attention_weight


def indexer_tensors(spec: ModelSpec, path: str) -> tuple[WeightTensor, ...]:
    """The linears to its queries and to its key; none where attention looks at all positions.

    Args:
        spec: of the kind of layer.
        path: of attention inside the layer.
    """
    if (indexer := spec.indexer) is None:
        return ()
    shapes = (("indexer.q_proj", indexer.heads * indexer.width), ("indexer.k_proj", indexer.width))
    return tuple(attention_weight(name, f"{path}.{name}", n, spec.hidden_size, bias=False) for name, n in shapes)


def indexer_params(indexer: BlockIndexer | None) -> int:
    """Parameters beside those linears: norms of its queries and of its key."""
    return 2 * indexer.width if indexer else 0


def add_block_indexer(b: Builder, path: str, normed: str) -> str:
    """Add its linears, the scores of all positions and the choice of blocks; nothing where there is no indexer.

    Args:
        b: the builder, of a kind of layer.
        path: of attention inside the layer.
        normed: name of the operation that made the layer's normed input, which is returned where there is no indexer.
    """
    work, indexer = b.work, b.model.indexer
    if indexer is None:
        return normed
    tensors, size, below = {each.name: each for each in b.model.tensors}, work.act_bytes, f"{path}.indexer"
    sides = []
    for which, heads in (("q", indexer.heads), ("k", 1)):
        made = b.site(tensors[f"indexer.{which}_proj"], normed)
        made = b.norm(f"{below}.{which}_norm", made, rows=work.tokens * heads, columns=indexer.width)
        columns = heads * indexer.width
        turned = elementwise("rotate", work.tokens, columns, act_bytes=size)
        sides.append(b.add(f"{below}.rotary_{which}", "rope", turned, [made], work.tokens * columns))
    new = work.tokens * indexer.width
    cost = OpCost(act_read_bytes=new * size, kv_write_bytes=new * work.kv_bytes, kernels=1)
    cached = b.add(f"{below}.k_append", "kv_cache", cost, [sides[1]], 0)
    scores = work.tokens * indexer.heads * work.kv_len
    cost = OpCost(
        flops=FMA * scores * indexer.width,
        vector_flops=scores,
        act_read_bytes=work.tokens * indexer.heads * indexer.width * size,
        act_write_bytes=scores * FP32_BYTES // indexer.block,
        kv_read_bytes=work.batch * work.kv_len * indexer.width * work.kv_bytes,
        kernels=2,
    )
    return b.add(f"{below}.blocks", "attention", cost, [sides[0], cached], scores // indexer.block)
