"""Which bare operations characterise a device: seeded, low-rank over-sampled, unaligned ranks included. No torch."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from costmodel.forward.work import AttentionShape, attention_work, gemm_work

Gemm = tuple[int, int, int]
Attention = AttentionShape[int]
Stream = tuple[str, int, int]
"""Class, rows, columns."""
Op = tuple[str, tuple[int, ...]]
"""gemm, attention or a stream's class, and the sizes."""

_RANKS = (
    1,
    2,
    4,
    7,
    8,
    12,
    16,
    20,
    24,
    32,
    40,
    48,
    50,
    64,
    80,
    96,
    100,
    107,
    112,
    128,
    160,
    192,
    200,
    250,
    256,
    320,
    384,
    500,
    512,
    640,
    768,
    1000,
    1024,
)
_WIDTHS = (
    128,
    256,
    384,
    512,
    640,
    768,
    1024,
    1280,
    1536,
    1792,
    2048,
    2560,
    3072,
    3584,
    4096,
    5120,
    5632,
    6144,
    8192,
    11008,
    14336,
    32000,
)
_STREAM_KINDS = ("elementwise", "norm", "activation", "embedding")
_TRIES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePlan:
    """Operations to time.

    Attributes:
        gemms: (m, n, k).
        attention: see Attention.
        streams: see Stream.
    """

    gemms: tuple[Gemm, ...]
    attention: tuple[Attention, ...]
    streams: tuple[Stream, ...]

    @property
    def ops(self) -> tuple[Op, ...]:
        """All of them."""
        kernels: list[Op] = [("gemm", each) for each in self.gemms] + [("attention", each) for each in self.attention]
        return (*kernels, *((kind, (rows, columns)) for kind, rows, columns in self.streams))


def probe_plan(
    points: int, seed: int, *, max_rows: int, max_flops: float, max_bytes: float, element_bytes: int
) -> ProbePlan:
    """About `points` operations, no one larger than the limits, the same for the same arguments.

    Six in ten are GEMMs, of which two thirds are factors of low-rank weights; a quarter attention, the rest streams.
    """
    rng = random.Random(f"probe {seed}")
    gemms: dict[Gemm, None] = {}
    for _ in range(points * _TRIES):
        if len(gemms) >= round(points * 0.6):
            break
        m = _rows(rng, max_rows)
        wide, other = rng.choice(_WIDTHS), rng.choice(_WIDTHS)
        rank = rng.choice([each for each in _RANKS if each <= wide])
        n, k = rng.choice([(rank, wide), (wide, rank), (other, wide)])
        flops, read, written = gemm_work(m, n, k, element_bytes)
        moved = n * k * element_bytes + read + written
        if flops <= max_flops and moved <= max_bytes:
            gemms[m, n, k] = None
    attention: dict[Attention, None] = {}
    for _ in range(points * _TRIES):
        if len(attention) >= round(points * 0.25):
            break
        heads = rng.choice([4, 6, 8, 12, 16, 20, 32, 40, 64])
        kv_heads = rng.choice([each for each in (1, 2, 4, 8, 12, 16, 20, 32, 40, 64) if heads % each == 0])
        batch, head_dim = rng.choice([1, 1, 2, 4, 8]), rng.choice([64, 64, 128])
        if rng.random() < 0.5:
            q_len = kv_len = max(2, _rows(rng, max_rows) // batch)
        else:
            q_len, kv_len = 1, round(2 ** rng.uniform(0, math.log2(4 * max_rows)))
        shape = AttentionShape(batch, q_len, kv_len, heads, kv_heads, head_dim)
        fused = attention_work(shape, q_len * kv_len, element_bytes)
        if fused.flops <= max_flops and fused.hbm_bytes <= max_bytes:
            attention[shape] = None
    streams: dict[Stream, None] = {}
    for index in range(points * _TRIES):
        if len(streams) >= max(8 * len(_STREAM_KINDS), round(points * 0.15)):
            break
        kind = _STREAM_KINDS[index % len(_STREAM_KINDS)]
        rows, columns = _rows(rng, max_rows), rng.choice(_WIDTHS[:-1])
        if 3 * element_bytes * rows * columns <= max_bytes:
            streams[kind, rows, columns] = None
    return ProbePlan(gemms=tuple(gemms), attention=tuple(attention), streams=tuple(streams))


def _rows(rng: random.Random, largest: int) -> int:
    """Rows of the work: powers of two, in between, and one off a tile; small ones as often as large ones."""
    value = round(2 ** rng.uniform(0, math.log2(largest)))
    power = 2 ** round(math.log2(value))
    return int(max(1, min(largest, rng.choice([power, power, value, power + 1]))))
