"""Selective state spaces and short convolutions as operations: what mixes positions without a cache that grows.

Mamba-2 runs a prompt in chunks of Q positions, padded to whole ones, as transformers does: c chunks of one head with
a state of p x n, 2 Q c (Q n + Q p + 2 n p) + 2 (c + 1)^2 n p FLOPs of matrix products. Mamba runs position by position,
2 n FLOPs for each feature. A step of one token updates the state and reads it by one product. FLOPs of convolutions are
counted as torch's counter does, padding included; those of a step are vector work.
"""

from __future__ import annotations

from costmodel.blocks import ShortConv, StateSpace
from costmodel.forward.cost import FP32_BYTES, OpCost, elementwise
from costmodel.forward.ops import Builder
from costmodel.forward.work import FMA
from costmodel.tensors import WeightTensor, attention_weight

_STEP_OPS = 6
"""Vector operations for each element of a state that takes a step: two products of what enters, decay, sum, skip."""


def recurrent_tensors(block: StateSpace | ShortConv, path: str, hidden: int) -> tuple[WeightTensor, ...]:
    """The linears of a state space or a short convolution that can be factored, in the order of the forward pass.

    Args:
        block: its sizes.
        path: of the module inside the layer.
        hidden: width of the hidden states.
    """
    if isinstance(block, ShortConv):
        shapes = [("in_proj", 3 * block.width, hidden, block.bias), ("out_proj", hidden, block.width, block.bias)]
    else:
        inner = 2 * block.values if block.rank else block.values + block.convolved + block.heads
        narrow = [("x_proj", block.rank + 2 * block.state_dim, block.values, False)] if block.rank else []
        outward = ("out_proj", hidden, block.values, block.out_bias)
        shapes = [("in_proj", inner, hidden, block.bias), *narrow, outward]
    return tuple(attention_weight(name, f"{path}.{name}", n, k, bias=bias) for name, n, k, bias in shapes)


def recurrent_params(block: StateSpace | ShortConv) -> int:
    """Parameters beside those linears: the convolution; a decay, a step and a skip of each head; the gated norm; of
    Mamba the linear that makes step sizes, whose module is never called."""
    if isinstance(block, ShortConv):
        return block.width * (block.kernel + block.bias)
    convolution = block.convolved * (block.kernel + block.conv_bias)
    if block.rank:
        return convolution + block.values * (block.state_dim + 1 + block.rank + 1)
    return convolution + 3 * block.heads + (block.values if block.normed else 0)


def add_short_conv(b: Builder, block: ShortConv, path: str, tensors: dict[str, WeightTensor], source: str) -> str:
    """Add a gated short convolution and the linears around it."""
    inner = b.site(tensors["in_proj"], source)
    gated = b.pointwise(f"{path}.gate_in", "mul", [inner], block.width)
    convolved = add_convolution(b, path, block.width, block.kernel, gated)
    result = b.pointwise(f"{path}.gate_out", "mul", [convolved, inner], block.width)
    return b.site(tensors["out_proj"], result)


def add_state_space(b: Builder, block: StateSpace, path: str, tensors: dict[str, WeightTensor], source: str) -> str:
    """Add the convolution, the recurrence and the linears around them."""
    inner = b.site(tensors["in_proj"], source)
    mixed = add_convolution(b, path, block.convolved, block.kernel, inner)
    mixed = b.pointwise(f"{path}.act", "silu", [mixed], block.convolved)
    sources = [mixed, inner]
    if block.rank:
        small = b.site(tensors["x_proj"], mixed)
        for name, width in _narrow_norms(block):
            small = b.norm(f"{path}.{name}", small, columns=width, holds=[mixed])
        sources = [mixed, b.linear(f"{path}.dt_proj", b.work.tokens, block.values, block.rank, small, bias=True)]
    scanned = _scan(b, block, path, sources)
    gated = b.pointwise(f"{path}.gate", "mul", [scanned, inner], block.values)
    if block.normed and not block.rank:
        gated = b.norm(f"{path}.norm", gated, rows=b.work.tokens * block.groups, columns=block.values // block.groups)
    return b.site(tensors["out_proj"], gated)


def _narrow_norms(block: StateSpace) -> tuple[tuple[str, int], ...]:
    """The norms of what Jamba's Mamba makes step sizes and states from: name and width."""
    if not block.normed:
        return ()
    return (("dt_layernorm", block.rank), ("b_layernorm", block.state_dim), ("c_layernorm", block.state_dim))


def add_convolution(b: Builder, path: str, width: int, kernel: int, source: str) -> str:
    """A causal convolution of each feature by itself."""
    work, size = b.work, b.work.act_bytes
    summed = FMA * work.batch * (work.q_len + kernel - 1) * width * kernel
    cost = elementwise("copy", work.tokens, width, act_bytes=size) + OpCost(
        flops=summed if work.q_len > 1 else 0,
        vector_flops=summed if work.q_len == 1 else 0,
        weight_read_bytes=width * kernel * size,
    )
    return b.add(f"{path}.conv1d", "elementwise", cost, [source], work.tokens * width)


def _scan(b: Builder, block: StateSpace, path: str, sources: list[str]) -> str:
    work, size = b.work, b.work.act_bytes
    state = block.values * block.state_dim
    held = work.batch * state * FP32_BYTES
    moved = work.tokens * (block.convolved + block.values) * size
    steps = work.tokens * state
    flops, vector = FMA * steps, _STEP_OPS * steps
    if work.q_len > 1 and block.chunk:
        chunks, span = -(-work.q_len // block.chunk), block.chunk
        within = span * (span * (block.state_dim + block.head_dim) + 2 * block.state_dim * block.head_dim)
        between = (chunks + 1) ** 2 * block.state_dim * block.head_dim
        flops = FMA * work.batch * block.heads * (chunks * within + between)
        vector = work.batch * block.heads * chunks * span * (span + block.state_dim + block.head_dim)
    cost = OpCost(
        flops=flops,
        vector_flops=vector,
        act_read_bytes=moved,
        act_write_bytes=work.tokens * block.values * size,
        kv_read_bytes=held if work.q_len == 1 else 0,
        kv_write_bytes=held,
        kernels=1,
    )
    return b.add(f"{path}.scan", "attention", cost, sources, work.tokens * block.values)
