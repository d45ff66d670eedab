"""Error tables: how wrong held-out predictions are, how well intervals cover, what speed-ups come out."""

from __future__ import annotations

from typing import Any

import numpy as np

from validate.calibration.shaped import FOLDS, folds_of, rounded, summary
from validate.calibration.spread import fit_spread
from validate.calibration.tables import Floats, OpTable

_FEWEST, _WIDEST = 100, 80
CHANGE = 0.05
"""A change of time that is worth a sign: smaller ones are noise."""


def error_row(
    kind: str, subset: str, protocol: str, predicted: Floats, table: OpTable, **more: float
) -> dict[str, Any]:
    """One row of a calibration's error table."""
    figures = {**summary(predicted, table), **more}
    return {
        "kind": kind,
        "subset": subset,
        "protocol": protocol,
        **{name: rounded(value, 3) if name != "points" else value for name, value in figures.items()},
    }


def coverage_pct(base_s: Floats, predicted: Floats, table: OpTable, seed: int) -> float:
    """Share of points within an interval that was fitted on the residuals of other folds."""
    residual = np.log(table.seconds / predicted)
    fold = folds_of(table.groups(), FOLDS, seed + 1)
    inside = np.empty(len(table), dtype=np.bool_)
    size = table.rows()
    for each in range(FOLDS):
        chosen = fold == each
        spread = fit_spread(base_s[~chosen], size[~chosen], residual[~chosen])
        low, high = spread.quantiles(base_s[chosen], size[chosen], np.zeros(chosen.sum(), dtype=np.bool_))
        inside[chosen] = (low <= residual[chosen]) & (residual[chosen] <= high)
    return float(100 * inside.mean())


def speedups(predicted: Floats, table: OpTable) -> tuple[Floats, Floats]:
    """Predicted and measured speed-ups of replacing (n, k) by the pair (rank, k), (n, rank), for all m, n, k and ranks
    below both that the table holds.

    Returns:
        Two arrays of one length, time of the dense linear / time of the pair; empty where widths are too many to share
        any.
    """
    m, n, k = table.shape
    widths = np.unique(np.concatenate([n, k]))
    if len(widths) > _WIDEST:
        return np.empty(0), np.empty(0)
    rows, columns = np.searchsorted(widths, n), np.searchsorted(widths, k)
    found: list[Floats] = []
    for each in np.unique(m):
        chosen = m == each
        grids = np.full((2, len(widths), len(widths)), np.nan)
        grids[:, rows[chosen], columns[chosen]] = predicted[chosen], table.seconds[chosen]
        for rank in range(len(widths) - 1):
            larger = slice(rank + 1, None)
            pair = grids[:, larger, rank, None] + grids[:, None, rank, larger]
            found.append((grids[:, larger, larger] / pair).reshape(2, -1))
    both = np.concatenate(found, axis=1) if found else np.empty((2, 0))
    both = both[:, np.isfinite(both).all(axis=0)]
    return both[0], both[1]


def speedup_rows(name: str, protocol: str, predicted: Floats, table: OpTable) -> list[dict[str, Any]]:
    """A row about speed-ups; `sign_pct` is the share of cases whose true change exceeds 5 % with the right sign.

    Empty where the table holds too few dense shapes with their pairs.
    """
    ours, true = speedups(predicted, table)
    if len(ours) < _FEWEST:
        return []
    error = 100 * (ours / true - 1)
    size = np.abs(error)
    clear = np.abs(true - 1) > CHANGE
    right = (ours > 1) == (true > 1)
    figures = {
        "mean_pct": size.mean(),
        "median_pct": np.median(size),
        "p95_pct": np.quantile(size, 0.95),
        "bias_pct": error.mean(),
        "sign_pct": 100 * right[clear].mean(),
    }
    shown = {name: rounded(float(value), 4) for name, value in figures.items()}
    return [{"kind": name, "subset": "speed-up of a rank-r pair", "protocol": protocol, "points": len(ours), **shown}]
