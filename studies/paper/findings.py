"""The paper's insights put to the test, and what it leaves open: tensors, dropping layers, whitening. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from studies.paper.points import DROPPED, FEW, PLAIN, WHITENED
from studies.paper.results import NLL, Found, Results, layers_of
from studies.paper.tests_of_claims import Difference, holm, verdict

KINDS = (PLAIN, WHITENED)
FIRST = {(False, False): "neither", (True, True): "both", (False, True): "the second alone"}
"""Where a comparison of budgets touches the first layer, which costs more than any other; the last kind confounds the
two questions, and is the paper's."""

BY_SIZE = "per % of parameters removed"

Claim = tuple[str, Callable[[str], Difference]]
"""What is said, and the difference of a measure that is positive where it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One statement that the measurements decide.

    Attributes:
        study: that it belongs to.
        claim: what is tested; the difference is positive where it holds.
        measure: nll, or a task, whose cost is the share of items answered wrong.
        difference: of costs, in nats per token or as a share, with its own paired interval and p value.
        p_holm: the p value, adjusted for all claims of the study on all measures.
    """

    study: str
    claim: str
    measure: str
    difference: Difference
    p_holm: float

    @property
    def verdict(self) -> str:
        """holds, fails or undecided; see `study_tests.verdict`."""
        return verdict(self.difference, self.p_holm)

    def line(self) -> str:
        """Verdict, claim and difference in one line of text."""
        value = self.difference.value
        end = f"{value:+.4f} nats per token" if self.measure == NLL else f"{100 * value:+.2f} points of {self.measure}"
        return f"{self.verdict:9}  {self.claim}: {end}"

    def to_json(self) -> dict[str, Any]:
        return {
            "study": self.study,
            "claim": self.claim,
            "measure": self.measure,
            "difference": self.difference.to_json(),
            "p_holm": self.p_holm,
            "verdict": self.verdict,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Twin:
    """One configuration with plain and with whitened factors.

    Attributes:
        saved: NLL of plain minus that of whitened factors.
        p_holm: adjusted for all configurations.
    """

    plain: Found
    whitened: Found
    saved: Difference
    p_holm: float

    @property
    def verdict(self) -> str:
        """holds where whitening is better, fails where it is worse."""
        return verdict(self.saved, self.p_holm)


def findings(results: Results) -> list[Finding]:
    """Every claim that the studies decide, on every measure, in the order of the studies."""
    makers = {
        "rank": _rank,
        "tensor": _tensor,
        "count": _count,
        "position": _position,
        "spacing": _spacing,
        "budget": _budget,
        "sets": _sets,
    }
    found: list[Finding] = []
    for study, make in makers.items():
        tested = [
            (claim, measure, compare(measure)) for claim, compare in make(results) for measure in results.measures
        ]
        adjusted = holm([difference.p for *_, difference in tested])
        found += [
            Finding(study=study, claim=claim, measure=measure, difference=difference, p_holm=p)
            for (claim, measure, difference), p in zip(tested, adjusted, strict=True)
        ]
    return found


def twins(results: Results) -> list[Twin]:
    """Every configuration that was measured with both kinds of factors, tested as one family."""
    saved = [results.difference([plain], [whitened]) for plain, whitened in results.twins()]
    adjusted = holm([each.p for each in saved])
    return [
        Twin(plain=plain, whitened=whitened, saved=difference, p_holm=p)
        for (plain, whitened), difference, p in zip(results.twins(), saved, adjusted, strict=True)
    ]


def _rank(results: Results) -> Iterator[Claim]:
    for kind in KINDS:
        for panel in dict.fromkeys(each.point.panel for each in results.of("rank")):
            at = {each.point.x: each for each in results.of("rank", panel, kind)}
            claim = f"{kind}: in {panel}, half of break-even costs less than rank 1"
            yield claim, partial(results.difference, [at[0.0]], [at[0.5]])


def _tensor(results: Results) -> Iterator[Claim]:
    """Each tensor against the others, and attention against the MLP; by size, since tensors differ in it."""
    for kind in KINDS:
        for panel in dict.fromkeys(each.point.panel for each in results.of("tensor")):
            at = {str(each.point.x): each for each in results.of("tensor", panel, kind)}
            groups = [name for name in at if name.endswith(" group")]
            single = [name for name in at if name not in groups]
            for name in single:
                others = [at[other] for other in single if other != name]
                claim = f"{kind}, {panel}: {name} costs less than the other tensors on average, {BY_SIZE}"
                yield claim, partial(results.by_size, others, [at[name]])
            attention, mlp = (at[name] for name in groups)
            claim = f"{kind}, {panel}: the attention group costs less than the MLP group, {BY_SIZE}"
            yield claim, partial(results.by_size, [mlp], [attention])


def _count(results: Results) -> Iterator[Claim]:
    for count in dict.fromkeys(each.point.x for each in results.of("count")):
        at = {each.point.series: each for each in results.of("count") if each.point.x == count}
        for kind in KINDS if DROPPED in at else ():
            claim = f"{kind}: rank 1 in {count} spread layers costs less than dropping them"
            yield claim, partial(results.difference, [at[DROPPED]], [at[f"{kind}, rank 1"]])


def _position(results: Results) -> Iterator[Claim]:
    layers = results.dense.model.num_layers
    for kind in (*KINDS, DROPPED):
        singles = results.singles(kind)
        middle = [singles[layer] for layer in singles if 0 < layer < layers - 1]
        for name, layer in (("first", 0), ("last", layers - 1)):
            if layer in singles and middle:
                claim = f"{kind}: the {name} layer costs more than the middle on average"
                yield claim, partial(results.difference, [singles[layer]], middle)


def _spacing(results: Results) -> Iterator[Claim]:
    third = results.dense.model.num_layers / 3
    for kind in (*KINDS, DROPPED):
        pairs, singles = results.of("spacing", series=kind), results.singles(kind)
        inner = [pair for pair in pairs if 0 not in layers_of(pair)]
        nearest = min((float(pair.point.x) for pair in pairs), default=0.0)
        for what, some in (("all pairs", pairs), ("without the first layer", inner)):
            near = [pair for pair in some if pair.point.x == nearest]
            far = [pair for pair in some if float(pair.point.x) >= third]
            if near and far:
                claim = f"{kind}: neighbours cost more beyond their sum than layers far apart ({what})"
                yield claim, partial(results.interaction, near, singles, far)


def _budget(results: Results) -> Iterator[Claim]:
    """Few layers against all: alike in whether the first layer is touched, then as the paper puts it."""
    for panel in dict.fromkeys(each.point.panel for each in results.of("budget")):
        for kind in KINDS:
            points = results.of("budget", panel, kind)
            for few in (each for each in points if str(each.point.x).startswith(FEW)):
                for other in (each for each in points if not str(each.point.x).startswith(FEW)):
                    touched = 0 in layers_of(few), 0 in layers_of(other)
                    if touched in FIRST:
                        claim = f"{kind}, {panel}: {few.point.x} costs less than {other.point.x}"
                        claim += f" (the first layer in {FIRST[touched]})"
                        yield claim, partial(results.difference, [other], [few])


def _sets(results: Results) -> Iterator[Claim]:
    dropped = {each.point.x: each for each in results.of("sets", series=DROPPED)}
    for kind in KINDS:
        for each in results.of("sets", series=kind):
            if each.point.x in dropped:
                claim = f"{kind}: rank 1 in layers {each.point.x} costs less than dropping them"
                yield claim, partial(results.difference, [dropped[each.point.x]], [each])
