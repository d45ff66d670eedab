"""Configurations found by the search against baselines at equal cost. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from validate.loop.baselines import RULES
from validate.loop.results import Result, Results
from validate.quality.intervals import Interval, change

OUTCOMES = ("better", "level", "worse", "none")
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


def cost(result: Result, axis: str) -> float:
    """Parameters, or measured latency relative to dense; infinite where it was not measured."""
    if axis == SIZE:
        return float(result.point.params)
    if result.point.rule == "dense":
        return 1.0
    timing = result.timings.get(axis)
    return float("inf") if timing is None else timing.ratio


def own_axis(result: Result) -> str:
    """The cost for which the search chose a point of its frontier."""
    objective = result.point.label.rpartition(" ")[0]
    return SIZE if objective == "params" else objective.partition(".")[0]


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
            ours = min(options, key=predicted, default=None)
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


def predicted(result: Result) -> float:
    """Predicted increase of NLL, infinite where there is none."""
    return float("inf") if result.point.quality is None else result.point.quality
