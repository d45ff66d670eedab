"""Attention residuals: what a block reads is a sum over the sums of earlier blocks of layers, each weighed by a softmax
over the product of its normed vector with a learned one (Kimi K3)."""

from __future__ import annotations

from costmodel.forward.cost import OpCost
from costmodel.forward.ops import Builder
from costmodel.forward.work import FMA
from costmodel.model import ModelSpec

_VECTOR_OPS = 7
"""Vector operations for each element of a sum: its norm, and its part of the result."""


def residual_params(spec: ModelSpec) -> int:
    """Parameters of one such sum: a norm and a vector."""
    return 2 * spec.hidden_size


def add_weighed(b: Builder, name: str, source: str) -> str:
    """Add the sum over the blocks of layers so far; the source itself where a model has none."""
    words, work, hidden = b.model.words, b.work, b.model.hidden_size
    if words is None or not words.residual_blocks:
        return source
    read = work.tokens * hidden * words.residual_blocks
    cost = OpCost(
        flops=FMA * read,
        vector_flops=_VECTOR_OPS * read,
        weight_read_bytes=residual_params(b.model) * work.act_bytes,
        act_read_bytes=read * work.act_bytes,
        act_write_bytes=work.tokens * hidden * work.act_bytes,
        kernels=1,
    )
    return b.add(name, "elementwise", cost, [source], work.tokens * hidden)
