"""What raw times say: medians, the ratio of two interleaved series with an interval, error summaries. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.ndimage import uniform_filter1d

CONFIDENCE = 0.95
_BLOCKS = 12
"""Consecutive blocks that a long series is cut into where neighbours resemble each other."""
FEWEST_COPIES = 3
"""Copies of a callable from which on their spread tells what another place in memory would do."""


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


def ratio_interval(
    candidate: Sequence[float], reference: Sequence[float], copies: int = 1
) -> tuple[float, float, float]:
    """The median of candidate / reference and its 95 % interval.

    The interval is the larger of two, and with several copies of each of three: of order statistics, which takes pairs
    as independent (Hollander and Wolfe); of Student's t over the medians of consecutive blocks, which holds where the
    load drifts over seconds; of Welch's t over the medians of the copies, which holds where the same work takes another
    time at another place in memory. Fewer than six pairs give (0, inf).

    Args:
        candidate, reference: seconds of the calls, in turn.
        copies: how many copies of each took turns: call i is that of copy i mod copies.

    Returns:
        The ratio, and the interval's lower and upper end.
    """
    logs = paired_log_ratios(candidate, reference)
    centre = float(np.median(logs))
    if len(logs) < 6:
        return math.exp(centre), 0.0, math.inf
    interval = stats.quantile_test(logs, q=centre, p=0.5).confidence_interval(CONFIDENCE)
    low, high = float(interval.low), float(interval.high)
    margin = 0.0
    if len(logs) >= 2 * _BLOCKS:
        medians = [float(np.median(block)) for block in np.array_split(logs, _BLOCKS)]
        margin = stats.t.ppf((1 + CONFIDENCE) / 2, _BLOCKS - 1) * float(stats.sem(medians))
    if copies >= FEWEST_COPIES and len(logs) >= 2 * copies:
        margin = max(margin, _copies_margin(candidate, reference, copies))
    return math.exp(centre), math.exp(min(low, centre - margin)), math.exp(max(high, centre + margin))


def widened(ratio: float, low: float, high: float, deviation: float) -> tuple[float, float]:
    """The ends of an interval after an independent error of the ratio is added.

    Args:
        ratio, low, high: of `ratio_interval`.
        deviation: standard deviation of the error, as a fraction.
    """
    extra = stats.norm.ppf((1 + CONFIDENCE) / 2) * deviation
    below = math.hypot(math.log(ratio / low), extra) if low > 0 else math.inf
    return ratio * math.exp(-below), ratio * math.exp(math.hypot(math.log(high / ratio), extra))


def _copies_margin(candidate: Sequence[float], reference: Sequence[float], copies: int) -> float:
    """Half-width of Welch's interval for the difference of the copies' mean log times."""
    above, below = np.log(np.asarray(candidate, dtype=float)), np.log(np.asarray(reference, dtype=float))
    # over whole turns: the level is that of the machine, not of a copy
    level = uniform_filter1d((above + below) / 2, copies, mode="nearest")
    groups = [[float(np.median((each - level)[first::copies])) for first in range(copies)] for each in (above, below)]
    interval = stats.ttest_ind(*groups, equal_var=False).confidence_interval(CONFIDENCE)
    half = float(interval.high - interval.low) / 2
    return half if math.isfinite(half) else 0.0  # copies that agree exactly have no spread


def summary(errors: Sequence[float]) -> dict[str, float]:
    """Bias, mean, median, 95th percentile and worst of signed relative errors, as fractions."""
    values = np.asarray(errors, dtype=float)
    size = np.abs(values)
    return {
        "bias": float(values.mean()),
        "mean": float(size.mean()),
        "median": float(np.median(size)),
        "p95": float(np.quantile(size, 0.95)),
        "worst": float(size.max()),
    }


def kendall_tau(predicted: Sequence[float], measured: Sequence[float]) -> float | None:
    """Rank correlation tau-b; None with fewer than two distinct values."""
    if len(set(predicted)) < 2 or len(set(measured)) < 2:
        return None
    return float(stats.kendalltau(predicted, measured).statistic)
