"""The paper's insights put to the test, and two that it leaves open: dropping layers, and whitening. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from validate.quality.intervals import Interval
from validate.quality.studies import DROPPED, FEW, PLAIN, WHITENED
from validate.quality.study_results import Results, layers_of

KINDS = (PLAIN, WHITENED)
FIRST = {(False, False): "neither", (True, True): "both", (False, True): "the second alone"}
"""Where a comparison of budgets touches the first layer, which costs more than any other; the last kind confounds the
two questions, and is the paper's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One statement that the measurements decide.

    Attributes:
        study: that it belongs to.
        claim: what is tested; the difference is positive where it holds.
        difference: in nats per token, with its paired interval.
        verdict: holds, fails, or undecided where the interval has both signs.
    """

    study: str
    claim: str
    difference: Interval

    @property
    def verdict(self) -> str:
        if self.difference.low is None or self.difference.high is None:
            return "undecided"
        return "holds" if self.difference.low > 0 else "fails" if self.difference.high < 0 else "undecided"

    def to_json(self) -> dict[str, Any]:
        return {"study": self.study, "claim": self.claim, "difference": self.difference.to_json(),
                "verdict": self.verdict}  # fmt: skip


def findings(results: Results) -> list[Finding]:
    """Every claim that the studies decide, in the order of the studies."""
    return [*_rank(results), *_count(results), *_position(results), *_spacing(results), *_budget(results)]


def _rank(results: Results) -> Iterator[Finding]:
    for kind in KINDS:
        for panel in dict.fromkeys(each.point.panel for each in results.of("rank")):
            at = {each.point.x: each for each in results.of("rank", panel, kind)}
            yield Finding(study="rank", claim=f"{kind}: in {panel}, half of break-even costs less than rank 1",
                          difference=results.difference([at[0.0]], [at[0.5]]))  # fmt: skip


def _count(results: Results) -> Iterator[Finding]:
    for count in dict.fromkeys(each.point.x for each in results.of("count")):
        at = {each.point.series: each for each in results.of("count") if each.point.x == count}
        for kind in KINDS if DROPPED in at else ():
            yield Finding(
                study="count", claim=f"{kind}: rank 1 in {count} spread layers costs less than dropping them",
                difference=results.difference([at[DROPPED]], [at[f"{kind}, rank 1"]]),
            )  # fmt: skip


def _position(results: Results) -> Iterator[Finding]:
    layers = results.dense.model.num_layers
    for kind in (*KINDS, DROPPED):
        singles = results.singles(kind)
        middle = [singles[layer] for layer in singles if 0 < layer < layers - 1]
        for name, layer in (("first", 0), ("last", layers - 1)):
            if layer in singles and middle:
                yield Finding(study="position", claim=f"{kind}: the {name} layer costs more than the middle on average",
                              difference=results.difference([singles[layer]], middle))  # fmt: skip


def _spacing(results: Results) -> Iterator[Finding]:
    third = results.dense.model.num_layers / 3
    for kind in (*KINDS, DROPPED):
        pairs, singles = results.of("spacing", series=kind), results.singles(kind)
        inner = [pair for pair in pairs if 0 not in layers_of(pair)]
        nearest = min(float(pair.point.x) for pair in pairs)
        for what, some in (("all pairs", pairs), ("without the first layer", inner)):
            near = [pair for pair in some if pair.point.x == nearest]
            far = [pair for pair in some if float(pair.point.x) >= third]
            if near and far:
                yield Finding(
                    study="spacing", difference=results.interaction(near, singles, far),
                    claim=f"{kind}: neighbours cost more beyond their sum than layers far apart ({what})",
                )  # fmt: skip


def _budget(results: Results) -> Iterator[Finding]:
    """Few layers against all: alike in whether the first layer is touched, then as the paper puts it."""
    for panel in dict.fromkeys(each.point.panel for each in results.of("budget")):
        for kind in KINDS:
            points = results.of("budget", panel, kind)
            for few in (each for each in points if str(each.point.x).startswith(FEW)):
                for other in (each for each in points if not str(each.point.x).startswith(FEW)):
                    touched = 0 in layers_of(few), 0 in layers_of(other)
                    if touched in FIRST:
                        yield Finding(
                            study="budget", difference=results.difference([other], [few]),
                            claim=f"{kind}, {panel}: {few.point.x} costs less than {other.point.x} "
                                  f"(the first layer in {FIRST[touched]})",
                        )  # fmt: skip
