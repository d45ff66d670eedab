"""Axes that every figure of the package shares."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


def bars(values: Sequence[Any]) -> list[list[float]]:
    """Lengths of error bars below and above."""
    return [
        [max(0.0, each.value - (each.value if each.low is None else each.low)) for each in values],
        [max(0.0, (each.value if each.high is None else each.high) - each.value) for each in values],
    ]


def apart(axis: Any, ticks: Iterable[float], *, narrow: bool) -> list[float]:
    """Those ticks of an axis, whose scale and limits are set, whose labels do not touch: zero and whole powers of ten
    before others, large ones before small ones.

    Args:
        narrow: for a narrow screen.
    """
    low, high = sorted(getattr(axis.axes, f"get_{axis.axis_name}lim")())
    place = axis.get_transform().transform
    start, end = place(np.array([low, high]))
    letter, space = (0.024, 0.015) if narrow else (0.013, 0.01)
    kept: dict[float, float] = {}
    for tick in sorted({each for each in ticks if low <= each <= high}, key=_importance):
        at = (float(place(np.array([tick]))[0]) - start) / (end - start)
        needed = (letter * (len(f"{tick:g}") + len(f"{other:g}")) / 2 + space for other in kept)
        gaps = [0.045] * len(kept) if axis.axis_name == "y" else needed
        if all(abs(at - other) >= gap for other, gap in zip(kept.values(), gaps, strict=True)):
            kept[tick] = at
    return sorted(kept)


def _importance(tick: float) -> tuple[bool, bool, float]:
    exponent = math.log10(abs(tick)) if tick else 0.0
    return tick != 0, abs(exponent - round(exponent)) > 1e-9, -abs(tick)
