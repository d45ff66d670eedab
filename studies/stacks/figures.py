"""Figures of stacks, fitted to published measurements of whole passes.

A stack's figures are factors by class of operation, the host's time of a launch and a server's time of a step. What a
stack merges and fuses is structure, written in its file, and so priced before anything is fitted: what is left for the
factors is little. Their logarithms are pulled towards those of the stack's kind, which are fitted to all stacks of that
kind, and these towards PRIOR, by widths that were chosen for the errors of sources left out: of three sets tried, half
as wide was as good in sample (5.3 % in place of 4.8) and better left out (6.8 in place of 7.8, median).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy.optimize import least_squares

from costmodel.arrays import Floats
from costmodel.hardware.stack import CLASSES
from studies.stacks.components import Point

NAMES = (*CLASSES, "launch_us", "step_us", "gemm_bytes_per_cycle")
_STEP = NAMES.index("step_us")
PRIOR: Mapping[str, tuple[float, ...]] = {
    "eager": (1.0, 1.0, 3.0, 2.6, 19.0, 0.0, 0.0),
    "script": (1.0, 1.0, 1.0, 1.7, 21.0, 0.0, 0.0),
    "graph": (0.9, 1.0, 1.0, 0.6, 0.0, 0.0, 0.0),
    "engine": (0.95, 0.95, 0.5, 0.6, 0.0, 0.0, 0.0),
    "launched engine": (0.95, 0.95, 0.5, 0.8, 12.0, 0.0, 0.0),
    "own-kernels": (1.1, 1.1, 1.0, 0.8, 0.0, 0.0, 6.0),
    "kernels": (1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0),
}
"""Where the fit of a kind starts: gemm, attention, cache, other against kernels timed alone, beside their fixed time,
us of a launch and of a step, and bytes that a core reads in a cycle; 0 is no figure and stays. That of `own-kernels`
is the reads in flight over their latency: some 32 blocks of one warp a core, each with a load of 128 bytes, in some 700
cycles."""
STEP_US = {"vllm": 1500.0, "tensorrt-llm": 200.0, "lmdeploy": 200.0}
"""Where the fit of a server's step starts: a scheduler in Python takes 1 to 2 ms, one in C++ some 0.2."""
_NOISE = 0.06
"""Scatter of one measurement that is taken for granted, as a fraction."""
_KIND_WIDTHS = np.array([0.1, 0.1, 0.2, 0.3, 0.2, 0.5, 0.2])
_STACK_WIDTHS = np.array([0.05, 0.05, 0.1, 0.2, 0.15, 0.5, 0.1])
"""Standard deviations of log figures of kinds around PRIOR, and of stacks around their kind, in the order of NAMES."""


def predicted(point: Point, figures: Floats) -> float:
    """Seconds of a row with figures in the order of NAMES."""
    *time, launch_us, step_us, bytes_per_cycle = figures
    return point.passes.latency_s(np.array(time), launch_us * 1e-6, step_us * 1e-6, bytes_per_cycle)


def fit(points: Sequence[Point]) -> Callable[[str, str], Floats]:
    """Figures by stack and kind; a stack without points has those of its kind, a kind without points its prior."""
    kinds = {
        kind: _fitted([point for point in points if point.kind == kind], np.array(PRIOR[kind]), _KIND_WIDTHS)
        for kind in sorted({point.kind for point in points})
    }

    def start(stack: str, kind: str) -> Floats:
        return _with_step(kinds.get(kind, np.array(PRIOR[kind])), stack)

    stacks = {
        (stack, kind): _fitted([point for point in points if point.stack == stack], start(stack, kind), _STACK_WIDTHS)
        for stack, kind in sorted({(point.stack, point.kind) for point in points})
    }

    def figures(stack: str, kind: str) -> Floats:
        return stacks.get((stack, kind), start(stack, kind))

    return figures


def _with_step(figures: Floats, stack: str) -> Floats:
    """Figures with the step that the stack's server is known for, where they have none."""
    known = figures.copy()
    known[_STEP] = known[_STEP] or STEP_US.get(stack, 0.0)
    return known


def _fitted(points: Sequence[Point], start: Floats, widths: Floats) -> Floats:
    """The figures that fit the points best, pulled towards `start`; those that are 0 there stay 0."""
    free, shares = start > 0, _shares(points)

    def figures_of(logs: Floats) -> Floats:
        figures = start.copy()
        figures[free] = np.exp(logs)
        return figures

    def residuals(logs: Floats) -> Floats:
        figures = figures_of(logs)
        errors = [
            math.log(predicted(point, _with_step(figures, point.stack)) / point.passes.measured_s) for point in points
        ]
        pulls = (logs - np.log(start[free])) / widths[free]
        return np.concatenate([np.array(errors) / _NOISE * np.sqrt(shares), pulls])

    return figures_of(least_squares(residuals, np.log(start[free]), loss="soft_l1", max_nfev=30).x)


def _shares(points: Sequence[Point]) -> Floats:
    """Weights of rows: a source counts as the square root of its rows, so that one long table does not decide."""
    counts: dict[str, int] = {}
    for point in points:
        counts[point.source] = counts.get(point.source, 0) + 1
    return np.array([1 / math.sqrt(counts[point.source]) for point in points])
