"""Frontier against baselines at equal cost, what survives measurement, and how optimistic the search was. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from validate.loop.duels import (
    OUTCOMES,
    SIZE,
    Duel,
    Standing,
    Tally,
    cost,
    duels,
    ends,
    own_axis,
    predicted,
    tallies,
)
from validate.loop.results import Result, Results
from validate.quality.intervals import Interval, change, mean
from validate.records import Timing

Clear = Literal["neither", "loss", "both"]
"""Which of the differences in cost and loss have to be beyond their intervals for one point to beat another."""
SCHEMA = 2
"""Version of verdict.json."""
ROUGH = 0.05
"""Median half-width of measured latencies, relative, from which on comparisons at equal latency are in doubt."""
_SURVIVAL = ("points", "survived", "plain", "clear", "baselines")
_SMALL = 0.005
"""Nats: a mean prediction below it is corrected by no factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survival:
    """What is left of the points of the predicted frontiers once everything is measured.

    Attributes:
        points: measured, each at the cost that it was chosen for.
        survived: that nothing measured beats as a duel is lost: at no greater cost as measured, with a loss that is
            less clear of its 95 % interval.
        plain: that no other measured configuration equals or beats in both cost and loss, intervals or not.
        clear: that none beats clear of the intervals of both.
        baselines: that no baseline beats as a duel is lost.
    """

    points: int
    survived: int
    plain: int
    clear: int
    baselines: int

    def share(self, count: int) -> str:
        """A number of the points with its percentage."""
        return f"{count} of {self.points} ({100 * count / max(1, self.points):.0f} %)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimism:
    """How far the search believed too much of the points that it chose.

    Points with dropped layers are left out: what those lose was measured for the search, on the same half of the text,
    and is part of what it predicts.

    Attributes:
        points: of the frontier that were measured.
        left_out: of those with dropped layers.
        search: mean of measured minus predicted NLL on the text that was searched on, over points.
        verify: on the other half.
        factor: sum of the measured changes over that of the predicted ones, on the other half: predicted changes of the
            frontier are multiplied by it for a corrected estimate.
        error, corrected: mean absolute error before, and after correction by the factor of the other points.
    """

    points: int
    left_out: int
    search: Interval
    verify: Interval
    factor: Interval
    error: float
    corrected: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Everything that is concluded from the results.

    Attributes:
        results: what was measured.
        accept: increase of NLL that the choice may have.
        duels, tallies, survival, optimism, choice: see the functions of these names.
    """

    results: Results
    accept: float
    duels: Sequence[Duel]
    tallies: Sequence[Tally]
    survival: Survival
    optimism: Optimism | None
    choice: Result | None

    @classmethod
    def of(cls, results: Results, accept: float) -> Verdict:
        """Judge the results."""
        fought = duels(results)
        return cls(results=results, accept=accept, duels=fought, tallies=tallies(fought), survival=survival(results),
                   optimism=optimism(results), choice=choice(results, accept))  # fmt: skip

    @property
    def axes(self) -> list[str]:
        """Phases, then size."""
        return [*self.results.phases, SIZE]

    @property
    def doubts(self) -> list[str]:
        """What keeps the comparisons from meaning much, a sentence each."""
        widths = {phase: self.results.latency_width(phase) for phase in self.results.phases}
        return [
            f"{phase.capitalize()} latency was measured too roughly to compare at: intervals reach {100 * width:.0f} % "
            "to each side in the median, so that what counts as no slower below is chance in part."
            for phase, width in widths.items() if width is not None and width > ROUGH
        ]  # fmt: skip

    def choice_timing(self, phase: str) -> tuple[Timing | None, bool]:
        """The latency of the choice beside dense, and whether it was timed again after it had been chosen.

        What it was chosen by is a selected minimum, faster than what it would be found to be on another day.
        """
        if self.choice is None:
            return None, False
        again = self.results.again.get(self.choice.point.key, {}).get(phase)
        return (self.choice.timings.get(phase), False) if again is None else (again, True)

    @property
    def standing(self) -> Standing:
        """All duels in one line."""
        return Standing.of(self.duels)

    def counts(self, axis: str, *, clear: bool = False) -> dict[str, int]:
        """Outcomes of the duels at one equal cost; with `clear` those whose costs differ beyond noise."""
        found = [duel.outcome for duel in self.duels if duel.axis == axis and (duel.clear or not clear)]
        return {outcome: found.count(outcome) for outcome in OUTCOMES}

    def to_json(self) -> dict[str, Any]:
        """For other programs."""
        optimism = self.optimism
        return {
            "schema": SCHEMA, "standing": self.standing.to_json(), "accept": self.accept,
            "choice": None if self.choice is None else self.choice.point.config,
            "choice_nll_change": None if self.choice is None else self.choice.change.to_json(),
            "choice_latency": {
                phase: {"ratio": timing.ratio, "low": timing.ratio_low, "high": timing.ratio_high, "again": again}
                for phase in self.results.phases
                for timing, again in [self.choice_timing(phase)] if timing is not None
            },
            "tallies": [
                {"axis": each.axis, "rule": each.rule, **{name: each.count(name) for name in OUTCOMES},
                 "clear": {name: each.count(name, clear=True) for name in ("better", "level", "worse")},
                 "difference": None if each.mean is None else each.mean.to_json()} for each in self.tallies
            ],
            "duels": [
                {"axis": duel.axis, "rule": duel.baseline.point.rule, "label": duel.baseline.point.label,
                 "outcome": duel.outcome, "clear": duel.clear, "baseline": duel.baseline.point.config,
                 "ours": None if duel.ours is None else duel.ours.point.config,
                 "difference": None if duel.difference is None else duel.difference.to_json()} for duel in self.duels
            ],
            "survival": {name: getattr(self.survival, name) for name in _SURVIVAL},
            "optimism": None if optimism is None else {
                "points": optimism.points, "left_out": optimism.left_out,
                "search": optimism.search.to_json(), "verify": optimism.verify.to_json(),
                "factor": optimism.factor.to_json(), "error": optimism.error, "corrected": optimism.corrected,
            },
        }  # fmt: skip


def dominators(result: Result, others: Sequence[Result], axis: str, clear: Clear) -> list[Result]:
    """Measured points that cost no more and lose no more, one of the two less.

    Args:
        clear: which of the differences have to be clear of their 95 % intervals (sizes have none).
    """
    found = []
    for other in others:
        if other.point.key == result.point.key:
            continue
        mine, theirs = cost(result, axis), cost(other, axis)
        if clear == "neither":
            pair = other.change.value - result.change.value
            if theirs <= mine and pair <= 0 and (theirs < mine or pair < 0):
                found.append(other)
            continue
        cheaper = theirs <= mine if axis == SIZE or clear == "loss" else ends(other, axis)[1] < ends(result, axis)[0]
        if cheaper and other.change.value < result.change.value:  # intervals take their time
            difference = change(other.verified.nll, result.verified.nll, result.verified.tokens)
            if difference.high is not None and difference.high < 0:
                found.append(other)
    return found


def survival(results: Results) -> Survival:
    """Points of the predicted frontiers that are on the measured one."""
    every = [*results.points, results.dense]
    chosen = [(each, own_axis(each)) for each in results.frontier]

    def unbeaten(others: Sequence[Result], clear: Clear) -> int:
        return sum(not dominators(each, others, axis, clear) for each, axis in chosen)

    return Survival(
        points=len(chosen), survived=unbeaten(every, "loss"), plain=unbeaten(every, "neither"),
        clear=unbeaten(every, "both"), baselines=unbeaten(results.baselines, "loss"),
    )  # fmt: skip


def optimism(results: Results) -> Optimism | None:
    """Measured against predicted over the selected points of the frontiers, without dropped layers; None for none."""
    every = {each.point.key: each for each in results.frontier if each.point.quality is not None}
    chosen = {key: each for key, each in every.items() if not each.point.drops}
    if not chosen:
        return None
    guesses = [predicted(each) for each in chosen.values()]
    searched, verified = ([getattr(each, name).value for each in chosen.values()]
                          for name in ("change_searched", "change"))  # fmt: skip
    factor, errors = Interval(1.0, None, None), np.abs(np.subtract(verified, guesses))
    corrected = errors
    if np.mean(guesses) >= _SMALL and len(guesses) > 1:
        factor = change(verified, [0.0] * len(verified), guesses)
        others = [(sum(verified) - mine) / max(sum(guesses) - guess, _SMALL)
                  for mine, guess in zip(verified, guesses, strict=True)]  # fmt: skip
        corrected = np.abs(np.subtract(verified, np.multiply(guesses, others)))
    return Optimism(
        points=len(chosen), left_out=len(every) - len(chosen),
        search=_mean_difference(searched, guesses), verify=_mean_difference(verified, guesses),
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


def _upper(interval: Interval) -> float:
    return interval.value if interval.high is None else interval.high
