"""How far whole passes lie from their predictions where nobody fitted their source: a stack's spread, and intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from costmodel.arrays import Floats
from costmodel.timing.columns import Z90
from studies.stacks.components import Point

_PRIOR_SOURCES = 1
"""Sources that the typical one counts as beside a stack's own."""
_LEAST = 0.02
"""No source is taken to scatter less, as a fraction: its next one would not repeat that."""
_BESIDE_KERNELS = 0.85
"""Of the scatter what stands beside the kernels' own interval, of which the errors hold a part already; of 0.8, 0.85,
0.9 and 0.95 the widest by which intervals are no wider than twice the error where a source is left out. What a stack
without a source of its own needs cannot be known from the others: at 0.9, and kernels kept at 0.7, three quarters of
TensorRT's rows would lie inside, at 2.3 times the error over all."""


def spread(stack: str, points: Sequence[Point], held_out: Floats) -> float:
    """Standard deviation of log(measured / predicted) of a stack's passes.

    Rows of one source err together, so what counts is sources: the mean over the stack's own ones of their mean squared
    log error, and, as _PRIOR_SOURCES more, of the typical source of all stacks (the geometric mean over sources: a few
    err by a factor of two).

    Args:
        stack: whose spread; one without points has the typical one.
        points: what was fitted.
        held_out: errors predicted / measured - 1 of the points, each fitted without its source.
    """
    squares: dict[tuple[str, str], list[float]] = {}
    for point, error in zip(points, held_out, strict=True):
        squares.setdefault((point.stack, point.source), []).append(float(np.log1p(error) ** 2))
    means = {key: max(float(np.mean(values)), _LEAST**2) for key, values in squares.items()}
    own = [value for (name, _), value in means.items() if name == stack]
    typical = float(np.exp(np.mean(np.log(list(means.values())))))
    return _BESIDE_KERNELS * float(np.sqrt((sum(own) + _PRIOR_SOURCES * typical) / (len(own) + _PRIOR_SOURCES)))


def interval(point: Point, stack_spread: float, figures: Floats) -> tuple[float, float]:
    """How far the ends of a row's 90 % interval lie below and above its prediction, in logarithms.

    The kernels' term, or the host's where the row waits for it, and the stack's, in quadrature, as
    `costmodel.timing.stacked` has it operation by operation.
    """
    *time, launch_us, _, bytes_per_cycle = figures
    whole = Z90 * stack_spread
    if point.passes.launch_bound(np.array(time), launch_us * 1e-6, bytes_per_cycle):
        low = high = Z90 * point.passes.host_spread
    else:
        low, high = point.passes.low, point.passes.high
    return float(np.hypot(low, whole)), float(np.hypot(high, whole))
