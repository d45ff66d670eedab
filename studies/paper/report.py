"""The case studies as a page of Markdown and as JSON. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from studies.paper.findings import Finding, Twin
from studies.paper.points import DROPPED, PLAIN, WHITENED
from studies.paper.results import NLL, Found, Results, layers_of
from studies.paper.tests_of_claims import ALPHA
from validate.interval import Interval

SCHEMA = 2
TITLES = {
    "rank": "How far can a rank fall?",
    "tensor": "Which tensors?",
    "count": "How many layers?",
    "position": "Which layer: the first, the last?",
    "spacing": "Neighbours or layers far apart?",
    "budget": "All tensors of few layers, or one tensor of all?",
    "sets": "The paper's ten sets of layers, scaled",
    "accuracy": "Accuracy, the paper's measure",
    "whitening": "Plain beside whitened at equal size",
}
_INTRODUCTION = """\
The paper's case studies (arXiv 2405.06626) on `{model}`: {blocks} blocks of {length} tokens of `{text}`, dense NLL
{nll:.4f} nats per token. Changes are against dense, in nats per token, with paired 95 % bootstrap intervals over
blocks; blocks of one text are alike, so the intervals hold for texts of its kind. Two factors stand for the paper's
three: of a matrix both truncate to the same product. A difference is positive where the claim holds.

