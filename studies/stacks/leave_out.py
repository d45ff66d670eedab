"""Predictions of rows that had no part in them: neither in the figures, nor in the width of the interval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Floats
from studies.stacks.components import Point
from studies.stacks.figures import fit, predicted
from studies.stacks.spread import interval, spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Rows by one protocol.

    Attributes:
        errors: predicted / measured - 1.
        low, high: how far the ends of the 90 % interval lie from the prediction, in logarithms.
    """

    errors: Floats
    low: Floats
    high: Floats

    @property
    def inside(self) -> Floats:
        """1 where the measurement lies within the interval, else 0."""
        away = -np.log1p(self.errors)
        return ((-self.low <= away) & (away <= self.high)).astype(np.float64)

    @property
    def half_widths(self) -> Floats:
        """Half of each interval over its prediction."""
        return (np.exp(self.high) - np.exp(-self.low)) / 2


def held_out(points: Sequence[Point], key: Callable[[Point], str]) -> Floats:
    """Errors predicted / measured - 1 of every row, fitted without the rows that share its `key`."""
    errors = np.zeros(len(points))
    for group in sorted({key(point) for point in points}):
        kinds = {point.kind for point in points if key(point) == group}
        figures = fit([point for point in points if key(point) != group and point.kind in kinds])
        for index, point in enumerate(points):
            if key(point) == group:
                errors[index] = predicted(point, figures(point.stack, point.kind)) / point.passes.measured_s - 1
    return errors


def in_sample(points: Sequence[Point]) -> Judged:
    """What ships: figures fitted to all rows, spreads of rows whose source was left out."""
    return _judged(points, points, held_out(points, lambda point: point.source))


def left_out(points: Sequence[Point], key: Callable[[Point], str]) -> Judged:
    """Each row by a fit to those that do not share its `key`, and by spreads from these alone, whose own sources were
    left out once more."""
    parts: dict[int, tuple[float, float, float]] = {}
    for group in sorted({key(point) for point in points}):
        rest = [point for point in points if key(point) != group]
        places = [index for index, point in enumerate(points) if key(point) == group]
        judged = _judged([points[index] for index in places], rest, held_out(rest, lambda point: point.source))
        parts |= dict(zip(places, zip(judged.errors, judged.low, judged.high, strict=True), strict=True))
    errors, low, high = np.array([parts[index] for index in range(len(points))]).T
    return Judged(errors=errors, low=low, high=high)


def _judged(points: Sequence[Point], fitted: Sequence[Point], errors: Floats) -> Judged:
    """`points` by figures of `fitted`, whose errors with their own source left out say how wide intervals are."""
    kinds = {point.kind for point in points}
    figures = fit([point for point in fitted if point.kind in kinds])
    spreads = {stack: spread(stack, fitted, errors) for stack in {point.stack for point in points}}
    found, ends = [], []
    for point in points:
        of_stack = figures(point.stack, point.kind)
        found.append(predicted(point, of_stack) / point.passes.measured_s - 1)
        ends.append(interval(point, spreads[point.stack], of_stack))
    low, high = np.array(ends).T
    return Judged(errors=np.array(found), low=low, high=high)
