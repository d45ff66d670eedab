"""Times of a device that was not measured: what its generation reaches, or a sibling's calibration carried over.

time of an operation = (compute^p + memory^p)^(1/p) + kernels x fixed time, with compute = matrix flops / achieved
matrix rate + vector flops / achieved vector rate and memory = bytes / achieved bandwidth. The achieved rates are peaks
times what the generation reaches of them (`costmodel.timing.efficiencies`), at clocks that the device's power sustains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Bools
from costmodel.hardware.profile import HardwareProfile
from costmodel.timing.bare import BareKernels
from costmodel.timing.calibration.base import Base
from costmodel.timing.calibration.record import GENERATION
from costmodel.timing.calibration.shaped import Alignment
from costmodel.timing.columns import Z90, OpColumns, OpTimings, TimeModel
from costmodel.timing.datasheet import half_of
from costmodel.timing.efficiencies import generation_of
from costmodel.units import DType


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GenerationRoofline(BareKernels):
    """The roofline that devices of a generation achieve.

    Attributes:
        gemm, prefill, decode, other: by class: products with a weight, fused attention of several queries and of one,
            everything else; matrix products of the last (unfused attention) run at the GEMMs' rate.
        fp8: of GEMMs that take fp8, in a workload of that type.
        vector_flops_per_s: achieved.
        alignment: of GEMMs on tensor cores, or None.
        log_sd: standard deviation of ln(measured / predicted).
    """

    gemm: Base
    prefill: Base
    decode: Base
    other: Base
    fp8: Base | None
    vector_flops_per_s: float
    alignment: Alignment | None
    log_sd: float
    host_launch_s: float
    level: str = GENERATION
    has_interval: bool = True
    together: float = 1.0

    @classmethod
    def of(cls, hardware: HardwareProfile, dtype: DType, host_launch_s: float) -> GenerationRoofline:
        """The model of a device and type; on a CPU each kernel takes the profile's dispatch as well.

        Raises:
            HardwareError: when the profile has no rate for `dtype`.
        """
        generation, fp8 = generation_of(hardware), None
        if dtype is DType.FP8:
            fp8, dtype = hardware.matrix_rate(dtype), half_of(hardware)
        rate = hardware.matrix_rate(dtype)
        classes, more_s = generation.classes, 0.0 if hardware.asynchronous else hardware.host_launch_s
        gemm, other = generation.gemm(dtype).base(rate, hardware, more_s), classes["other"]
        tensor_cores = hardware.asynchronous and dtype is not DType.FP32
        return cls(
            gemm=gemm,
            prefill=classes["prefill"].base(rate, hardware, more_s),
            decode=classes["decode"].base(rate, hardware, more_s),
            other=Base(
                flops_per_s=gemm.flops_per_s,
                bytes_per_s=hardware.memory_bytes_per_s * other.memory,
                fixed_s=other.kernel_s + more_s,
                overlap=other.overlap,
            ),
            fp8=None if fp8 is None else generation.gemm(DType.FP8).base(fp8, hardware, more_s),
            vector_flops_per_s=hardware.vector_flops_per_s * other.compute,
            alignment=generation.alignment if tensor_cores else None,
            log_sd=generation.log_sd,
            host_launch_s=host_launch_s,
        )

    def times(self, ops: OpColumns) -> OpTimings:
        """Seconds of each operation."""
        compute, memory, overhead, busy = (np.zeros(ops.kernels.shape) for _ in range(4))
        vector = ops.vector_flops / self.vector_flops_per_s
        for base, mask in self._classes(ops):
            work, traffic = ops.executed_flops / base.flops_per_s + vector, ops.hbm_bytes / base.bytes_per_s
            if base in (self.gemm, self.fp8) and self.alignment is not None:
                on_compute, on_memory = self.alignment.factors(ops.n, ops.k)
                work, traffic = work * on_compute, traffic * on_memory
            compute, memory = np.where(mask, work, compute), np.where(mask, traffic, memory)
            busy = np.where(mask, base.busy(work, traffic), busy)
            overhead = np.where(mask, ops.kernels * base.fixed_s, overhead)
        latency = busy + overhead
        reach = np.exp(Z90 * self.log_sd)
        return OpTimings.of(
            compute_s=compute,
            memory_s=memory,
            overhead_s=overhead,
            latency_s=latency,
            busy_s=busy,
            p05_s=latency / reach,
            p95_s=latency * reach,
        )

    def _classes(self, ops: OpColumns) -> list[tuple[Base, Bools]]:
        """The base of each class, and which operations are of it: of exactly one, where there are any kernels."""
        live = ops.kernels > 0
        gemm = live & (ops.k > 0)
        gemms = [(self.gemm, gemm)]
        if self.fp8 is not None and ops.fp8 is not None:
            gemms = [(self.gemm, gemm & ~ops.fp8), (self.fp8, gemm & ops.fp8)]
        if isinstance(ops.kind, str) and ops.kind == "gemm":
            return gemms
        fused, one = np.zeros_like(live), np.zeros_like(live)
        if ops.attention is not None:
            fused, one = live & (ops.attention[..., 0] > 0), ops.attention[..., 1] == 1
        attention = [(self.prefill, fused & ~one), (self.decode, fused & one)]
        return [*gemms, *attention, (self.other, live & ~gemm & ~fused)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiblingTimes(BareKernels):
    """A sibling's calibration on another device: each operation's time x its generation's time here / there.

    Attributes:
        sibling: the time model of the calibrated device.
        there, here: what the generation says of it and of this one.
        log_sd: standard deviation of ln(measured / predicted).
    """

    sibling: TimeModel
    there: GenerationRoofline
    here: GenerationRoofline
    log_sd: float
    host_launch_s: float
    level: str = GENERATION
    has_interval: bool = True
    together: float = 1.0

    def times(self, ops: OpColumns) -> OpTimings:
        """Seconds of each operation."""
        here, there = self.here.times(ops).latency_s, self.there.times(ops).latency_s
        ratio = np.where(there > 0, here / np.maximum(there, np.finfo(np.float64).tiny), 0.0)
        found = OpTimings(self.sibling.times(ops).table * ratio)
        reach = np.exp(Z90 * self.log_sd)
        return found.with_interval(found.latency_s / reach, found.latency_s * reach)