Intervals are each for itself. Verdicts are for all claims of a section together: two-sided paired t tests over blocks
or items, taken as independent, with Holm's correction, so that the chance of any wrong verdict in a section is at most
{alpha:g} %. So an interval may leave out 0 where the verdict is undecided.
"""
_ACCURACY = """\
Shares of items answered right have Wilson's 95 % intervals; changes are against dense, paired by item, in percentage
points, and so are the differences of claims.
"""
_NOTES = {
    "tensor": "What the paper says of this choice is not public in numbers; the claims ask whether it matters.",
    "budget": "The first layer costs more than any other, so a comparison that touches it on one side alone mixes two "
    "questions. Claims say which layers are alike.",
}


def to_json(results: Results, found: Sequence[Finding], pairs: Sequence[Twin]) -> dict[str, Any]:
    """Every point, every finding, and every configuration with both kinds of factors."""
    dense = results.dense
    return {
        "schema": SCHEMA,
        "model": dense.model.name,
        "checkpoint": dense.model.sha256,
        "text": None
        if dense.text is None
        else {
            "name": dense.text.source.name,
            "sha256": dense.text.source.sha256,
            "blocks": len(dense.text.tokens),
            "length": dense.text.length,
        },
        "dense_nll": _dense_nll(results),
        "dense_accuracy": {
            name: {"items": results.tasks[name].items, "chance": results.tasks[name].chance, **share.to_json()}
            for name, share in results.accuracy_of_dense().items()
        },
        "correction": {"method": "Holm", "family": "claims of one study on all measures", "alpha": ALPHA},
        "points": [_point(each) for each in results.found],
        "findings": [each.to_json() for each in found],
        "whitening": [
            {
                "config": pair.plain.record.config,
                "params_removed_pct": 100 * pair.plain.removed,
                "plain": pair.plain.change.to_json(),
                "whitened": pair.whitened.change.to_json(),
                "saved": pair.saved.to_json(),
                "p_holm": pair.p_holm,
                "verdict": pair.verdict,
            }
            for pair in pairs
        ],
    }


def to_markdown(results: Results, found: Sequence[Finding], pairs: Sequence[Twin], figures: Mapping[str, str]) -> str:
    """A section per study: its figure, what it says of the paper's insight, its tables.

    Args:
        figures: paths of the figures by study, relative to the page; a study without one has no section.
    """
    text = results.dense.text
    lines = [f"# Case studies on {results.dense.model.name}", ""]
    if text is not None:
        lines += [
            _INTRODUCTION.format(
                model=results.dense.model.name,
                blocks=len(text.tokens),
                length=text.length,
                text=text.source.name,
                nll=_dense_nll(results),
                alpha=100 * ALPHA,
            )
        ]
    lines += [_ACCURACY] if results.tasks else []
    for study, title in TITLES.items():
        if study not in figures:
            continue
        lines += [f"## {title}", "", f"![{title}]({figures[study]})", ""]
        lines += [_NOTES[study], ""] if study in _NOTES else []
        lines += _claims(results, [each for each in found if each.study == study])
        if study == "whitening":
            lines += [*_whitening(results, pairs), ""]
        elif study == "accuracy":
            lines += [*_dense_accuracy(results), ""]
        else:
            lines += [*_points(results.of(study), lambda each: _interval(each.change)), ""]
            for name in results.tasks:
                table = _points(results.of(study), partial(_accuracy, name=name))
                lines += [f"Accuracy on `{name}`, and its change in percentage points:", "", *table, ""]
    return "\n".join(lines).rstrip() + "\n"


def _claims(results: Results, found: Sequence[Finding]) -> list[str]:
    """A row for each claim, with difference and verdict of each measure."""
    if not found:
        return []
    rows: dict[str, list[str]] = {}
    for each in found:
        difference = _interval(each.difference) if each.measure == NLL else _percent(each.difference)
        rows.setdefault(each.claim, []).extend([difference, each.verdict])
    columns = [
        name
        for measure in results.measures
        for name in (("difference" if measure == NLL else f"{measure}, points"), "verdict")
    ]
    return [*_table(["claim", *columns], [[claim, *cells] for claim, cells in rows.items()]), ""]


def _dense_accuracy(results: Results) -> list[str]:
    rows = [
        [
            name,
            task.items,
            _share(results.accuracy_of_dense()[name]),
            "-" if task.chance is None else f"{100 * task.chance:.1f} %",
        ]
        for name, task in results.tasks.items()
    ]
    return _table(["task", "items", "dense", "by chance"], rows)


def _points(found: Sequence[Found], cell: Callable[[Found], str]) -> list[str]:
    """What `cell` makes of plain, whitened and dropped, side by side."""
    rows: dict[tuple[str, str, str], dict[str, Found]] = {}
    for each in found:
        kind, _, suffix = each.point.series.partition(", ")
        shared = each.point.study in ("count", "position", "spacing", "sets")  # dropped layers belong to every rank
        place = str(each.point.x)
        if isinstance(each.point.x, float):
            place = f"{100 * each.point.x:.0f} % of break-even" if each.point.x else "rank 1"
        if each.point.study == "spacing":
            place = f"{each.point.x} apart: {', '.join(map(str, layers_of(each)))}"
        for end in _suffixes(found) if kind == DROPPED and shared else [suffix]:
            rows.setdefault((each.point.panel, place, end), {})[kind] = each
    table = []
    for (panel, place, suffix), kinds in rows.items():
        first = next(iter(kinds.values()))
        names = [name for name in (panel if panel != "all" else "", suffix) if name]
        table.append(
            [
                ", ".join(names) or "-",
                place,
                f"{100 * first.removed:.1f} %",
                *(cell(kinds[kind]) if kind in kinds else "-" for kind in (PLAIN, WHITENED, DROPPED)),
            ]
        )
    return _table(["", "at", "removed", *(f"{kind}" for kind in (PLAIN, WHITENED, DROPPED))], table)


def _suffixes(found: Sequence[Found]) -> list[str]:
    return list(dict.fromkeys(each.point.series.partition(", ")[2] for each in found if each.point.series != DROPPED))


def _whitening(results: Results, pairs: Sequence[Twin]) -> list[str]:
    """How many configurations whitening improves, by size; all of them are one family of tests."""
    bounds = [(0.0, 0.05), (0.05, 0.15), (0.15, 0.3), (0.3, 0.5), (0.5, 1.0)]
    rows = []
    for low, high in bounds:
        some = [pair for pair in pairs if low <= pair.plain.removed < high]
        if some:
            verdicts = [pair.verdict for pair in some]
            mean = results.difference([pair.plain for pair in some], [pair.whitened for pair in some])
            rows.append(
                [
                    f"{100 * low:.0f} to {100 * high:.0f} %",
                    len(some),
                    verdicts.count("holds"),
                    verdicts.count("fails"),
                    verdicts.count("undecided"),
                    _interval(mean),
                ]
            )
    return _table(["removed", "configurations", "better", "worse", "undecided", "NLL saved on average"], rows)


def _point(found: Found) -> dict[str, Any]:
    point, text = found.point, found.record.text
    kl = sum(text.kl) / sum(text.tokens) if text is not None else None
    flips = sum(text.flips) / sum(text.tokens) if text is not None else None
    accuracy = {
        name: {"share": each.share.to_json(), "change": each.change.to_json()} for name, each in found.accuracy.items()
    }
    return {
        "study": point.study,
        "panel": point.panel,
        "series": point.series,
        "x": point.x,
        "id": found.record.id,
        "config": found.record.config,
        "factors": found.record.factors,
        "params_removed_pct": 100 * found.removed,
        "nll_change": found.change.to_json(),
        "kl": kl,
        "flips": flips,
        "accuracy": accuracy,
    }


def _dense_nll(results: Results) -> float:
    text = results.dense.text
    return sum(text.nll) / sum(text.tokens) if text is not None else float("nan")


def _interval(value: Interval) -> str:
    if value.low is None or value.high is None:
        return f"{value.value:+.4f}"
    return f"{value.value:+.4f} [{value.low:+.4f}, {value.high:+.4f}]"


def _accuracy(found: Found, name: str) -> str:
    each = found.accuracy[name]
    return f"{_share(each.share)}; {_percent(each.change)}"


def _share(value: Interval) -> str:
    return f"{100 * value.value:.1f} % [{100 * (value.low or 0):.1f}, {100 * (value.high or 0):.1f}]"


def _percent(value: Interval) -> str:
    if value.low is None or value.high is None:
        return f"{100 * value.value:+.2f}"
    return f"{100 * value.value:+.2f} [{100 * value.low:+.2f}, {100 * value.high:+.2f}]"


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return [*head, *(f"| {' | '.join(map(str, row))} |" for row in rows)]
