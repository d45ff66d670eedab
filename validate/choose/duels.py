"""Configurations found by the search against baselines at equal cost. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from validate.choose.baselines import RULES
from validate.choose.results import Result, Results
from validate.interval import Interval
from validate.quality.intervals import change

OUTCOMES = ("better", "level", "worse", "dense", "same", "none")
"""Of ours against a baseline. Dense: the model as it is stands for ours and is not worse, which takes no search. Same:
the search found the baseline itself. None: nothing of ours costs no more."""
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
        outcome: better or worse where the interval leaves 0 out, else level; or another of OUTCOMES.
    """

    axis: str
    baseline: Result
    ours: Result | None
    difference: Interval | None

    @property
    def outcome(self) -> str:
        if self.ours is None or self.difference is None:
            return "none"
        if self.ours.point.key == self.baseline.point.key:
            return "same"
        low, high = self.difference.low, self.difference.high
        if low is not None and low > 0:
            return "worse"
        if self.ours.is_dense:
            return "dense"
        return "better" if high is not None and high < 0 else "level"

    @property
    def clear(self) -> bool:
        """Whether ours costs no more beyond the intervals of latency too; else the costs are equal within noise."""
        return self.ours is not None and ends(self.ours, self.axis)[1] <= ends(self.baseline, self.axis)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The duels with the baselines of one rule at one kind of equal cost.

    Attributes:
        mean: of the differences of what was found, with an interval over blocks of the text: every duel on the same
            blocks. Duels that dense stands in for, or a baseline against itself, are not in it.
    """

    axis: str
    rule: str
    duels: Sequence[Duel]
    mean: Interval | None

    def count(self, outcome: str, *, clear: bool = False) -> int:
        """Duels that ended so; with `clear` those whose costs differ beyond noise."""
        return sum(duel.outcome == outcome and (duel.clear or not clear) for duel in self.duels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """All duels in one line.

    Attributes:
        worse: duels whose interval says that ours loses more.
        duels: with an opponent.
        unmatched: baselines that nothing of ours costs no more than.
    """

    worse: int
    duels: int
    unmatched: int

    @classmethod
    def of(cls, found: Sequence[Duel]) -> Standing:
        outcomes = [duel.outcome for duel in found]
        return cls(
            worse=outcomes.count("worse"),
            duels=len(outcomes) - outcomes.count("none"),
            unmatched=outcomes.count("none"),
        )

    @property
    def good(self) -> bool:
        """Whether ours is at least as good as every baseline, each of which it has to meet."""
        return self.worse == 0 and self.unmatched == 0

    @property
    def sentence(self) -> str:
        """The verdict, for people."""
        without = f"; {self.unmatched} more without an opponent that costs no more" if self.unmatched else ""
        return (
            f"at least as good as every baseline: {'yes' if self.good else 'no'} "
            f"({self.worse} worse of {self.duels} duels{without})"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "at_least_as_good": self.good,
            "worse": self.worse,
            "duels": self.duels,
            "unmatched": self.unmatched,
            "sentence": self.sentence,
        }


def cost(result: Result, axis: str) -> float:
    """Parameters, or measured latency relative to dense; infinite where it was not measured."""
    if axis == SIZE:
        return float(result.point.params)
    if result.is_dense:
        return 1.0
    timing = result.timings.get(axis)
    return float("inf") if timing is None else timing.ratio


def ends(result: Result, axis: str) -> tuple[float, float]:
    """The 95 % interval of the cost; sizes have none."""
    timing = result.timings.get(axis)
    if axis == SIZE or result.is_dense or timing is None:
        return (cost(result, axis),) * 2
    return timing.ratio_low, timing.ratio_high


def own_axis(result: Result) -> str:
    """The cost for which the search chose a point of its frontier."""
    return axis_of(result.point.label.rpartition(" ")[0])


def axis_of(objective: str) -> str:
    """The cost that an objective of the search is."""
    return SIZE if objective == "params" else objective.partition(".")[0]


def duels(results: Results) -> list[Duel]:
    """Every baseline at equal size and at equal measured latency of each phase.

    The opponent is chosen by what was predicted, not by what was measured: choosing the best measured one would be
    optimistic. It costs no more as measured. Where intervals of latency overlap that may be luck: of many measured
    points those that came out fast by chance pass more limits. Such duels are told apart, see `Duel.clear`.
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
            fought = [
                (duel.ours.verified, duel.baseline.verified)
                for duel in group
                if duel.ours is not None and not duel.ours.is_dense and duel.outcome != "same"
            ]
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
