"""Lightning Attention in a layer: its linears and its operations.

A prompt runs in chunks; for c positions of a chunk and one head of width d, 2 (2 c^2 d + 2 c d^2) FLOPs of matrix
products. A step of one token updates the state and reads it, 4 d^2 FLOPs.
"""

from __future__ import annotations

from costmodel.blocks import Lightning
from costmodel.forward.cost import FP32_BYTES, OpCost, elementwise
from costmodel.forward.frame import INPUT
from costmodel.forward.ops import Builder
from costmodel.forward.work import FMA
from costmodel.tensors import WeightTensor, attention_weight
from costmodel.words import Words


def lightning_tensors(block: Lightning, words: Words, hidden: int) -> tuple[WeightTensor, ...]:
    """The linear to q, k and v, the gate's, and the one back."""
    packed, gate, _, out = words.linear
    shapes = ((packed, 3 * block.values, hidden), (gate, block.values, hidden), (out, hidden, block.values))
    return tuple(attention_weight(name, f"{words.mixer}.{name}", n, k, bias=False) for name, n, k in shapes)


def lightning_params(block: Lightning) -> int:
    """Parameters beside those linears: the norm of the result, and those of q and k."""
    return block.values + (2 * block.head_dim if block.qk_norm else 0)


def add_lightning(b: Builder, block: Lightning, normed: str) -> str:
    """Add the linears, the recurrence, its norm and its gate; the name of the last operation.

    Args:
        b: the builder, of a kind of layer with Lightning Attention.
        block: its sizes.
        normed: name of the operation that made the layer's normed input.
    """
    words, tokens = b.model.words, b.work.tokens
    assert words is not None
    path, tensors = words.mixer, {tensor.path: tensor for tensor in b.model.tensors}
    packed, gate, out = (tensors[f"{path}.{words.linear[place]}"] for place in (0, 1, 3))
    source = b.pointwise(f"{path}.act", "silu", [b.site(packed, normed, holds=[INPUT])], 3 * block.values)
    if block.qk_norm:
        for name in ("query", "key"):
            source = b.norm(f"{path}.{name}_layernorm", source, rows=tokens * block.heads, columns=block.head_dim)
            turned = elementwise("rotate", tokens, block.values, act_bytes=b.work.act_bytes)
            source = b.add(f"{path}.rotary_{name}", "rope", turned, [source], tokens * block.values)
    result = b.norm(f"{path}.{words.linear[2]}", _scan(b, block, path, source), columns=block.values)
    opened = b.site(gate, normed, holds=[result])
    return b.site(out, b.pointwise(f"{path}.gate", "mul", [result, opened], block.values), holds=[normed])


def _scan(b: Builder, block: Lightning, path: str, source: str) -> str:
    work, size = b.work, b.work.act_bytes
    heads, square = work.batch * block.heads, block.head_dim**2
    held = heads * square * FP32_BYTES
    whole, rest = divmod(work.q_len, block.chunk)
    positions = whole * block.chunk**2 + rest**2 if work.q_len > 1 else 0
    cost = OpCost(
        flops=FMA * heads * (2 * positions * block.head_dim + 2 * work.q_len * square),
        vector_flops=heads * (positions + 2 * work.q_len * block.head_dim),
        act_read_bytes=3 * work.tokens * block.values * size,
        act_write_bytes=work.tokens * block.values * size,
        kv_read_bytes=held if work.q_len == 1 else 0,
        kv_write_bytes=held,
        kernels=1,
    )
    return b.add(f"{path}.linear_attention", "attention", cost, [source], work.tokens * block.values)
