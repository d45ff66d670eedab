"""What is left of the predicted frontiers once everything on them is measured. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from costmodel.units import percent
from validate.choose.duels import SIZE, cost, ends, own_axis
from validate.choose.results import Result, Results
from validate.quality.intervals import change

Clear = Literal["neither", "loss", "both"]
"""Which of the differences in cost and loss have to be beyond their intervals for one point to beat another."""


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
        return f"{count} of {self.points} ({percent(count / max(1, self.points), 0)})"


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
        points=len(chosen),
        survived=unbeaten(every, "loss"),
        plain=unbeaten(every, "neither"),
        clear=unbeaten(every, "both"),
        baselines=unbeaten(results.baselines, "loss"),
    )
