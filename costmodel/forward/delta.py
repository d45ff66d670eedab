"""Linear attention by the gated delta rule as operations: convolution, chunks of a prompt, one step of the state.

A prompt runs in chunks of 64 positions, padded to whole ones, as transformers' own code does: for C positions of one
head 2 (2 C^2 k + C^2 v + 3 C k v) FLOPs of matrix products (the triangular system beside them counts as vector work).
Where each feature of a key decays by itself, products of queries and keys are no matrix products but vector work; the
solved system is multiplied with values and keys instead: 2 (C^2 k + 2 C^2 v + 3 C k v) FLOPs.
The convolution's FLOPs are counted as torch's counter does, padding included.
A step of one token updates the state element by element, without a matrix product.
"""

from __future__ import annotations

from costmodel.blocks import DeltaNet
from costmodel.forward.cost import FP32_BYTES, OpCost, elementwise
from costmodel.forward.ops import Builder
from costmodel.forward.work import FMA
from costmodel.model import ModelSpec

CHUNK = 64
_STATE_PASSES = 4
"""Kernels of a step that read or write the whole state: decay, read by the key, update, read by the query."""


def delta_of(model: ModelSpec) -> DeltaNet | None:
    """The sizes of the gated delta rule, where the layers have it."""
    return model.recurrent if isinstance(model.recurrent, DeltaNet) else None


def add_delta_rule(b: Builder, prefix: str, sources: list[str]) -> str:
    """Add the convolution and the recurrence of one layer of this kind; `sources` made its inputs.

    Returns:
        Name of the operation that gives (tokens, values).
    """
    work, delta, size = b.work, delta_of(b.model), b.work.act_bytes
    assert delta is not None
    tokens = work.tokens
    convolved = elementwise("copy", tokens, delta.convolved, act_bytes=size)
    summed = FMA * work.batch * (work.q_len + delta.kernel - 1) * delta.convolved * delta.kernel
    convolved += OpCost(
        flops=summed if work.q_len > 1 else 0,
        vector_flops=summed if work.q_len == 1 else 0,
        weight_read_bytes=delta.convolved * delta.kernel * size,
    )
    mixed = b.add(f"{prefix}.conv1d", "elementwise", convolved, sources[:1], tokens * delta.convolved)
    heads, state = work.batch * delta.value_heads, delta.key_dim * delta.value_dim
    moved = tokens * (delta.convolved + delta.values) * size
    held = heads * state * FP32_BYTES
    if work.q_len == 1:
        cost = OpCost(
            vector_flops=2 * _STATE_PASSES * heads * state,
            act_read_bytes=moved,
            kv_read_bytes=held,
            kv_write_bytes=held,
            kernels=_STATE_PASSES,
        )
    else:
        chunks = -(-work.q_len // CHUNK)
        square = delta.key_dim + delta.value_dim + (delta.value_dim if delta.by_channel else delta.key_dim)
        flops = FMA * heads * chunks * (CHUNK * CHUNK * square + 3 * CHUNK * state)
        paired = CHUNK + 6 * delta.key_dim if delta.by_channel else delta.key_dim + delta.value_dim
        solved = heads * chunks * CHUNK * CHUNK * paired
        cost = OpCost(
            flops=flops,
            vector_flops=solved,
            act_read_bytes=moved,
            kv_write_bytes=held,
            kernels=1,
        )
    return b.add(f"{prefix}.delta_rule", "attention", cost, [mixed, *sources[1:]], tokens * delta.values)
