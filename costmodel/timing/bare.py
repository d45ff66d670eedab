"""Passes of bare kernels: the host launches each by itself, and a pass takes nothing on top."""

from __future__ import annotations

import numpy as np

from costmodel.arrays import Floats, Ints
from costmodel.timing.columns import OpColumns, TimeModel


class BareKernels:
    """What every time model without a stack says of whole passes; the base of those."""

    __slots__ = ()

    @property
    def step_s(self) -> float:
        """Seconds of a pass beside all of its operations: none."""
        return 0.0

    def host_and_step(self, end: int) -> tuple[float, float]:
        """At either end of the interval what the prediction says: the host's seconds as they are, and no others."""
        return 1.0, 0.0

    def launches(self, ops: OpColumns) -> Ints:
        """Each kernel is one."""
        return ops.kernels

    def host_seconds(self: TimeModel, kernels: Ints, summed_s: Floats) -> Floats:
        """One product, not a sum of rounded ones."""
        seconds: Floats = np.float64(self.host_launch_s) * kernels
        return seconds
