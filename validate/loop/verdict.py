"""Frontier against baselines at equal cost, what survives measurement, and how optimistic the search was. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from validate.loop.baselines import RULES
from validate.loop.results import Result, Results
from validate.quality.intervals import Interval, change, mean

SIZE = "size"
"""The cost beside the phases' latencies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """A baseline and the point of ours that stands against it.

    Attributes:
        axis: size, or the phase whose measured latency is equal or less.
        baseline: what people do today.
        ours: of the points that cost no more as measured, the one that is best as predicted; None where none is.
        difference: NLL of ours minus that of the baseline, paired by block; below 0 ours is better.
        outcome: better or worse where the interval leaves 0 out, else level; or none.
    """

    axis: str
    baseline: Result
    ours: Result | None
    difference: Interval | None

    @property
    def outcome(self) -> str:
        if self.difference is None:
            return "none"
        low, high = self.difference.low, self.difference.high
        if high is not None and high < 0:
            return "better"
        return "worse" if low is not None and low > 0 else "level"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The duels with the baselines of one rule at one kind of equal cost.

    Attributes:
        mean: of the differences, with an interval over blocks of the text: every duel on the same blocks.
    """

    axis: str
    rule: str
    duels: Sequence[Duel]
    mean: Interval | None

    def count(self, outcome: str) -> int:
        return sum(duel.outcome == outcome for duel in self.duels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimism:
    """How far the search believed too much of the points that it chose.

    Attributes:
        points: of the frontier that were measured.
        search: mean of measured minus predicted NLL on the text that was searched on, over points.
        verify: on the other half.
        factor: sum of the measured changes over that of the predicted ones, on the other half: predicted changes of the
            frontier are multiplied by it for a corrected estimate.
        error, corrected: mean absolute error before, and after correction by the factor of the other points.
    """

    points: int
    search: Interval
    verify: Interval
    factor: Interval
    error: float
    corrected: float


def cost(result: Result, axis: str) -> float:
    """Parameters, or measured latency relative to dense; infinite where it was not measured."""
    if axis == SIZE:
        return float(result.point.params)
    if result.point.rule == "dense":
        return 1.0
    timing = result.timings.get(axis)
    return float("inf") if timing is None else timing.ratio


def duels(results: Results) -> list[Duel]:
    """Every baseline at equal size and at equal measured latency of each phase.

    The opponent is chosen by what was predicted, not by what was measured: choosing the best measured one would be
    optimistic. It never costs more, so that equal cost is to the baseline's favour.
    """
    found = []
    for axis in (SIZE, *results.phases):
        for baseline in results.baselines:
            limit = cost(baseline, axis)
            options = [each for each in results.ours if cost(each, axis) <= limit < float("inf")]
            ours = min(options, key=_predicted, default=None)
            difference = None
            if ours is not None:
                difference = change(ours.verified.nll, baseline.verified.nll, ours.verified.tokens)
            found.append(Duel(axis=axis, baseline=baseline, ours=ours, difference=difference))
    return found


def tallies(found: Sequence[Duel]) -> list[Tally]:
    """Duels by axis and rule."""
    tallied = []
    for axis in dict.fromkeys(duel.axis for duel in found):
        for rule in RULES:
            group = [duel for duel in found if duel.axis == axis and duel.baseline.point.rule == rule]
            fought = [(duel.ours.verified, duel.baseline.verified) for duel in group if duel.ours is not None]
            overall = None
            if fought:
                mine, theirs = (np.mean([pair[side].nll for pair in fought], axis=0) for side in (0, 1))
                overall = change(list(mine), list(theirs), fought[0][0].tokens)
            if group:
                tallied.append(Tally(axis=axis, rule=rule, duels=group, mean=overall))
    return tallied


def dominators(result: Result, others: Sequence[Result], axis: str, *, clear: bool) -> list[Result]:
    """Measured points that cost no more and lose no more, one of the two less.

    Args:
        clear: only where both differences are clear of their 95 % intervals (sizes have none).
    """
    found = []
    for other in others:
        if other.point.key == result.point.key:
            continue
        mine, theirs = cost(result, axis), cost(other, axis)
        if not clear:
            pair = other.change.value - result.change.value
            if theirs <= mine and pair <= 0 and (theirs < mine or pair < 0):
                found.append(other)
            continue
        difference = change(other.verified.nll, result.verified.nll, result.verified.tokens)
        cheaper = theirs <= mine if axis == SIZE else _ends(other, axis)[1] < _ends(result, axis)[0]
        if cheaper and difference.high is not None and difference.high < 0:
            found.append(other)
    return found


def optimism(results: Results) -> Optimism | None:
    """Measured against predicted over the selected points of the frontier; None where there is none."""
    chosen = {each.point.key: each for each in results.frontier if each.point.quality is not None}
    if not chosen:
        return None
    predicted = [_predicted(each) for each in chosen.values()]
    searched, verified = ([getattr(each, name).value for each in chosen.values()]
                          for name in ("change_searched", "change"))  # fmt: skip
    factor = change(verified, [0.0] * len(verified), predicted) if sum(predicted) > 0 else Interval(1.0, None, None)  # type: ignore[arg-type]
    total, guess = sum(verified), sum(predicted)
    left = [guess - each for each in predicted]
    factors = [(total - mine) / rest if rest > 0 else 1.0 for mine, rest in zip(verified, left, strict=True)]
    errors = [abs(mine - each) for mine, each in zip(verified, predicted, strict=True)]
    corrected = [abs(mine - each * scale) for mine, each, scale in zip(verified, predicted, factors, strict=True)]
    return Optimism(
        points=len(chosen), search=_mean_difference(searched, predicted), verify=_mean_difference(verified, predicted),
        factor=factor, error=float(np.mean(errors)), corrected=float(np.mean(corrected)),
    )  # fmt: skip


def choice(results: Results, accept: float) -> Result | None:
    """The fastest of all measured configurations whose increase of NLL is acceptable; by size among equals.

    It is chosen by the half of the text that was searched on: the upper end of the interval there is at most `accept`.
    The other half then says without bias what it costs. None where only the dense model will do.
    """
    axis = results.phases[-1]
    fit = [each for each in results.points if _upper(each.change_searched) <= accept and cost(each, axis) < 1]
    return min(fit, key=lambda each: (cost(each, axis), each.point.params), default=None)


def _mean_difference(measured: Sequence[float], predicted: Sequence[float]) -> Interval:
    return mean([mine - guess for mine, guess in zip(measured, predicted, strict=True)])


def _ends(result: Result, axis: str) -> tuple[float, float]:
    timing = result.timings.get(axis)
    if result.point.rule == "dense":
        return 1.0, 1.0
    return (float("inf"),) * 2 if timing is None else (timing.ratio_low, timing.ratio_high)


def _upper(interval: Interval) -> float:
    return interval.value if interval.high is None else interval.high


def _predicted(result: Result) -> float:
    return float("inf") if result.point.quality is None else result.point.quality
