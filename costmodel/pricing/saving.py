"""How sure a saving of latency is: the 90 % interval of the ratio of two passes of one device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from costmodel.arrays import Floats
from costmodel.units import DType

if TYPE_CHECKING:
    from costmodel.timing.calibration.record import Calibration

UNMEASURED_ERROR = 0.25
"""Relative error of a ratio where the device's own was not measured: the largest 95 % quantile among the shipped
calibrations of 16-bit types (A40, speed-up of a pair of factors)."""


def saved_pct(before: float | None, after: float | None) -> float | None:
    """100 (before - after) / before; None where one of them is unknown or there is nothing to save."""
    return 100 * (before - after) / before if before and after is not None else None


class Latency(Protocol):
    """Seconds of passes: numbers, or arrays of one shape; the interval's ends None where there is none."""

    @property
    def latency_s(self) -> Floats | float: ...
    @property
    def latency_p05_s(self) -> Floats | float | None: ...
    @property
    def latency_p95_s(self) -> Floats | float | None: ...


def ratio_error(calibration: Calibration | None, dtype: DType) -> float | None:
    """By how much a predicted ratio of decomposed to dense time is off, as a share: the 95 % quantile.

    Measured on held-out points: of passes where whole models were measured, else of pairs of factors against their
    dense weight. None without a calibration: the ideal roofline says nothing of its errors.
    """
    if calibration is None:
        return None
    kind = "gemm:fp8" if dtype is DType.FP8 else "gemm"
    found = [
        float(row["p95_pct"]) / 100
        for row in calibration.errors
        if (row.get("subset") == "ratio to dense" and str(row.get("protocol", "")).startswith(calibration.level))
        or (str(row.get("subset", "")).startswith("speed-up") and row.get("kind") == kind)
        if isinstance(row.get("p95_pct"), int | float)
    ]
    return max(found, default=UNMEASURED_ERROR)


def saving_ends(dense: Latency, decomposed: Latency, error: float | None) -> tuple[Floats, Floats] | None:
    """The 5 % and the 95 % end of 100 (1 - ratio), ratio = decomposed / dense latency.

    What a device or host is slower by slows both passes: the ratio is taken at equal ends of their intervals, the
    worst and the best of the three, and its own error comes on top, ratio (1 + error) and ratio / (1 + error). Exactly
    0 where the passes are the same. None where an interval is unknown.
    """
    pairs = [
        (decomposed.latency_s, dense.latency_s),
        (decomposed.latency_p05_s, dense.latency_p05_s),
        (decomposed.latency_p95_s, dense.latency_p95_s),
    ]
    if error is None or any(value is None for pair in pairs for value in pair):
        return None
    ratios = np.stack([np.asarray(after, dtype=np.float64) / before for after, before in pairs])  # type: ignore[operator]
    same = np.all(ratios == 1.0, axis=0)
    low = 100 * (1 - ratios.max(axis=0) * np.where(same, 1.0, 1 + error))
    high = 100 * (1 - ratios.min(axis=0) / np.where(same, 1.0, 1 + error))
    return low, high
