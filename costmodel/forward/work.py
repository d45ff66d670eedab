"""The work of matrix products and of attention: one formula each, for numbers and for arrays of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Count = TypeVar("Count", int, "npt.NDArray[np.int64]", "npt.NDArray[np.float64]")
"""A number, or an array of whole numbers; as floats they are exact up to 2^53."""

FMA = 2
"""FLOPs of one multiply-add."""
SOFTMAX_OPS = 5
"""Vector operations per attention score: scale, max, subtract and exponentiate, sum, divide."""


def gemm_work(
    m: Count, n: Count, k: Count, act_bytes: int, result_bytes: int | None = None
) -> tuple[Count, Count, Count]:
    """What (m, k) @ (k, n) does: 2 m n k FLOPs, bytes of m x k activations read and of m x n written, of `act_bytes`
    each, or results of `result_bytes`. The weight's bytes are left out: they depend on how it is held."""
    return FMA * m * n * k, m * k * act_bytes, m * n * (result_bytes or act_bytes)


class AttentionShape(NamedTuple, Generic[Count]):
    """Sizes of softmax(Q K^T) V; `kv_len` are the keys that the queries need, the new ones included."""

    batch: Count
    q_len: Count
    kv_len: Count
    num_heads: Count
    num_kv_heads: Count
    head_dim: Count


class ExpertWork(NamedTuple, Generic[Count]):
    """What an operation is of a layer of experts that runs in one chain of kernels."""

    hit: Count
    """Experts whose weights are read."""
    paired: Count
    """Products that one kernel makes together, of which this is one."""
    extra: Count
    """Halves of a kernel that it adds to those of a dense layer."""
    inner: Count
    """Elements of activations of an expert's inner size, of all rows."""
    hidden: Count
    """Of those of its outer size."""
    stream: Count
    """Bytes of other activations."""
    layers: Count
    """1 for the operation that stands for what a layer takes whatever its size."""


NO_EXPERTS = ExpertWork(0, 0, 0, 0, 0, 0, 0)


class AttentionWork(NamedTuple, Generic[Count]):
    """What one kernel that never writes the scores does (FlashAttention, arXiv 2205.14135)."""

    flops: Count
    """Of matrix products, 4 head_dim for each pair of query and key."""
    vector_flops: Count
    """Of the softmax."""
    query_bytes: Count
    """Queries read, and as many results written."""
    kv_bytes: Count
    """Keys and values of the num_kv_heads, read once."""

    @property
    def hbm_bytes(self) -> Count:
        """All traffic."""
        return 2 * self.query_bytes + self.kv_bytes


def attention_work(shape: AttentionShape[Count], pairs: Count, act_bytes: int) -> AttentionWork[Count]:
    """The work of fused attention on `pairs` of query and key for one head of one sequence."""
    heads = shape.batch * shape.num_heads
    return AttentionWork(
        2 * FMA * heads * pairs * shape.head_dim,
        SOFTMAX_OPS * heads * pairs,
        heads * shape.q_len * shape.head_dim * act_bytes,
        2 * shape.batch * shape.num_kv_heads * shape.kv_len * shape.head_dim * act_bytes,
    )


def causal_pairs(q_len: Count, kv_len: Count) -> Count:
    """Pairs (query, key) of q_len queries, of which each sees itself and what is before it among kv_len positions."""
    pairs: Count = q_len * (kv_len - q_len + 1) + q_len * (q_len - 1) // 2
    return pairs


def visible_pairs(q_len: int, kv_len: int, causal: bool, window: int | None) -> int:
    """Pairs (query, key) that the mask lets through, for one head of one sequence.

    The i-th of q_len queries (from 0) stands at position kv_len - q_len + i and sees itself and what is before it,
    at most `window` positions in all. Without a mask: q_len * kv_len.
    """
    if not causal:
        return q_len * kv_len
    if window is None or window >= kv_len:
        return causal_pairs(q_len, kv_len)
    first = kv_len - q_len + 1
    growing = max(0, min(q_len, window - first + 1))
    return growing * first + growing * (growing - 1) // 2 + (q_len - growing) * window


def keys_held(q_len: int, kv_len: int, window: int | None) -> int:
    """Keys that q_len queries need together: all, or with a sliding window the last window + q_len - 1."""
    return kv_len if window is None else min(kv_len, window + q_len - 1)
