"""Draws in which every level comes as often as every other."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

BLOCK = 20
"""Samples over which every stratum is balanced; a longer plan starts with the same samples as a shorter one."""


def balanced(rng: random.Random, levels: Sequence[T], count: int) -> list[T]:
    """`count` entries in random order, each level as often as every other, give or take one."""
    order = list(levels)
    rng.shuffle(order)
    entries = [order[index % len(order)] for index in range(count)]
    rng.shuffle(entries)
    return entries


def layer_counts(layers: int) -> list[int]:
    """Numbers of layers to touch: one, a quarter, half, and all of them twice as often."""
    return [1, max(1, layers // 4), max(1, layers // 2), layers, layers]
