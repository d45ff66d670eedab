"""A calibration from whole passes: seven factors on the roofline, one sum. Small enough for a run of twenty samples.

time of an operation = compute factor x (flops / peak) + memory factor x (bytes / bandwidth) + kernels x kernel_s, with
factors for GEMMs, attention and everything else. All are non-negative, so more work never takes less time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from costmodel.arrays import Floats
from costmodel.errors import CalibrationError
from costmodel.files.node import Node
from costmodel.hardware.profile import HardwareProfile
from costmodel.timing.bare import BareKernels
from costmodel.timing.calibration.passes import CLASSES, REACH_KEYS, Reach, class_masks, read_reach
from costmodel.timing.columns import OpColumns, OpTimings
from costmodel.units import DType

KEYS = (
    "schema",
    "form",
    "hardware",
    "dtypes",
    "runtimes",
    "level",
    "provenance",
    "errors",
    "base",
    "factors",
    "kernel_s",
    *REACH_KEYS,
)
PARTS = (*((kind, part) for kind in CLASSES for part in ("compute", "memory")), ("kernels", "count"))
"""What a time is the sum of, the first axis of `AdditiveForm.parts`."""
_BASE = ("matrix_flops_per_s", "vector_flops_per_s", "memory_bytes_per_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdditiveForm:
    """The content of such a file.

    Attributes:
        matrix_flops_per_s, vector_flops_per_s, memory_bytes_per_s: the roofline that the factors multiply.
        factors: in the order of PARTS; the last one in seconds per kernel.
        reach: where it holds.
    """

    matrix_flops_per_s: float
    vector_flops_per_s: float
    memory_bytes_per_s: float
    factors: tuple[float, ...] = (1.0,) * (len(PARTS) - 1) + (0.0,)
    reach: Reach = field(default_factory=Reach)

    @classmethod
    def of(cls, hardware: HardwareProfile, dtype: DType) -> AdditiveForm:
        """The form on a profile's roofline, every factor 1.

        Raises:
            HardwareError: when the profile has no rate for `dtype`.
        """
        return cls(
            matrix_flops_per_s=hardware.matrix_rate(dtype),
            vector_flops_per_s=hardware.vector_flops_per_s,
            memory_bytes_per_s=hardware.memory_bytes_per_s,
        )

    def parts(self, ops: OpColumns) -> Floats:
        """What the factors multiply, float64 of shape (parts, ...)."""
        compute = ops.executed_flops / self.matrix_flops_per_s + ops.vector_flops / self.vector_flops_per_s
        memory = ops.hbm_bytes / self.memory_bytes_per_s
        columns = [mask * part for mask in class_masks(ops) for part in (compute, memory)]
        return np.stack([*columns, ops.kernels.astype(np.float64)])

    def to_json(self) -> dict[str, object]:
        """The keys of the file that this class reads."""
        factors = dict(zip(PARTS, self.factors, strict=True))
        return {
            "base": {name: getattr(self, name) for name in _BASE},
            "factors": {kind: {part: factors[kind, part] for part in ("compute", "memory")} for kind in CLASSES},
            "kernel_s": self.factors[-1],
            **self.reach.to_json(),
        }


def read_additive(part: Mapping[str, Node]) -> AdditiveForm:
    """The form of a file whose keys are KEYS.

    Raises:
        CalibrationError: one line that names the key, the value found and what is allowed.
    """
    base = part["base"].table(_BASE)
    factors: list[float] = []
    classes = part["factors"].table(CLASSES)
    for kind in CLASSES:
        entry = classes[kind]
        pair = entry.table(["compute", "memory"])
        values = [pair[name].number(0, 1e6) for name in ("compute", "memory")]
        if kind == "gemm" and not any(values):
            raise CalibrationError(f"{entry.file}: {entry.key}", value="0 and 0", allowed="one factor above 0")
        factors += values
    return AdditiveForm(
        **{name: base[name].number(1, 1e24) for name in _BASE},
        factors=(*factors, part["kernel_s"].number(0, 1)),
        reach=read_reach(part),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AdditiveTimes(BareKernels):
    """The time model of an `AdditiveForm`."""

    form: AdditiveForm
    level: str
    host_launch_s: float
    has_interval: bool = True
    together: float = 1.0

    def times(self, ops: OpColumns) -> OpTimings:
        """Seconds of each operation."""
        form = self.form
        factors = np.array(form.factors).reshape(-1, *(1,) * ops.kernels.ndim)
        parts = np.where(ops.kernels > 0, form.parts(ops) * factors, 0.0)
        compute, memory, overhead = parts[0:-1:2].sum(0), parts[1:-1:2].sum(0), parts[-1]
        busy = compute + memory
        latency = busy + overhead
        return OpTimings.of(
            compute_s=compute,
            memory_s=memory,
            overhead_s=overhead,
            latency_s=latency,
            busy_s=busy,
            p05_s=latency * np.exp(form.reach.low),
            p95_s=latency * np.exp(form.reach.high),
        )
