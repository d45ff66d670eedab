"""From counts to seconds: the roofline, on whole columns of operations at once. Knows devices, not models.

Williams, Waterman, Patterson, "Roofline" (CACM 52(4), 2009): time >= max(flops / peak, bytes / bandwidth). The max
assumes that arithmetic and traffic overlap perfectly, the sum that they do not at all; the truth lies between.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from costmodel.arrays import Floats
from costmodel.errors import HardwareError
from costmodel.forward.workload import Runtime
from costmodel.hardware.profile import HardwareProfile
from costmodel.timing.bare import BareKernels
from costmodel.timing.columns import OpColumns, OpTimings
from costmodel.units import DType


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DatasheetRoofline(BareKernels):
    """The ideal roofline from a profile's peaks, with the fixed time that each kernel takes.

    compute = matrix flops / matrix peak (fp8's for GEMMs in fp8) + vector flops / vector peak;
    memory = bytes / bandwidth; overhead = kernels x kernel_floor_s (where host and device take turns, on a CPU, plus
    the host's time in eager mode); latency = max(compute, memory) + overhead.
    """

    matrix_flops_per_s: float
    fp8_flops_per_s: float | None = None
    vector_flops_per_s: float
    memory_bytes_per_s: float
    kernel_s: float
    host_launch_s: float
    level: str = "datasheet"
    has_interval: bool = False
    together: float = 1.0

    @classmethod
    def of(cls, hardware: HardwareProfile, dtype: DType, runtime: Runtime) -> DatasheetRoofline:
        """The model of one device, type and runtime.

        Raises:
            HardwareError: when the profile has no rate for `dtype`, or a CPU is asked to replay a graph: PyTorch
                captures none there, so each operation is dispatched.
        """
        if not hardware.asynchronous and runtime is Runtime.GRAPH:
            raise HardwareError(
                f"{hardware.name} is a CPU, which replays no graph",
                value=runtime.value,
                allowed=Runtime.EAGER.value,
                hint="use --runtime eager or a stack of CPUs",
            )
        fp8 = dtype is DType.FP8
        host = 0.0 if hardware.asynchronous else hardware.host_launch_s
        return cls(
            matrix_flops_per_s=hardware.matrix_rate(half_of(hardware) if fp8 else dtype),
            fp8_flops_per_s=hardware.matrix_rate(dtype) if fp8 else None,
            vector_flops_per_s=hardware.vector_flops_per_s,
            memory_bytes_per_s=hardware.memory_bytes_per_s,
            kernel_s=hardware.kernel_floor_s + host,
            host_launch_s=host_seconds(hardware, runtime, 1),
        )

    def times(self, ops: OpColumns) -> OpTimings:
        """Seconds of each operation."""
        rate: Floats | float = self.matrix_flops_per_s
        if ops.fp8 is not None and self.fp8_flops_per_s is not None:
            rate = np.where(ops.fp8, self.fp8_flops_per_s, rate)
        compute = ops.executed_flops / rate + ops.vector_flops / self.vector_flops_per_s
        memory = ops.hbm_bytes / self.memory_bytes_per_s
        overhead: Floats = ops.kernels * np.float64(self.kernel_s)
        busy = np.maximum(compute, memory)
        latency = busy + overhead
        return OpTimings.of(compute_s=compute, memory_s=memory, overhead_s=overhead, latency_s=latency, busy_s=busy)


def half_of(hardware: HardwareProfile) -> DType:
    """The 16-bit type of everything but the GEMMs of a workload in fp8: bf16, or fp16 on a device without it."""
    return DType.BF16 if DType.BF16 in hardware.matrix_flops_per_s else DType.FP16


def host_seconds(hardware: HardwareProfile, runtime: Runtime, kernels: Any) -> Any:
    """Time the host needs to launch `kernels` (a number or an array) one by one; 0 where it does not run beside the
    device: under graph replay, and on a CPU, whose calls are part of each operation's overhead."""
    return kernels * (hardware.host_launch_s if hardware.asynchronous and runtime is Runtime.EAGER else 0.0)


def energy_joules(hardware: HardwareProfile, latency_s: Floats, busy_s: Floats) -> Floats | None:
    """Energy of a pass: idle power over all of it, the rest of the peak power while the device is busy.

    None where the profile lacks one of the two powers. An upper estimate for memory-bound work, which draws less than
    the peak.
    """
    idle, peak = hardware.idle_power_w, hardware.peak_power_w
    return None if idle is None or peak is None else idle * latency_s + (peak - idle) * busy_s
