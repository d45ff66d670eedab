"""From counts to seconds: the roofline, on whole columns of operations at once. Knows devices, not models.

Williams, Waterman, Patterson, "Roofline" (CACM 52(4), 2009): time >= max(flops / peak, bytes / bandwidth). The max
assumes that arithmetic and traffic overlap perfectly, the sum that they do not at all; the truth lies between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from costmodel.errors import HardwareError
from costmodel.forward.workload import Runtime
from costmodel.hardware.profile import HardwareProfile
from costmodel.units import DType

if TYPE_CHECKING:
    from costmodel.forward.ops import Op

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BOUNDS = ("compute", "memory", "overhead")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpColumns:
    """Operations as columns of one shape; every entry that stands for no operation has kernels = 0 and zeros.

    `kind` is the operation's class, or one class for all; m, n, k are 0 where the operation is no weight GEMM.
    """

    kind: npt.NDArray[np.str_] | str
    m: Ints
    n: Ints
    k: Ints
    matrix_flops: Ints
    """Executed: what a masked kernel skips is left out."""
    vector_flops: Ints
    hbm_bytes: Ints
    kernels: Ints
    attention: Ints | None = None
    """Of one more axis, of length 6: batch, q_len, kv_len, num_heads, num_kv_heads, head_dim of fused attention, zeros
    elsewhere; None where there is none."""

    @classmethod
    def of(cls, ops: Sequence[Op]) -> OpColumns:
        """Columns of a list of operations."""
        shapes = np.array([op.gemm or (0, 0, 0) for op in ops], dtype=np.int64).reshape(-1, 3)
        costs = np.array(
            [(c.flops - c.skipped_flops, c.vector_flops, c.hbm_bytes, c.kernels) for c in (op.cost for op in ops)],
            dtype=np.int64,
        ).reshape(-1, 4)
        attention = None
        if any(op.attention for op in ops):
            attention = np.array([op.attention or (0,) * 6 for op in ops], dtype=np.int64)
        return cls(
            attention=attention,
            kind=np.array([op.kind for op in ops], dtype=np.str_),
            m=shapes[:, 0],
            n=shapes[:, 1],
            k=shapes[:, 2],
            matrix_flops=costs[:, 0],
            vector_flops=costs[:, 1],
            hbm_bytes=costs[:, 2],
            kernels=costs[:, 3],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OpTimings:
    """Times of operations in seconds, columns of one shape.

    `latency_s` is the model's answer; `lower_s` and `upper_s` are the max and the sum of compute and memory time plus
    overhead: bounds of the model, not of the truth. `busy_s` is the part in which the device works at its power limit.
    `p05_s` and `p95_s` hold 90 % of measurements between them where the model has intervals, else they equal
    `latency_s`. Over several operations each column adds up: of the interval that assumes that errors go together.
    """

    compute_s: Floats
    memory_s: Floats
    overhead_s: Floats
    latency_s: Floats
    lower_s: Floats
    upper_s: Floats
    busy_s: Floats
    p05_s: Floats
    p95_s: Floats

    def bound(self) -> list[str]:
        """What limits each operation: compute, memory, or the overhead of its kernels."""
        stacked = np.stack([self.compute_s, self.memory_s, self.overhead_s])
        return [BOUNDS[index] for index in stacked.argmax(axis=0)]


class TimeModel(Protocol):
    """Anything that prices operations on a device."""

    @property
    def level(self) -> str:
        """What the numbers stand on: datasheet, probes or samples."""

    @property
    def has_interval(self) -> bool:
        """Whether `p05_s` and `p95_s` say anything."""

    @property
    def host_launch_s(self) -> float:
        """Time the host needs to launch one kernel while the device works; 0 where it does not run beside it."""

    def times(self, ops: OpColumns) -> OpTimings:
        """Seconds of each operation; exactly 0 where kernels = 0."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DatasheetRoofline:
    """The ideal roofline from a profile's peaks, with the fixed time that each kernel takes.

    compute = matrix flops / matrix peak + vector flops / vector peak; memory = bytes / bandwidth;
    overhead = kernels x kernel_floor_s (where host and device take turns, on a CPU, plus the host's time in eager
    mode); latency = max(compute, memory) + overhead.
    """

    matrix_flops_per_s: float
    vector_flops_per_s: float
    memory_bytes_per_s: float
    kernel_s: float
    host_launch_s: float
    level: str = "datasheet"
    has_interval: bool = False

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
                hint="use --runtime eager",
            )
        host = 0.0 if hardware.asynchronous else hardware.host_launch_s
        return cls(
            matrix_flops_per_s=hardware.matrix_rate(dtype),
            vector_flops_per_s=hardware.vector_flops_per_s,
            memory_bytes_per_s=hardware.memory_bytes_per_s,
            kernel_s=hardware.kernel_floor_s + host,
            host_launch_s=host_seconds(hardware, runtime, 1),
        )

    def times(self, ops: OpColumns) -> OpTimings:
        """Seconds of each operation."""
        compute = ops.matrix_flops / self.matrix_flops_per_s + ops.vector_flops / self.vector_flops_per_s
        memory = ops.hbm_bytes / self.memory_bytes_per_s
        overhead: Floats = ops.kernels * np.float64(self.kernel_s)
        busy = np.maximum(compute, memory)
        latency = busy + overhead
        return OpTimings(
            compute_s=compute,
            memory_s=memory,
            overhead_s=overhead,
            latency_s=latency,
            lower_s=latency,
            upper_s=compute + memory + overhead,
            busy_s=busy,
            p05_s=latency,
            p95_s=latency,
        )


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
