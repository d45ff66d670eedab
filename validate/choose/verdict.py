"""Frontier against baselines at equal cost, what survives measurement, and how optimistic the search was. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from costmodel.units import percent
from validate.choose.duels import OUTCOMES, SIZE, Duel, Standing, Tally, cost, duels, tallies
from validate.choose.optimism import Optimism, optimism
from validate.choose.results import Result, Results
from validate.choose.survival import Survival, survival
from validate.interval import Interval
from validate.speed.records import Timing

SCHEMA = 2
"""Version of verdict.json."""
ROUGH = 0.05
"""Median half-width of measured latencies, relative, from which on comparisons at equal latency are in doubt."""


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
        return cls(
            results=results,
            accept=accept,
            duels=fought,
            tallies=tallies(fought),
            survival=survival(results),
            optimism=optimism(results),
            choice=choice(results, accept),
        )

    @property
    def axes(self) -> list[str]:
        """Phases, then size."""
        return [*self.results.phases, SIZE]

    @property
    def doubts(self) -> list[str]:
        """What keeps the comparisons from meaning much, a sentence each."""
        widths = {phase: self.results.latency_width(phase) for phase in self.results.phases}
        return [
            f"{phase.capitalize()} latency was measured too roughly to compare at: intervals reach {percent(width, 0)} "
            "to each side in the median, so that what counts as no slower below is chance in part."
            for phase, width in widths.items()
            if width is not None and width > ROUGH
        ]

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
            "schema": SCHEMA,
            "standing": self.standing.to_json(),
            "accept": self.accept,
            "choice": None if self.choice is None else self.choice.point.config,
            "choice_nll_change": None if self.choice is None else self.choice.change.to_json(),
            "choice_latency": {
                phase: {"ratio": timing.ratio, "low": timing.ratio_low, "high": timing.ratio_high, "again": again}
                for phase in self.results.phases
                for timing, again in [self.choice_timing(phase)]
                if timing is not None
            },
            "tallies": [
                {
                    "axis": each.axis,
                    "rule": each.rule,
                    **{name: each.count(name) for name in OUTCOMES},
                    "clear": {name: each.count(name, clear=True) for name in ("better", "level", "worse")},
                    "difference": None if each.mean is None else each.mean.to_json(),
                }
                for each in self.tallies
            ],
            "duels": [
                {
                    "axis": duel.axis,
                    "rule": duel.baseline.point.rule,
                    "label": duel.baseline.point.label,
                    "outcome": duel.outcome,
                    "clear": duel.clear,
                    "baseline": duel.baseline.point.config,
                    "ours": None if duel.ours is None else duel.ours.point.config,
                    "difference": None if duel.difference is None else duel.difference.to_json(),
                }
                for duel in self.duels
            ],
            "survival": asdict(self.survival),
            "optimism": None
            if optimism is None
            else {
                "points": optimism.points,
                "left_out": optimism.left_out,
                "search": optimism.search.to_json(),
                "verify": optimism.verify.to_json(),
                "factor": optimism.factor.to_json(),
                "error": optimism.error,
                "corrected": optimism.corrected,
                "left": optimism.left.to_json(),
            },
        }


def choice(results: Results, accept: float) -> Result | None:
    """The fastest of all measured configurations whose increase of NLL is acceptable; by size among equals.

    It is chosen by the half of the text that was searched on: the upper end of the interval there is at most `accept`.
    The other half then says without bias what it costs. None where only the dense model will do.
    """
    axis = results.phases[-1]
    fit = [each for each in results.points if _upper(each.change_searched) <= accept and cost(each, axis) < 1]
    return min(fit, key=lambda each: (cost(each, axis), each.point.params), default=None)


def _upper(interval: Interval) -> float:
    return interval.value if interval.high is None else interval.high
