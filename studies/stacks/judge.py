"""Errors of whole passes by stack and by what their kernels' times stand on, and how well intervals hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from costmodel.arrays import Bools, Floats
from costmodel.timing.stacked import Z90
from studies.stacks.components import Point
from studies.stacks.write import spread

LEFT_OUT = "source left out"
_MEASURED = ("probes", "samples")
_LAUNCHED = ("eager", "script", "launched engine")
"""Kinds of stacks whose host launches the kernels one by one."""


def stack_table(points: Sequence[Point], errors: Mapping[str, Floats]) -> list[list[str]]:
    """A table: stack, points, and for each protocol median and mean absolute error, bias and worst in percent."""
    groups = {"all": np.ones(len(points), dtype=bool)}
    for stack in sorted({point.stack for point in points}):
        groups[stack] = np.array([point.stack == stack for point in points])
    rows = []
    for name, mask in groups.items():
        cells = [name, str(int(mask.sum()))]
        for each in errors.values():
            error = 100 * each[mask]
            cells += [f"{np.median(abs(error)):.1f}", f"{abs(error).mean():.1f}", f"{np.median(error):+.1f}"]
            cells.append(f"{error[abs(error).argmax()]:+.0f}")
        rows.append(cells)
    return rows


def error_rows(points: Sequence[Point], errors: Mapping[str, Floats]) -> list[dict[str, object]]:
    """Rows of ERRORS.md; `half_width_pct` is the median of half the 90 % interval over the prediction."""
    halves = half_widths(points, errors[LEFT_OUT])
    rows: list[dict[str, object]] = []
    for subset, mask in _subsets(points).items():
        for protocol, each in errors.items():
            error = 100 * each[mask]
            figures = {
                "mean_pct": abs(error).mean(),
                "median_pct": np.median(abs(error)),
                "p95_pct": np.quantile(abs(error), 0.95),
                "bias_pct": error.mean(),
                "coverage_pct": 100 * np.mean(np.abs(np.log1p(each[mask])) <= halves[mask]),
                "half_width_pct": 100 * np.median(np.expm1(halves[mask])),
            }
            row: dict[str, object] = {"kind": "whole passes", "subset": subset, "protocol": protocol}
            row |= {"points": int(mask.sum())} | {name: round(float(value), 2) for name, value in figures.items()}
            rows.append(row)
    return rows


def half_widths(points: Sequence[Point], left_out: Floats) -> Floats:
    """Half of each row's 90 % interval, in logarithms, by spreads in which no row of its laboratory had a part."""
    laboratories = np.array([point.laboratory for point in points])
    stacks = np.array([point.stack for point in points])
    halves = np.zeros(len(points))
    for laboratory, stack in sorted(set(zip(laboratories.tolist(), stacks.tolist(), strict=True))):
        others = laboratories != laboratory
        halves[(laboratories == laboratory) & (stacks == stack)] = Z90 * spread(
            left_out[others & (stacks == stack)], left_out[others]
        )
    return halves


def _subsets(points: Sequence[Point]) -> dict[str, Bools]:
    measured = np.array([point.passes.level in _MEASURED for point in points])
    launched = np.array([point.kind in _LAUNCHED for point in points])
    subsets = {
        "all": np.ones(len(points), dtype=np.bool_),
        "calibrated devices, launched by the host": measured & launched,
        "calibrated devices, engines and graphs": measured & ~launched,
        "devices without a calibration": ~measured,
    }
    return {name: mask for name, mask in subsets.items() if mask.any()}
