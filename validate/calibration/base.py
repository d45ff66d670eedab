"""Fits the physical part of a form: achieved rates, fixed time, overlap."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from costmodel.timing.calibration.base import Base

Floats = npt.NDArray[np.float64]
_OVERLAP = (1.0, 8.0)
_OUTLIER = 0.1
"""ln of the ratio beyond which a point counts linearly, no longer by its square."""


def fit_base(flops: Floats, moved: Floats, seconds: Floats, start: Base) -> Base:
    """The base that minimises the robust squared ln of predicted / measured; every parameter stays positive.

    Args:
        flops, moved, seconds: (points,); flops may be 0 throughout, and then the rate stays as it is.
        start: where the search begins, such as the datasheet's rates.
    """
    low = np.log([start.flops_per_s * 1e-3, start.bytes_per_s * 1e-3, 1e-9])
    high = np.log([start.flops_per_s * 10, start.bytes_per_s * 10, max(float(np.median(seconds)), 2e-9)])

    def base_of(values: Floats) -> Base:
        flops_rate, bytes_rate, fixed = np.exp(values[:3])
        return Base(flops_per_s=flops_rate, bytes_per_s=bytes_rate, fixed_s=fixed, overlap=float(values[3]))

    def residuals(values: Floats) -> Floats:
        base = base_of(values)
        busy = base.busy(flops / base.flops_per_s, moved / base.bytes_per_s)
        return np.asarray(np.log((busy + base.fixed_s) / seconds))

    first = np.clip(np.log([start.flops_per_s, start.bytes_per_s, max(start.fixed_s, 2e-9)]), low + 1e-6, high - 1e-6)
    found = least_squares(
        residuals,
        [*first, start.overlap],
        bounds=([*low, _OVERLAP[0]], [*high, _OVERLAP[1]]),
        loss="soft_l1",
        f_scale=_OUTLIER,
    )
    return base_of(found.x)
