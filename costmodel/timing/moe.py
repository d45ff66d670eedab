"""Time of a mixture-of-experts layer in one fused kernel chain: routing, two grouped products, activation, sum.

Each of the two grouped products takes the p-norm of three times: arithmetic on rows rounded up to tiles, traffic of the
weights of the experts hit and of their rows, and one tile's walk along k at the bandwidth of a single core, which
nothing can hide. To them add the traffic of activations of all rows (kernels that know nothing of expert parallelism
allocate and sum them for every device's experts), a time per expert hit and a fixed one. Twelve numbers per device,
type and kernel, fitted to measured layers: `hw_profiles/calibrations/moe.toml`. Where it shows, five more change the
shares of rate and bandwidth by the shape on a device (`MoeNumbers.shape_factors`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Floats
from costmodel.errors import InputError
from costmodel.hardware.profile import HardwareProfile
from costmodel.timing.columns import OpTimings
from costmodel.timing.moe_file import MoeNumbers, numbers_for
from costmodel.timing.routing import BALANCED, TILES, Routed, routed
from costmodel.units import DType

_TILE = 128
"""Columns that a tile covers, and what widths are rounded up to."""
_MOST = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeLayer:
    """One mixture-of-experts layer's routed experts (shared ones are ordinary linears).

    Attributes:
        tokens: that enter the layer, batch x length over all devices of expert parallelism.
        hidden_size, intermediate_size: of one whole expert.
        top_k, experts: experts of a token, and all of them.
        tp: devices that split each expert's intermediate size.
        ep: devices that share the experts.
        distribution: `balanced` or `power_law_A`.
        gated: whether an expert has gate, up and down, or only up and down.
    """

    tokens: int
    hidden_size: int
    intermediate_size: int
    top_k: int
    experts: int
    tp: int = 1
    ep: int = 1
    distribution: str = BALANCED
    gated: bool = True


def moe_layer_times(
    layers: Sequence[MoeLayer], hardware: HardwareProfile, dtype: DType, kernel: str | None = None
) -> tuple[OpTimings, str]:
    """Seconds of layers on their busiest devices with the ends of the 90 % interval, and what they stand on.

    Args:
        layers: shapes, routing and parallelism.
        hardware: a profile; one without measured layers takes after a sibling's numbers on its own peaks.
        dtype: of weights and inputs; bf16 numbers serve fp16 too.
        kernel: name of the implementation as the file has it, or None for the device's usual one.

    Raises:
        InputError: when a size is out of range or does not divide.
        HardwareError: when the device has no rate for the type.
    """
    numbers, level = numbers_for(hardware, dtype, kernel)
    return times_of(numbers, layer_columns(layers), hardware, dtype), level


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerColumns:
    """Layers as columns, float64 (layers,); `tiled` (tiles, layers)."""

    tokens: Floats
    hidden: Floats
    inner: Floats
    all_rows: Floats
    rows: Floats
    hit: Floats
    tiled: Floats
    products: Floats
    """Products of the first grouped kernel: gate and up, or up alone."""
    experts: Floats
    """Of a device."""


def layer_columns(layers: Sequence[MoeLayer]) -> LayerColumns:
    """Layers as columns, routed.

    Raises:
        InputError: when a size is out of range or does not divide.
    """
    loads = [_checked(layer) for layer in layers]
    table = [
        (layer.tokens, layer.hidden_size, layer.intermediate_size / layer.tp, layer.tokens * layer.top_k)
        for layer in layers
    ]
    tokens, hidden, inner, all_rows = np.array(table, dtype=np.float64).reshape(-1, 4).T
    return LayerColumns(
        tokens=tokens,
        hidden=hidden,
        inner=inner,
        all_rows=all_rows,
        rows=np.array([load.rows for load in loads], dtype=np.float64),
        hit=np.array([load.experts for load in loads], dtype=np.float64),
        tiled=np.array([load.tiled for load in loads], dtype=np.float64).reshape(-1, len(TILES)).T,
        products=np.array([2.0 if layer.gated else 1.0 for layer in layers]),
        experts=np.array([layer.experts // layer.ep for layer in layers], dtype=np.float64),
    )


def times_of(numbers: MoeNumbers, layers: LayerColumns, hardware: HardwareProfile, dtype: DType) -> OpTimings:
    """Times of layers by these numbers.

    Raises:
        HardwareError: when the device has no rate for the type.
    """
    bytes_per_s = hardware.memory_bytes_per_s
    rows = np.tensordot(np.array(numbers.tile_shares), layers.tiled, axes=1)
    compute, memory, chain, busy = (np.zeros_like(rows) for _ in range(4))
    shares = numbers.shape_factors(layers.tokens, layers.experts, layers.inner)
    for n, k in ((layers.products * layers.inner, layers.hidden), (layers.hidden, layers.inner)):
        work, traffic, walk, took = grouped_product(
            numbers, hardware, dtype, tiled=rows, rows=layers.rows, hit=layers.hit, n=n, k=k, shares=shares
        )
        compute, memory, chain, busy = compute + work, memory + traffic, chain + walk, busy + took
    inner_bytes = numbers.inner_copies * layers.all_rows * (layers.products + 1) * layers.inner * 2
    hidden_bytes = numbers.hidden_copies * layers.all_rows * layers.hidden * 2
    beside = (inner_bytes + hidden_bytes + layers.tokens * layers.hidden * 4) / (bytes_per_s * numbers.stream_memory)
    overhead = numbers.fixed_s + numbers.expert_s * layers.hit
    return with_traffic_beside(
        compute=compute,
        memory=memory,
        walk=chain,
        busy=busy,
        beside=beside,
        overhead=overhead,
        low=numbers.low,
        high=numbers.high,
    )


def with_traffic_beside(
    *,
    compute: Floats,
    memory: Floats,
    walk: Floats,
    busy: Floats,
    beside: Floats,
    overhead: Floats,
    low: float,
    high: float,
) -> OpTimings:
    """Times of products of experts with what runs beside them.

    Args:
        compute, memory, walk, busy: seconds of the products, as `grouped_product` gives them.
        beside: seconds of traffic that nothing overlaps with.
        overhead: seconds that no size changes.
        low, high: ends of the 90 % interval, in logarithms of the latency; 0 where there is none.
    """
    latency = busy + beside + overhead
    memory = memory + beside
    return OpTimings.of(
        compute_s=compute,
        memory_s=memory,
        overhead_s=overhead,
        latency_s=latency,
        upper_s=np.maximum(compute + memory + walk + overhead, latency),
        busy_s=busy + beside,
        p05_s=latency * np.exp(low),
        p95_s=latency * np.exp(high),
    )


def grouped_product(
    numbers: MoeNumbers,
    hardware: HardwareProfile,
    dtype: DType,
    *,
    tiled: Floats,
    rows: Floats,
    hit: Floats,
    n: Floats,
    k: Floats,
    shares: tuple[Floats | float, Floats | float] = (1.0, 1.0),
) -> tuple[Floats, Floats, Floats, Floats]:
    """Seconds of one product of all experts: of arithmetic, of traffic, of a tile's walk, and of the three together.

    Args:
        tiled: rows of all experts, each expert's rounded up to tiles.
        rows: the rows themselves.
        hit: experts whose weights are read.
        n, k: of one expert's weight.
        shares: factors on the shares of peak rate and bandwidth.

    Raises:
        HardwareError: when the device has no rate for the type.
    """
    element_bytes, bytes_per_s = dtype.bits / 8, hardware.memory_bytes_per_s
    wide_n, wide_k = (size ** (1 - numbers.rounding) * _rounded(size) ** numbers.rounding for size in (n, k))
    work = 2 * tiled * wide_n * wide_k / (hardware.matrix_rate(dtype) * numbers.compute * shares[0])
    moved = hit * wide_n * wide_k * element_bytes + rows * (2 * n + element_bytes * k)
    traffic = moved / (bytes_per_s * numbers.memory * shares[1])
    walk = _TILE * wide_k * element_bytes / (bytes_per_s / hardware.cores * numbers.core_memory)
    return work, traffic, walk, _p_norm(numbers.overlap, work, traffic, walk)


def _rounded(size: Floats) -> Floats:
    return np.asarray(np.ceil(size / _TILE) * _TILE, dtype=np.float64)


def _p_norm(exponent: float, *times: Floats) -> Floats:
    stacked = np.stack(times)
    top = stacked.max(axis=0)
    return np.asarray(top * ((stacked / top) ** exponent).sum(axis=0) ** (1 / exponent), dtype=np.float64)


def _checked(layer: MoeLayer) -> Routed:
    """The busiest device's work, of a layer whose sizes make sense."""
    sizes = ("tokens", "hidden_size", "intermediate_size", "top_k", "experts", "tp", "ep")
    for name in sizes:
        value = getattr(layer, name)
        if not 1 <= value <= _MOST:
            raise InputError(f"mixture of experts: {name}", value=value, allowed="a whole number from 1")
    if layer.intermediate_size % layer.tp:
        raise InputError(
            "tensor parallel devices", value=layer.tp, allowed=f"a divisor of {layer.intermediate_size}, the inner size"
        )
    return routed(layer.tokens, layer.top_k, layer.experts, layer.ep, layer.distribution)
