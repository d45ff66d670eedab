"""Axes that every figure of the package shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def bars(values: Sequence[Any]) -> list[list[float]]:
    """Lengths of error bars below and above."""
    return [
        [max(0.0, each.value - (each.value if each.low is None else each.low)) for each in values],
        [max(0.0, (each.value if each.high is None else each.high) - each.value) for each in values],
    ]
