"""The physical part of a calibration: a roofline with achieved rates, partial overlap and a fixed time per kernel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """t = (compute^p + memory^p)^(1/p) + fixed_s, with compute = flops / flops_per_s and memory = bytes / bytes_per_s.

    p = 1: arithmetic and traffic take turns; p to infinity: they overlap perfectly, the roofline's max.

    Attributes:
        flops_per_s: rate achieved by large work.
        bytes_per_s: bandwidth achieved by large work.
        fixed_s: time of a kernel that does next to nothing.
        overlap: p, at least 1.
    """

    flops_per_s: float
    bytes_per_s: float
    fixed_s: float
    overlap: float

    def busy(self, compute_s: Floats, memory_s: Floats) -> Floats:
        """The p-norm of the two times, between their max and their sum; where both are 0, 0."""
        top = np.maximum(compute_s, memory_s)
        ratio = np.minimum(compute_s, memory_s) / np.maximum(top, 1e-300)
        busy: Floats = top * (1 + ratio**self.overlap) ** (1 / self.overlap)
        return busy
