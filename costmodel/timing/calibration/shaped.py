"""One class of operations under a calibration: base, correction, alignment and spread, on whole columns at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from costmodel.arrays import Floats, Ints
from costmodel.forward.work import AttentionShape, attention_work, causal_pairs, gemm_work
from costmodel.timing.calibration.base import Base
from costmodel.timing.calibration.elsewhere import Elsewhere, widest
from costmodel.timing.calibration.features import attention_features, gemm_features
from costmodel.timing.calibration.memo import Memo
from costmodel.timing.calibration.net import Net
from costmodel.timing.calibration.spread import Spread
from costmodel.timing.columns import OpTimings

Bools = npt.NDArray[np.bool_]
FormKind = Literal["gemm", "prefill", "decode"]
DIMENSIONS: dict[FormKind, tuple[str, ...]] = {
    "gemm": ("m", "n", "k"),
    "prefill": AttentionShape._fields,
    "decode": AttentionShape._fields,
}
"""Names of the rows of a shape."""
FormName = Literal["gemm", "gemm:fp8", "prefill", "decode"]
FORMS: dict[FormName, FormKind] = {"gemm": "gemm", "gemm:fp8": "gemm", "prefill": "prefill", "decode": "decode"}
"""What a calibration has forms of, and the shape of each: GEMMs of another type have a form of their own."""


def nominal_work(
    kind: FormKind, shape: Floats, element_bytes: int, output_bytes: int | None = None
) -> tuple[Floats, Floats]:
    """FLOPs executed and bytes moved by the kernels that tables measure: a linear without bias, causal attention.

    `output_bytes` is of an element of a linear's result where that is of another type than its inputs.
    """
    if kind == "gemm":
        m, n, k = shape
        flops, read, written = gemm_work(m, n, k, element_bytes, output_bytes)
        return flops, n * k * element_bytes + read + written
    sizes = AttentionShape(*shape)
    pairs = np.maximum(causal_pairs(sizes.q_len, sizes.kv_len), 1)
    work = attention_work(sizes, pairs, element_bytes)
    return work.flops, work.hbm_bytes


def rows_of_work(kind: FormKind, shape: Floats) -> Floats:
    """Rows of the work: m of a GEMM, the queries of all sequences of attention."""
    rows: Floats = shape[0] if kind == "gemm" else shape[0] * shape[1]
    return rows


_MOST = 20.0
"""ln of the largest factor on the base, far beyond any that a measurement gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """What a weight dimension costs that is no multiple of 16 elements; factors of at least 1 on the base's times.

    Attributes:
        compute_8, compute_1: on compute where n or k is a multiple of 8 only, or not even of 8.
        memory_1: on traffic where it is not a multiple of 8.
    """

    compute_8: float
    compute_1: float
    memory_1: float

    def factors(self, n: Floats | Ints, k: Floats | Ints) -> tuple[Floats, Floats]:
        """On compute and on memory time."""
        low_bits = n.astype(np.int64) | k.astype(np.int64)
        by_16, by_8 = low_bits & 15 == 0, low_bits & 7 == 0
        compute = np.where(by_16, 1.0, np.where(by_8, self.compute_8, self.compute_1))
        return compute, np.where(by_8, 1.0, self.memory_1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShapedForm:
    """Time of a kernel with a shape: base(flops, bytes) x exp(correction(shape)).

    Attributes:
        kind: which shape.
        base, net, spread, alignment: the parts; alignment None where it makes no difference.
        cores, cache_bytes: of the device, for the features.
        element_bytes: of the type that was measured.
        cache_element_bytes: of an element where features compare sizes with the cache: element_bytes, but 2 in files
            that were fitted when features took every type for one of 2 bytes.
        output_bytes: of an element of a GEMM's result, where that is of another type; else None.
        cold_bytes: lighter weights were measured in the cache: what they cost out of memory was not seen.
        elsewhere: what others measured of such kernels.
        low, high: (dimensions,): the measured range of each dimension. Beyond it the correction keeps its value at the
            edge, while the base goes on.
        multiple: the measured n and k are multiples of it, a power of two; 1 where that says nothing.
        memo: of GEMM corrections.
    """

    kind: FormKind
    base: Base
    net: Net
    spread: Spread
    alignment: Alignment | None
    cores: int
    cache_bytes: float
    element_bytes: int
    cache_element_bytes: int
    low: Floats
    high: Floats
    multiple: int
    output_bytes: int | None = None
    cold_bytes: float = 0.0
    elsewhere: tuple[Elsewhere, ...] = ()
    memo: Memo | None = None

    def outside(self, shape: Floats) -> Bools:
        """Which columns of `shape` (dimensions, rows) leave the measured range."""
        found: Bools = np.any((shape < self.low[:, None]) | (shape > self.high[:, None]), axis=0)
        if self.multiple > 1:
            low_bits = shape[1].astype(np.int64) | shape[2].astype(np.int64)
            found = found | (low_bits & (self.multiple - 1) != 0)
        if self.cold_bytes:
            found = found | (shape[1] * shape[2] * self.element_bytes < self.cold_bytes)
        return found

    def parts(self, shape: Floats, flops: Floats, moved: Floats) -> tuple[Floats, Floats, Floats]:
        """Compute, memory and base seconds, alignment included."""
        compute, memory = flops / self.base.flops_per_s, moved / self.base.bytes_per_s
        if self.alignment is not None:
            on_compute, on_memory = self.alignment.factors(shape[1], shape[2])
            compute, memory = compute * on_compute, memory * on_memory
        return compute, memory, self.base.busy(compute, memory)

    def base_seconds(self, shape: Floats) -> Floats:
        """What the base predicts of the kernels that were measured, before any correction, (rows,)."""
        return self.parts(shape, *self.nominal_work(shape))[2] + self.base.fixed_s

    def nominal_work(self, shape: Floats) -> tuple[Floats, Floats]:
        """FLOPs and bytes of the kernels that were measured, in their types."""
        return nominal_work(self.kind, shape, self.element_bytes, self.output_bytes)

    def features(self, shape: Floats) -> Floats:
        """The correction's inputs (inputs, rows): of the kernel that was measured, whatever the masks and weight types
        that the base prices."""
        work, moved = self.nominal_work(shape)
        compute, memory = work / self.base.flops_per_s, moved / self.base.bytes_per_s
        base_s = self.base.busy(compute, memory) + self.base.fixed_s
        balance = np.log2(compute / memory)
        if self.kind == "gemm":
            return gemm_features(
                shape,
                balance,
                base_s,
                cores=self.cores,
                cache_bytes=self.cache_bytes,
                element_bytes=self.cache_element_bytes,
            )
        return attention_features(shape, balance, base_s, moved, cores=self.cores, cache_bytes=self.cache_bytes)

    def correction(self, shape: Floats) -> Floats:
        """ln of the factor on the base, from the shape moved into the measured range."""
        if self.memo is not None:
            return self.memo.get(shape, self._correction)
        return self._correction(shape)

    def _correction(self, shape: Floats) -> Floats:
        return self.net(self.features(np.clip(shape, self.low[:, None], self.high[:, None])))

    def times(self, shape: Floats, flops: Floats, moved: Floats) -> OpTimings:
        """Seconds of each operation.

        Args:
            shape: float64 (dimensions, rows), every entry at least 1.
            flops: executed, (rows,), above 0.
            moved: bytes, (rows,), above 0.
        """
        compute, memory, busy = self.parts(shape, flops, moved)
        base_s = busy + self.base.fixed_s
        factor = np.exp(np.minimum(self.correction(shape), _MOST))
        latency = base_s * factor
        size = rows_of_work(self.kind, shape)
        outside = self.outside(shape)
        widen = np.where(outside, self.spread.outside, 1.0)
        low, high = widest(self.spread.quantiles(base_s, size, outside), self.elsewhere, size, widen)
        overhead = self.base.fixed_s * factor
        compute, memory, busy = compute * factor, memory * factor, busy * factor
        return OpTimings.of(
            compute_s=compute,
            memory_s=memory,
            overhead_s=overhead,
            latency_s=latency,
            busy_s=busy,
            p05_s=latency * np.exp(low),
            p95_s=latency * np.exp(high),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreamForm:
    """Time of kernels that move data: kernels x (fixed_s^p + (bytes / kernels / bytes_per_s)^p)^(1/p) x correction.

    A kernel's fill and drain hide part of its traffic: the fixed time and the work overlap as work and work do.

    Attributes:
        base: achieved bandwidth and fixed time; its rate counts matrix products that have no shape of their own.
        log2_bytes, ln_factor: of equal length: the correction, straight lines between the bytes of a kernel at which it
            was fitted and constant beyond; empty where there is none.
        low, high: ln of the factors to the ends of the 90 % interval.
    """

    base: Base
    log2_bytes: Floats
    ln_factor: Floats
    low: float
    high: float

    def times(self, flops: Floats, moved: Floats, kernels: Floats) -> OpTimings:
        """Seconds of each operation; arguments of shape (rows,), kernels at least 1."""
        fixed = kernels * self.base.fixed_s
        compute, memory = flops / self.base.flops_per_s, moved / self.base.bytes_per_s
        busy = self.base.busy(compute, memory)
        latency = self.base.busy(fixed, busy)
        if len(self.log2_bytes):
            each = np.log2(np.maximum(moved / kernels, 1))
            factor = np.exp(np.interp(each, self.log2_bytes, self.ln_factor))
            fixed, compute, memory, busy, latency = (x * factor for x in (fixed, compute, memory, busy, latency))
        return OpTimings.of(
            compute_s=compute,
            memory_s=memory,
            overhead_s=latency - busy,
            latency_s=latency,
            lower_s=np.minimum(np.maximum(np.maximum(compute, memory), fixed), latency),
            upper_s=np.maximum(compute + memory + fixed, latency),
            busy_s=busy,
            p05_s=latency * np.exp(self.low),
            p95_s=latency * np.exp(self.high),
        )
