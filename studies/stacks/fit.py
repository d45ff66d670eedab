"""Fits the figures of stacks to published measurements of whole passes, and judges them on sources that are left out.

    python -m studies.stacks.fit whole_models.csv --out hw_profiles/stacks

A stack's figures are factors by class of operation and the host's time of a launch. Their logarithms are pulled towards
those of the stack's kind, which are fitted to all stacks of that kind, and these towards the kernels' own: a stack with
few points keeps to its kind. Errors are of rows whose source, or whose whole laboratory, was not fitted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from scipy.optimize import least_squares

from costmodel.arrays import Floats
from costmodel.hardware.stack import CLASSES, Stack, load_stack
from studies.stacks.components import Passes, passes_of
from validate.replay.points import read_points

NAMES = (*CLASSES, "launch_us")
PRIOR: Mapping[str, tuple[float, ...]] = {
    "eager": (1.0, 1.0, 3.0, 2.6, 19.0),
    "script": (1.1, 1.1, 1.0, 1.7, 21.0),
    "graph": (0.9, 1.0, 1.0, 0.7, 0.0),
    "engine": (0.95, 0.95, 0.5, 0.45, 0.0),
    "launched engine": (0.95, 0.95, 0.5, 0.6, 12.0),
    "own-kernels": (1.2, 1.1, 1.0, 0.5, 0.0),
    "kernels": (1.0, 1.0, 1.0, 1.0, 0.0),
}
"""Where the fit of a kind starts: gemm, attention, cache and other against kernels timed alone, and us of a launch."""
_NOISE = 0.06
"""Scatter of one measurement that is taken for granted, as a fraction."""
_KIND_WIDTH, _STACK_WIDTH = 0.35, 0.25
"""Standard deviations of log factors of kinds around PRIOR, and of stacks around their kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A row with its passes and what it stands for."""

    stack: str
    kind: str
    source: str
    laboratory: str
    device: str
    passes: Passes


def laboratory(source: str) -> str:
    """Who measured: sources of one name before the first blank or `/` of their second part are one laboratory."""
    return source.split()[0].split("/")[0].lower()


def points_of(path: Path) -> list[Point]:
    """The rows that a fit may use: times of quality A and B on GPUs."""
    points = []
    for row in read_points(path):
        if row["kind"] != "time" or row.get("quality", "A") == "C":
            continue
        stack = load_stack(row["stack"])
        points.append(
            Point(
                stack=stack.name,
                kind=kind_of(stack),
                source=row.get("source", ""),
                laboratory=laboratory(row.get("source", "?")),
                device=row["hw"],
                passes=passes_of(row, path.parent),
            )
        )
    return points


def kind_of(stack: Stack) -> str:
    """The stack's kind; an engine that launches its kernels one by one is a kind of its own."""
    return f"launched {stack.kind}" if stack.kind == "engine" and stack.runtime == "eager" else stack.kind


def launches_of(stack: str) -> Floats:
    """Launched operations over kernels, by class."""
    launches = load_stack(stack).launches
    return np.array([launches[name] for name in CLASSES])


def predicted(point: Point, figures: Floats) -> float:
    """Seconds of a row with figures in the order of NAMES."""
    return point.passes.latency_s(figures[:-1], launches_of(point.stack), figures[-1] * 1e-6, 0.0)


def fit(points: Sequence[Point]) -> Callable[[str, str], Floats]:
    """Figures by stack and kind; a stack without points has those of its kind, a kind without points its prior."""
    kinds, stacks = _fit_groups(points, lambda point: point.kind, _kind_prior, _KIND_WIDTH), {}
    of_kind = {point.stack: point.kind for point in points}
    stacks = _fit_groups(
        points,
        lambda point: point.stack,
        lambda stack: kinds.get(of_kind[stack], _kind_prior(of_kind[stack])),
        _STACK_WIDTH,
    )

    def figures(stack: str, kind: str) -> Floats:
        return stacks.get(stack, kinds.get(kind, _kind_prior(kind)))

    return figures


def _kind_prior(kind: str) -> Floats:
    return np.array(PRIOR[kind])


def _fit_groups(
    points: Sequence[Point], key: Callable[[Point], str], prior: Callable[[str], Floats], width: float
) -> dict[str, Floats]:
    fitted = {}
    for group in sorted({key(point) for point in points}):
        members = [point for point in points if key(point) == group]
        start = prior(group)
        free = start > 0
        shares = _shares(members)

        def residuals(
            logs: Floats,
            members: Sequence[Point] = members,
            start: Floats = start,
            free: np.ndarray = free,
            shares: Floats = shares,
        ) -> Floats:
            figures = np.where(free, 0.0, start)
            figures[free] = np.exp(logs)
            errors = np.array([math.log(predicted(point, figures) / point.passes.measured_s) for point in members])
            return np.concatenate([errors / _NOISE * np.sqrt(shares), (logs - np.log(start[free])) / width])

        best = least_squares(residuals, np.log(start[free]), loss="soft_l1")
        figures = start.copy()
        figures[free] = np.exp(best.x)
        fitted[group] = figures
    return fitted


def _shares(points: Sequence[Point]) -> Floats:
    """Weights of rows: a source counts as the square root of its rows, so that one long table does not decide."""
    counts: dict[str, int] = {}
    for point in points:
        counts[point.source] = counts.get(point.source, 0) + 1
    return np.array([1 / math.sqrt(counts[point.source]) for point in points])


def held_out(points: Sequence[Point], key: Callable[[Point], str]) -> Floats:
    """Errors predicted / measured - 1 of every row, fitted without the rows that share its `key`."""
    errors = np.zeros(len(points))
    for group in sorted({key(point) for point in points}):
        figures = fit([point for point in points if key(point) != group])
        for index, point in enumerate(points):
            if key(point) == group:
                errors[index] = predicted(point, figures(point.stack, point.kind)) / point.passes.measured_s - 1
    return errors


def error_rows(points: Sequence[Point], errors: Mapping[str, Floats]) -> list[list[str]]:
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


@click.command()
@click.argument("table", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of stacks whose figures are set.")
def command(table: Path, out: Path | None) -> None:
    """Fit, judge, print, and write the figures into the stacks' files."""
    points = points_of(table)
    figures = fit(points)
    errors = {
        "in sample": np.array([predicted(p, figures(p.stack, p.kind)) / p.passes.measured_s - 1 for p in points]),
        "source left out": held_out(points, lambda point: point.source),
        "laboratory left out": held_out(points, lambda point: point.laboratory),
    }
    for cells in error_rows(points, errors):
        click.echo(" | ".join(cells))
    for stack in sorted({point.stack for point in points}):
        kind = kind_of(load_stack(stack))
        text = ", ".join(f"{name} {value:.3g}" for name, value in zip(NAMES, figures(stack, kind), strict=True))
        click.echo(f"{stack}: {text}")
    if out is not None:
        from studies.stacks.write import write_stacks

        write_stacks(out, points, figures, errors["source left out"], kind_of)


if __name__ == "__main__":
    command()
