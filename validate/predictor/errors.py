"""The error table of a predictor: by band of damage, beside null models, with paired intervals. No torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from validate.predictor.points import Floats, Ints
from validate.quality.summary import BANDS

JUDGED = 30
"""Points that a band needs for its numbers to count."""
RESAMPLES, SEED = 2000, 0
PREDICTOR = "predictor"


def error_rows(
    protocol: str,
    measured: Floats,
    predicted: Floats,
    nulls: Mapping[str, Floats],
    covered: NDArray[np.bool_] | None = None,
    families: Ints | None = None,
) -> list[dict[str, Any]]:
    """Rows of the predictor and of every null model, over all configurations and in each band of measured change.

    Args:
        protocol: how points were held out.
        measured, predicted: change of NLL in nats, float64 (n).
        nulls: predictions of null models on the same points.
        covered: whether the predictor's intervals held the measurement.
        families: of points that are resampled together, int64 (n); each its own by default.

    Returns:
        Mean and median absolute error and bias in nats; rank correlation; for null models `difference`, the mean of
        the predictor's absolute error minus theirs, with its paired 95 % interval, and `ratio` of the two means.
    """
    rows = []
    for band, inside in in_bands(measured).items():
        if not inside.any():
            continue
        own = np.abs(predicted - measured)[inside]
        for name, values in {PREDICTOR: predicted, **nulls}.items():
            error = (values - measured)[inside]
            row: dict[str, Any] = {
                "protocol": protocol,
                "band": band,
                "model": name,
                "points": int(inside.sum()),
                "judged": bool(inside.sum() >= JUDGED),
                "mean_abs": float(np.abs(error).mean()),
                "median_abs": float(np.median(np.abs(error))),
                "bias": float(error.mean()),
                "spearman": rank_correlation(values[inside], measured[inside]),
            }
            if name == PREDICTOR:
                row["coverage"] = None if covered is None else float(covered[inside].mean())
            else:
                low, high = mean_interval(own - np.abs(error), None if families is None else families[inside])
                row |= {
                    "difference": float((own - np.abs(error)).mean()),
                    "difference_low": low,
                    "difference_high": high,
                    "ratio": _ratio(own.mean(), np.abs(error).mean()),
                }
            rows.append(row)
    return rows


def in_bands(measured: Floats) -> dict[str, NDArray[np.bool_]]:
    """Which points are in each band, by its name; the first also holds what improves."""
    edges = [-math.inf, *BANDS, math.inf]
    found = {"all": np.ones(len(measured), dtype=bool)}
    for low, high in itertools.pairwise(edges):
        name = (
            f"below {high:g}" if low == -math.inf else f"above {low:g}" if high == math.inf else f"{low:g} to {high:g}"
        )
        found[name] = np.asarray((measured >= low) & (measured < high))
    return found


def mean_interval(values: Floats, families: Ints | None = None) -> tuple[float | None, float | None]:
    """95 % percentile bootstrap interval of a mean, whole families drawn; None where there are fewer than five."""
    _, member = np.unique(np.arange(len(values)) if families is None else families, return_inverse=True)
    sums, sizes = np.bincount(member, values), np.bincount(member)
    if len(sizes) < 5:
        return None, None
    picks = np.random.default_rng(SEED).integers(0, len(sizes), (RESAMPLES, len(sizes)))
    low, high = np.quantile(sums[picks].sum(axis=1) / sizes[picks].sum(axis=1), [0.025, 0.975])
    return float(low), float(high)


def rank_correlation(predicted: Floats, measured: Floats) -> float | None:
    """Spearman's; None with fewer than three points or without distinct values."""
    if len(measured) < 3 or np.ptp(predicted) == 0 or np.ptp(measured) == 0:
        return None
    return float(stats.spearmanr(predicted, measured).statistic)


def _ratio(own: float, other: float) -> float | None:
    return float(own / other) if other > 0 else None
