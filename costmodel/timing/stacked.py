"""A device's time model as a stack uses it: kernels merged, fused and copied, and launched by a host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Floats
from costmodel.hardware.host import Host
from costmodel.hardware.stack import Stack
from costmodel.timing.columns import OpColumns, OpTimings, TimeModel

Z90 = 1.6448536269514722
"""Standard deviations from the middle to either end of a 90 % interval."""
_CLASS_OF = {"gemm": "gemm", "attention": "attention", "kv_cache": "cache"}
"""Class of each kind of operation; every other kind is `other`."""


def class_of(kind: str) -> str:
    """The class, of `costmodel.hardware.stack.CLASSES`, that a kind of operation belongs to."""
    return _CLASS_OF.get(kind, "other")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StackTimes:
    """Times of a device under a stack.

    Each operation takes the kernel's time x the stack's factor for its class; a pass adds the stack's step time once
    (`costmodel.pricing`). The host launches kernels x launches of the class, each in launch_s x the host's slowness;
    where a pass is replayed it launches nothing. The 90 % interval is that of the stack's spread of whole
    passes with their source left out, which holds the errors of kernels and devices too; a stack without one keeps the
    kernels' own.
    """

    device: TimeModel
    stack: Stack
    host: Host

    @property
    def level(self) -> str:
        """Of the device's times."""
        return self.device.level

    @property
    def has_interval(self) -> bool:
        """A stack that states its spread gives every level an interval."""
        return self.device.has_interval or self.stack.spread > 0

    @property
    def host_launch_s(self) -> float:
        """Of one kernel that the stack launches unmerged; 0 where it launches none."""
        return self.stack.launch_s * self.host.slowness

    @property
    def host_spread(self) -> float:
        """Standard deviation of the logarithm of the host's seconds."""
        return float(np.hypot(self.stack.launch_spread, self.host.spread)) if self.stack.launch_s else 0.0

    @property
    def step_s(self) -> float:
        """Seconds of a pass beside all of its operations."""
        return self.stack.step_s

    def times(self, ops: OpColumns) -> OpTimings:
        """Seconds of each operation; exactly 0 where kernels = 0."""
        factor = self._by_class(ops, self.stack.time)
        timings = self.device.times(ops)
        scaled = {name: getattr(timings, name) * factor for name in OpTimings.__slots__}
        if self.stack.spread:
            widening = np.exp(Z90 * self.stack.spread)
            scaled["p05_s"] = scaled["latency_s"] / widening
            scaled["p95_s"] = scaled["latency_s"] * widening
        return OpTimings(**scaled)

    def launches(self, ops: OpColumns) -> Floats:
        """Operations that the host launches for each entry."""
        return np.asarray(ops.kernels * self._by_class(ops, self.stack.launches), dtype=np.float64)

    def _by_class(self, ops: OpColumns, figures: Mapping[str, float]) -> Floats | float:
        """The figure of each operation's class."""
        if isinstance(ops.kind, str):
            return figures[class_of(ops.kind)]
        kinds, places = np.unique(ops.kind, return_inverse=True)
        by_kind = np.array([figures[class_of(str(kind))] for kind in kinds])
        return np.asarray(by_kind[places].reshape(ops.kind.shape), dtype=np.float64)
