"""A calibration from probes that whole passes have corrected: a factor for each class of operations, time per kernel.

time of an operation = factor of its class x time from the probes + kernels x kernel_s. Probes time one operation at a
time; in a model the framework stands between two of them, and outputs go to fresh memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from costmodel.arrays import Floats
from costmodel.files.node import Node
from costmodel.timing.bare import BareKernels
from costmodel.timing.calibration.passes import CLASSES, REACH_KEYS, Reach, class_masks, read_reach
from costmodel.timing.calibration.probes import CalibratedTimes
from costmodel.timing.columns import OpColumns, OpTimings

SCALED_KEYS = ("form", "factors", "kernel_s", *REACH_KEYS)
"""Keys of its file beside those of the probes' file."""
_MAX_FACTOR = 1e3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScaledForm:
    """The keys that such a file adds.

    Attributes:
        factors: of each class in CLASSES, then seconds per kernel.
        reach: where it holds.
    """

    factors: tuple[float, ...] = (1.0,) * len(CLASSES) + (0.0,)
    reach: Reach = field(default_factory=Reach)

    def to_json(self) -> dict[str, object]:
        """The keys of the file that this class reads."""
        factors = dict(zip(CLASSES, self.factors[:-1], strict=True))
        return {"factors": factors, "kernel_s": self.factors[-1], **self.reach.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScaledTimes(BareKernels):
    """The time model of a `ScaledForm` on the probes' one."""

    form: ScaledForm
    probes: CalibratedTimes
    level: str
    host_launch_s: float
    has_interval: bool = True
    together: float = 1.0

    def parts(self, ops: OpColumns) -> Floats:
        """What the factors multiply, float64 (classes + 1, ...)."""
        times = self.probes.times(ops).latency_s
        return np.concatenate([class_masks(ops) * times, ops.kernels[None].astype(np.float64)])

    def times(self, ops: OpColumns) -> OpTimings:
        """Seconds of each operation."""
        found = self.probes.times(ops)
        factors = np.array(self.form.factors[:-1]).reshape(-1, *(1,) * ops.kernels.ndim)
        scale = (class_masks(ops) * factors).sum(axis=0)
        extra = np.where(ops.kernels > 0, ops.kernels * self.form.factors[-1], 0.0)
        latency, reach = found.latency_s * scale + extra, self.form.reach
        return OpTimings.of(
            compute_s=found.compute_s * scale,
            memory_s=found.memory_s * scale,
            overhead_s=found.overhead_s * scale + extra,
            latency_s=latency,
            lower_s=found.lower_s * scale + extra,
            upper_s=found.upper_s * scale + extra,
            busy_s=found.busy_s * scale,
            p05_s=latency * np.exp(reach.low),
            p95_s=latency * np.exp(reach.high),
        )


def read_scaled(part: Mapping[str, Node]) -> ScaledForm:
    """The form of a file that has SCALED_KEYS.

    Raises:
        CalibrationError: one line that names the key, the value found and what is allowed.
    """
    classes = part["factors"].table(CLASSES)
    factors = [classes[name].number(0 if name != "gemm" else 1 / _MAX_FACTOR, _MAX_FACTOR) for name in CLASSES]
    return ScaledForm(factors=(*factors, part["kernel_s"].number(0, 1)), reach=read_reach(part))
