"""Times two callables against each other: warmed up by evidence, interleaved, long enough. Knows no models."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from costmodel.forward.workload import Runtime
from validate.devices.conditions import disturbances
from validate.devices.device import Device, Work
from validate.speed import statistics
from validate.speed.records import Series, Timing

MIN_PAIRS = 24
_FEWEST = 6
"""Pairs measured whatever the budget: fewer give no interval."""
MAX_PAIRS = 4000
_GROWTH = 1.25
"""The interval is looked at each time the series has grown by this factor, so that chance does not end it early."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingPlan:
    """When to stop.

    Attributes:
        precision: half-width of the ratio's 95 % interval, as a fraction, that ends a measurement.
        budget_s: seconds that end it otherwise, warm-up included.
    """

    precision: float = 0.02
    budget_s: float = 5.0
    min_pairs: int = MIN_PAIRS
    max_pairs: int = MAX_PAIRS


def compare(
    device: Device,
    candidates: Sequence[Work],
    references: Sequence[Work],
    plan: TimingPlan,
    runtime: Runtime,
    clock: Callable[[], float] = time.monotonic,
) -> Timing:
    """Time a candidate and a reference in strict alternation: A B A B ...

    Args:
        candidates, references: the same work over several sets of weights, which take turns: as many as caches need to
            stay cold, and at least three where another place in memory changes the time. With fewer the interval is
            widened by what the device says of that.
        plan: precision and budget.
        runtime: how the device runs them.
        clock: seconds, for the budget.
    """
    start, before = clock(), dict(device.conditions())
    turns = max(len(candidates), len(references))
    copies = min(len(candidates), len(references))
    told_apart = copies == turns and copies >= statistics.FEWEST_COPIES
    turn = 0

    def pairs(count: int) -> tuple[list[float], list[float]]:
        nonlocal turn
        works: list[Work] = []
        for _ in range(count):
            works += [candidates[turn % len(candidates)], references[turn % len(references)]]
            turn += 1
        seconds = device.time(works, runtime)
        return seconds[::2], seconds[1::2]

    warm, settled = _warm_up(pairs, start + plan.budget_s / 4, turns, clock)
    per_pair = (clock() - start) / warm
    measured_a, measured_b = pairs(
        max(_FEWEST, min(plan.min_pairs, int((plan.budget_s - (clock() - start)) / per_pair)))
    )
    while True:
        ratio, low, high = statistics.ratio_interval(measured_a, measured_b, copies if told_apart else 1)
        precise = math.isfinite(high) and (high - low) / 2 / ratio <= plan.precision
        used = clock() - start
        if precise or used >= plan.budget_s or len(measured_a) >= plan.max_pairs:
            break
        affordable = (plan.budget_s - used) / max(1e-9, statistics.median(measured_a) + statistics.median(measured_b))
        count = min(math.ceil(len(measured_a) * (_GROWTH - 1)), math.ceil(affordable))
        more_a, more_b = pairs(max(1, count))
        measured_a += more_a
        measured_b += more_b
    if not told_apart:
        low, high = statistics.widened(ratio, low, high, device.placement)
    after = dict(device.conditions())
    return Timing(
        candidate=_series(measured_a),
        dense=_series(measured_b),
        ratio=ratio,
        ratio_low=low,
        ratio_high=high,
        warmup_pairs=warm,
        settled=settled,
        precise=precise,
        copies=turns,
        disturbed=disturbances(before, after),
        conditions={"before": before, "after": after},
    )


def _warm_up(
    pairs: Callable[[int], tuple[list[float], list[float]]], deadline: float, copies: int, clock: Callable[[], float]
) -> tuple[int, bool]:
    """Run pairs until the last few are no faster than the few before them by more than their own spread.

    Returns:
        The number of pairs run, and whether they settled before the deadline.
    """
    window = max(3, math.ceil(copies / 2))  # two windows run every copy
    seconds = [a + b for a, b in zip(*pairs(2 * window), strict=True)]
    while True:
        earlier, later = seconds[-2 * window : -window], seconds[-window:]
        spread = max(statistics.iqr(earlier + later), 0.01 * statistics.median(later))
        if statistics.median(earlier) - statistics.median(later) <= spread:
            return len(seconds), True
        if clock() >= deadline:
            return len(seconds), False
        seconds += [a + b for a, b in zip(*pairs(window), strict=True)]


def _series(seconds: list[float]) -> Series:
    rounded = [round(value, 9) for value in seconds]
    return Series(seconds=rounded, median_s=statistics.median(rounded), iqr_s=statistics.iqr(rounded))
