"""What one operation does: FLOPs, bytes and kernels, in closed form from its shapes. No device, no config object.

Every count is an exact int. Traffic is compulsory traffic: each operand is read once and each result written once
per kernel; what a cache saves between kernels and what bad tiling adds are not counted (docs/assumptions.md).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from costmodel.forward.work import AttentionShape, Count, attention_work, gemm_work, visible_pairs
from costmodel.units import DType
from costmodel.weights import WeightFormat

FP32_BYTES = 4
INDEX_BYTES = 8
"""A token or position number (torch.int64)."""
INT4_GROUP = 128
"""Weights along k that share one scale in weight-only int4."""


class OpCost(NamedTuple):
    """What an operation costs before any hardware is known; costs add up.

    A named tuple, as `Op` is: lists of operations make thousands of them, and a frozen dataclass takes four times as
    long to make.
    """

    flops: int = 0
    """Matrix products only, an FMA is 2, causal attention counted whole, as torch's FlopCounterMode does."""
    skipped_flops: int = 0
    """Part of `flops` that a fused masked kernel never executes; it enters the time only."""
    vector_flops: int = 0
    """Everything else: norms, activations, softmax, residual adds; one per element and arithmetic kernel."""
    weight_read_bytes: int = 0
    """Parameters read, of an embedding the rows looked up; bias and quantisation scales included."""
    act_read_bytes: int = 0
    """Activations and indices read from memory."""
    act_write_bytes: int = 0
    """Activations written to memory."""
    kv_read_bytes: int = 0
    """Keys and values read from the cache."""
    kv_write_bytes: int = 0
    """Keys and values appended to the cache."""
    message_bytes: int = 0
    """Of a collective among devices, the whole message: what is reduced, or what is gathered. It is no `hbm_bytes`."""
    kernels: int = 0
    """Device kernels that eager PyTorch launches; views launch none."""

    def __add__(self, other: OpCost) -> OpCost:  # type: ignore[override]
        return OpCost(*(one + more for one, more in zip(self, other, strict=True)))

    def with_kv_elements(self, before: int, after: int) -> OpCost:
        """The same with elements of the KV cache of `after` bytes in place of `before`."""
        read, written = (each // before * after for each in (self.kv_read_bytes, self.kv_write_bytes))
        return self._replace(kv_read_bytes=read, kv_write_bytes=written)

    @property
    def executed_flops(self) -> int:
        """Matrix FLOPs that are done: without what a masked kernel skips."""
        return self.flops - self.skipped_flops

    @property
    def hbm_bytes(self) -> int:
        """All traffic with main memory, in bytes."""
        read = self.weight_read_bytes + self.act_read_bytes + self.kv_read_bytes
        return read + self.act_write_bytes + self.kv_write_bytes

    @property
    def arithmetic_intensity(self) -> float:
        """FLOP per byte of traffic; 0 for an operation that moves nothing."""
        return self.flops / self.hbm_bytes if self.hbm_bytes else 0.0


def matrix_bytes(n: Count, k: Count, dtype: DType, scale_bytes: int = 2) -> Count:
    """Bytes of an n x k weight: int8 has one scale per output row, int4 one per row and group of 128 along k."""
    bits = dtype.bits
    stored = -(-n * k * bits // 8)
    if bits > 8:
        return stored
    if dtype is DType.INT8:
        return stored + n * scale_bytes
    if dtype is DType.INT4:
        return stored + n * -(-k // INT4_GROUP) * scale_bytes
    return stored


def weight_bytes(n: Count, k: Count, bias: Count, *, act_bytes: int, weight_dtype: DType | WeightFormat) -> Count:
    """Bytes of an n x k weight as it is held and of `bias` elements of the activations' type."""
    if isinstance(weight_dtype, WeightFormat):
        return weight_dtype.matrix_bytes(n, k) + bias * act_bytes
    return matrix_bytes(n, k, weight_dtype, act_bytes) + bias * act_bytes


def gemm(
    m: int,
    n: int,
    k: int,
    *,
    act_bytes: int,
    weight_dtype: DType | WeightFormat,
    bias: bool = False,
    input_bytes: int | None = None,
    weights: int = 1,
    kernels: int = 1,
) -> OpCost:
    """A linear layer, (m, k) @ (k, n) + bias: 2 m n k FLOPs, weights read once, one kernel; `input_bytes` of an element
    that it reads, where that differs from what it writes.

    Of a stack of experts m are the rows of all, `weights` those of the stack that are read.

    m = 1, n = k = 4096 in 16 bits: 33,554,432 FLOPs and 33,570,816 bytes, one FLOP per byte.
    """
    flops, read, written = gemm_work(m, n, k, input_bytes or act_bytes, act_bytes)
    held = weight_bytes(n, k, n if bias else 0, act_bytes=act_bytes, weight_dtype=weight_dtype)
    return OpCost._make((flops, 0, 0, weights * held, read, written, 0, 0, 0, kernels))


def fused_attention(
    shape: AttentionShape[int], *, act_bytes: int, causal: bool, window: int | None = None, cached: bool = True
) -> OpCost:
    """softmax(Q K^T) V in one kernel; of its FLOPs, counted whole, a causal kernel skips what is masked.

    `cached`: K and V count as cache traffic, else as activations (encoders).
    """
    pairs = visible_pairs(shape.q_len, shape.kv_len, causal, window)
    work = attention_work(shape, pairs, act_bytes)
    flops = attention_work(shape, shape.q_len * shape.kv_len, act_bytes).flops
    return OpCost(
        flops=flops,
        skipped_flops=flops - work.flops,
        vector_flops=work.vector_flops,
        act_read_bytes=work.query_bytes + (0 if cached else work.kv_bytes),
        act_write_bytes=work.query_bytes,
        kv_read_bytes=work.kv_bytes if cached else 0,
        kernels=1,
    )


def batched_gemm(batch: int, m: int, n: int, k: int, *, act_bytes: int) -> OpCost:
    """`batch` products (m, k) @ (k, n) of activations."""
    return OpCost(
        flops=batch * gemm_work(m, n, k, act_bytes)[0],
        act_read_bytes=batch * (m + n) * k * act_bytes,
        act_write_bytes=batch * m * n * act_bytes,
        kernels=1,
    )


def embedding(tokens: int, width: int, *, act_bytes: int) -> OpCost:
    """Rows of a table looked up and written: traffic of the rows read, not of the table."""
    row_bytes = tokens * width * act_bytes
    indices = tokens * INDEX_BYTES
    return OpCost(weight_read_bytes=row_bytes, act_read_bytes=indices, act_write_bytes=row_bytes, kernels=1)


def kv_append(batch: int, kv_heads: int, q_len: int, head_dim: int, *, act_bytes: int) -> OpCost:
    """New keys and values copied into the cache, a kernel each."""
    new = 2 * batch * kv_heads * q_len * head_dim * act_bytes
    return OpCost(act_read_bytes=new, kv_write_bytes=new, kernels=2)


def kv_grow(batch: int, heads: int, keys: int, new: int, head_dim: int, *, act_bytes: int) -> OpCost:
    """A cache that grows by concatenation: old keys and values read, all of them written for each query head."""
    row = 2 * batch * heads * head_dim * act_bytes
    return OpCost(kv_read_bytes=row * (keys - new), act_read_bytes=row * new, kv_write_bytes=row * keys, kernels=2)


PROGRAMS = {
    "add": "aa>a",
    "mul": "aa>a",
    "scale": "a>a",
    "copy": "a:a",
    "layer_norm": "aww>a",
    "rms_norm": "a:f f>f f>r r>r r>r fr>f f:a aw>a",
    "rms_norm_fp32": "a>a a>r r>r r>r ar>a aw>a",
    "rotate": "h>h a:a a>a a>a aa>a",
    "softmax": "a>a",
    "softmax_upcast": "a>f f:a",
    "softmax_upcast_bf16": "a:f f>f f:a",
    "silu": "a>a",
    "gelu": "a>a",
    "gelu_pytorch_tanh": "a>a",
    "gelu_new": "a>a a>a aa>a a>a a>a a>a a>a aa>a",
    "gelu_fast": "a>a a>a a>a aa>a a>a aa>a a>a a>a aa>a",
    "gelu_python": "a>a a>a a>a a>a aa>a",
    "quick_gelu": "a>a a>a aa>a",
    "mish": "a>a",
    "relu": "a>a",
    "relu2": "a>a a>a",
    "tanh": "a>a",
    "xielu": "s>s s>s s>s a>b a>a aa>a a>a aa>a a>a a>a aa>a a>a a>a aa>a baa>a",
    "rotary_tables": "r:r rr>f f:f f>f f>f f>f f>f f:a f:a",
    "rotary_tables_fp32": "r:r rr>f f:f f>f f>f f>f f>f",
}
"""Kernels that Hugging Face's modules launch, one word each: operands read, `>` (or `:` for a copy or a cast, which
computes nothing), result written. a: an activation, h: half of one, f: fp32 of its size, b: a byte for each, r: an fp32
per row, w: a weight per column, s: one number. rms_norm is LlamaRMSNorm: cast, pow, mean, add, rsqrt, mul, cast, mul by
the weight; rotate is q * cos + rotate_half(q) * sin (the two tables stay in cache and are not counted); gelu_new,
gelu_fast, gelu_python, quick_gelu and relu2 are formulas in Python, a kernel for each of their operations; a GPU's
softmax in fp32 reads fp16 as it is, but wants bf16 cast first."""

ACTIVATIONS = {
    "gelu": 0,
    "gelu_fast": 3,
    "gelu_new": 2,
    "gelu_python": 2,
    "gelu_pytorch_tanh": 0,
    "quick_gelu": 1,
    "mish": 0,
    "relu": 0,
    "relu2": 1,
    "silu": 0,
    "swish": 0,
    "tanh": 0,
    "xielu": 3,
}
"""MLP activations without matrices of their own, by Hugging Face's name, and the temporaries of whole activations
that exist beside input and result while one runs."""


@functools.cache
def _kernels(program: str) -> tuple[tuple[str, str, bool], ...]:
    words = ((*word.replace(":", ">").split(">"), ":" in word) for word in PROGRAMS[program].split())
    return tuple((str(reads), str(write), not copy) for reads, write, copy in words)


def elementwise(program: str, rows: int, columns: int, *, act_bytes: int, weight: bool = True) -> OpCost:
    """A chain of element-wise and row-reducing kernels over rows x columns activations; see PROGRAMS.

    layer_norm of 1 x 4096 in 16 bits: 8 KiB read, 8 KiB written, 16 KiB of weights, 1 kernel.
    """
    size = {
        "a": rows * columns * act_bytes,
        "h": rows * columns * act_bytes // 2,
        "f": rows * columns * FP32_BYTES,
        "b": rows * columns,
        "r": rows * FP32_BYTES,
        "w": 0,
        "s": 0,
    }
    elements = {
        "a": rows * columns,
        "h": rows * columns // 2,
        "f": rows * columns,
        "b": rows * columns,
        "r": rows,
        "s": 1,
    }
    kernels = _kernels(program)
    weights = sum(reads.count("w") for reads, _, _ in kernels) if weight else 0
    return OpCost(
        vector_flops=sum(
            max(elements[operand] for operand in reads + write if operand != "w")
            for reads, write, computes in kernels
            if computes
        ),
        weight_read_bytes=weights * columns * act_bytes,
        act_read_bytes=sum(size[operand] for reads, _, _ in kernels for operand in reads),
        act_write_bytes=sum(size[write] for _, write, _ in kernels),
        kernels=len(kernels),
    )


def norm_program(kind: str, act_bytes: int) -> str:
    """The program of a norm: RMSNorm casts to fp32 and back unless activations are fp32 already."""
    return "rms_norm_fp32" if kind == "rms_norm" and act_bytes == FP32_BYTES else kind


def activation_program(name: str) -> str:
    """The program of an activation by its Hugging Face name, one of ACTIVATIONS; any other is a KeyError."""
    if name not in ACTIVATIONS:
        raise KeyError(name)
    return "silu" if name == "swish" else name
