"""A linear recurrent unit as operations: the convolution, two gates of products by head, and the recurrence, element by
element. FLOPs of the convolution are counted as torch's counter does, padding included."""

from __future__ import annotations

from costmodel.blocks import LinearUnit
from costmodel.forward.cost import FP32_BYTES, OpCost, batched_gemm
from costmodel.forward.ops import Builder
from costmodel.forward.state_space import add_convolution
from costmodel.tensors import WeightTensor, attention_weight

_STEP_OPS = 8
"""Vector operations for each feature and position: the gates, the decay, the root, the sum."""


def unit_tensors(block: LinearUnit, path: str, hidden: int) -> tuple[WeightTensor, ...]:
    """The two linears that read the hidden states, and the one that writes them."""
    shapes = (("linear_y", block.width, hidden), ("linear_x", block.width, hidden), ("linear_out", hidden, block.width))
    return tuple(attention_weight(name, f"{path}.{name}", n, k, bias=True) for name, n, k in shapes)


def unit_params(block: LinearUnit) -> int:
    """Parameters beside those linears: the convolution, a decay of each feature, and two gates by head with biases."""
    return block.width * (block.kernel + 1 + 1) + 2 * block.width * (block.width // block.heads + 1)


def add_linear_unit(b: Builder, block: LinearUnit, path: str, tensors: dict[str, WeightTensor], source: str) -> str:
    """Add the linears, the convolution, the gates and the recurrence."""
    work, size, columns = b.work, b.work.act_bytes, block.width // block.heads
    opened = b.activation(f"{path}.act_fn", b.site(tensors["linear_y"], source), block.width)
    mixed = add_convolution(b, path, block.width, block.kernel, b.site(tensors["linear_x"], source))
    gate = batched_gemm(block.heads, work.tokens, columns, columns, act_bytes=size)
    gates = [
        b.add(f"{path}.rg_lru.{name}_gate", "attention", gate, [mixed], work.tokens * block.width)
        for name in ("input", "recurrent")
    ]
    held = work.batch * block.width * FP32_BYTES
    moved = work.tokens * block.width * size
    cost = OpCost(
        vector_flops=_STEP_OPS * work.tokens * block.width,
        act_read_bytes=3 * moved,
        act_write_bytes=moved,
        kv_read_bytes=held if work.q_len == 1 else 0,
        kv_write_bytes=held,
        kernels=1,
    )
    scanned = b.add(f"{path}.rg_lru", "attention", cost, [mixed, *gates], work.tokens * block.width)
    return b.site(tensors["linear_out"], b.pointwise(f"{path}.gate", "mul", [scanned, opened], block.width))
