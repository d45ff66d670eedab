"""What raw times say: medians, the ratio of two interleaved series with an interval, error summaries. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

CONFIDENCE = 0.95
_BLOCKS = 12
"""Consecutive blocks that a long series is cut into where neighbours resemble each other."""


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return float(np.median(np.asarray(values, dtype=float)))


def iqr(values: Sequence[float]) -> float:
    """Distance between the quartiles."""
    low, high = np.quantile(np.asarray(values, dtype=float), [0.25, 0.75])
    return float(high - low)


def paired_log_ratios(candidate: Sequence[float], reference: Sequence[float]) -> npt.NDArray[np.float64]:
    """ln(candidate / reference) of interleaved series A B A B ..., each A against the mean of the B on both sides.

    Bracketing cancels a drift that is linear over three calls. The first A has a B on its right only.
    """
    above, below = np.log(np.asarray(candidate, dtype=float)), np.log(np.asarray(reference, dtype=float))
    left = np.concatenate([below[:1], below[:-1]])
    return np.asarray(above - (left + below) / 2, dtype=np.float64)


def ratio_interval(candidate: Sequence[float], reference: Sequence[float]) -> tuple[float, float, float]:
    """The median of candidate / reference and its 95 % interval.

    The interval is the larger of two: of order statistics, which takes pairs as independent (Hollander and Wolfe), and
    of Student's t over the medians of consecutive blocks, which holds where the load drifts over seconds. Fewer than
    six pairs give (0, inf).

    Returns:
        The ratio, and the interval's lower and upper end.
    """
    logs = paired_log_ratios(candidate, reference)
    centre = float(np.median(logs))
    if len(logs) < 6:
        return math.exp(centre), 0.0, math.inf
    interval = stats.quantile_test(logs, q=centre, p=0.5).confidence_interval(CONFIDENCE)
    low, high = float(interval.low), float(interval.high)
    if len(logs) >= 2 * _BLOCKS:
        medians = [float(np.median(block)) for block in np.array_split(logs, _BLOCKS)]
        margin = stats.t.ppf((1 + CONFIDENCE) / 2, _BLOCKS - 1) * float(stats.sem(medians))
        low, high = min(low, centre - margin), max(high, centre + margin)
    return math.exp(centre), math.exp(low), math.exp(high)


def summary(errors: Sequence[float]) -> dict[str, float]:
    """Bias, mean, median, 95th percentile and worst of signed relative errors, as fractions."""
    values = np.asarray(errors, dtype=float)
    size = np.abs(values)
    return {
        "bias": float(values.mean()), "mean": float(size.mean()), "median": float(np.median(size)),
        "p95": float(np.quantile(size, 0.95)), "worst": float(size.max()),
    }  # fmt: skip


def kendall_tau(predicted: Sequence[float], measured: Sequence[float]) -> float | None:
    """Rank correlation tau-b; None with fewer than two distinct values."""
    if len(set(predicted)) < 2 or len(set(measured)) < 2:
        return None
    return float(stats.kendalltau(predicted, measured).statistic)
