"""Errors of whole passes by stack and by what their kernels' times stand on, and how well intervals hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from costmodel.arrays import Bools
from studies.stacks.components import Point
from studies.stacks.leave_out import Judged

NULL = "null model: a factor by kind x the roofline, source left out"
_MEASURED = ("probes", "samples")
_LAUNCHED = ("eager", "script", "launched engine")
"""Kinds of stacks whose host launches the kernels one by one."""


def stack_table(points: Sequence[Point], judged: Mapping[str, Judged]) -> list[list[str]]:
    """A table: stack, points, and for each protocol median and mean absolute error, bias, worst, share inside the
    interval and its median half-width in percent."""
    groups = {"all": np.ones(len(points), dtype=bool)}
    for stack in sorted({point.stack for point in points}):
        groups[stack] = np.array([point.stack == stack for point in points])
    rows = []
    for name, mask in groups.items():
        cells = [name, str(int(mask.sum()))]
        for answers in judged.values():
            error = 100 * answers.errors[mask]
            cells += [f"{np.median(abs(error)):.1f}", f"{abs(error).mean():.1f}", f"{np.median(error):+.1f}"]
            cells.append(f"{error[abs(error).argmax()]:+.0f}")
            inside, half = answers.inside[mask].mean(), np.median(answers.half_widths[mask])
            cells.append(f"{100 * inside:.0f} in {100 * half:.0f}")
        rows.append(cells)
    return rows


def error_rows(points: Sequence[Point], judged: Mapping[str, Judged]) -> list[dict[str, object]]:
    """Rows of ERRORS.md; `half_width_pct` is the median of half the 90 % interval over the prediction, `width_to_error`
    that over the mean error."""
    rows: list[dict[str, object]] = []
    for subset, mask in _subsets(points).items():
        for protocol, answers in judged.items():
            error = 100 * answers.errors[mask]
            half = 100 * float(np.median(answers.half_widths[mask]))
            figures = {
                "mean_pct": abs(error).mean(),
                "median_pct": np.median(abs(error)),
                "p95_pct": np.quantile(abs(error), 0.95),
                "bias_pct": error.mean(),
                "coverage_pct": 100 * answers.inside[mask].mean(),
                "half_width_pct": half,
                "width_to_error": half / abs(error).mean(),
            }
            row: dict[str, object] = {"kind": "whole passes", "subset": subset, "protocol": protocol}
            row |= {"points": int(mask.sum())} | {name: round(float(value), 2) for name, value in figures.items()}
            rows.append(row)
    return rows


def _subsets(points: Sequence[Point]) -> dict[str, Bools]:
    measured = np.array([point.passes.level in _MEASURED for point in points])
    launched = np.array([point.kind in _LAUNCHED for point in points])
    subsets = {
        "all": np.ones(len(points), dtype=np.bool_),
        "calibrated devices": measured,
        "calibrated devices, launched by the host": measured & launched,
        "calibrated devices, engines and graphs": measured & ~launched,
        "devices without a calibration": ~measured,
    }
    stacks = np.array([point.stack for point in points])
    subsets |= {f"stack {name}": stacks == name for name in sorted(set(stacks.tolist()))}
    return {name: mask for name, mask in subsets.items() if mask.any()}


def null_row(points: Sequence[Point]) -> dict[str, object]:
    """The row of a null model: every pass takes the datasheet's roofline times one factor for stacks of its kind, the
    median over other sources."""
    ratios = np.array([point.passes.measured_s / point.passes.roofline_s for point in points])
    errors = []
    for point, ratio in zip(points, ratios, strict=True):
        alike = [each.kind == point.kind and each.source != point.source for each in points]
        others = alike if any(alike) else [each.source != point.source for each in points]
        errors.append(100 * (float(np.median(ratios[np.array(others)])) / ratio - 1))
    error = np.array(errors)
    figures = {
        "mean_pct": abs(error).mean(),
        "median_pct": np.median(abs(error)),
        "p95_pct": np.quantile(abs(error), 0.95),
        "bias_pct": error.mean(),
    }
    row: dict[str, object] = {"kind": "whole passes", "subset": "all", "protocol": NULL, "points": len(points)}
    return row | {name: round(float(value), 2) for name, value in figures.items()}
