"""The case studies as a page of Markdown and as JSON. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from validate.quality.intervals import Interval
from validate.quality.studies import DROPPED, PLAIN, WHITENED
from validate.quality.study_findings import findings
from validate.quality.study_results import Found, Results, layers_of

SCHEMA = 1
TITLES = {
    "rank": "How far can a rank fall?", "tensor": "Which tensors?", "count": "How many layers?",
    "position": "Which layer: the first, the last?", "spacing": "Neighbours or layers far apart?",
    "budget": "All tensors of few layers, or one tensor of all?", "whitening": "Plain beside whitened at equal size",
}  # fmt: skip
_INTRODUCTION = """\
The paper's case studies (arXiv 2405.06626) on `{model}`: {blocks} blocks of {length} tokens of `{text}`, dense NLL
{nll:.4f} nats per token. Changes are against dense, in nats per token, with paired 95 % bootstrap intervals over
blocks; blocks of one text are alike, so the intervals hold for texts of its kind. Two factors stand for the paper's
three: of a matrix both truncate to the same product. A difference is positive where the claim holds.
"""


def to_json(results: Results) -> dict[str, Any]:
    """Every point, every finding, and every configuration with both kinds of factors."""
    dense = results.dense
    return {
        "schema": SCHEMA, "model": dense.model.name, "checkpoint": dense.model.sha256,
        "text": None if dense.text is None else {"name": dense.text.source.name, "sha256": dense.text.source.sha256,
                                                 "blocks": len(dense.text.tokens), "length": dense.text.length},
        "dense_nll": _dense_nll(results),
        "points": [_point(each) for each in results.found],
        "findings": [each.to_json() for each in findings(results)],
        "whitening": [{"config": plain.record.config, "params_removed_pct": 100 * plain.removed,
                       "plain": plain.change.to_json(), "whitened": whitened.change.to_json(),
                       "saved": results.difference([plain], [whitened]).to_json()}
                      for plain, whitened in results.twins()],
    }  # fmt: skip


def to_markdown(results: Results, figures: Mapping[str, str]) -> str:
    """A section per study: its figure, what it says of the paper's insight, its table.

    Args:
        figures: paths of the figures by study, relative to the page.
    """
    text = results.dense.text
    lines = [f"# Case studies on {results.dense.model.name}", ""]
    if text is not None:
        lines += [_INTRODUCTION.format(model=results.dense.model.name, blocks=len(text.tokens), length=text.length,
                                       text=text.source.name, nll=_dense_nll(results))]  # fmt: skip
    found = findings(results)
    for study, title in TITLES.items():
        lines += [f"## {title}", "", f"![{title}]({figures[study]})", ""]
        claims = [each for each in found if each.study == study]
        if claims:
            rows = [[each.claim, _interval(each.difference), each.verdict] for each in claims]
            lines += [*_table(["claim", "difference", "verdict"], rows), ""]
        lines += [*(_whitening(results) if study == "whitening" else _points(results.of(study))), ""]
    return "\n".join(lines).rstrip() + "\n"


def _points(found: Sequence[Found]) -> list[str]:
    """Plain, whitened and dropped side by side."""
    rows: dict[tuple[str, str, str], dict[str, Found]] = {}
    for each in found:
        kind, _, suffix = each.point.series.partition(", ")
        shared = each.point.study in ("count", "position", "spacing")  # dropped layers belong to every rank
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
                *(_interval(kinds[kind].change) if kind in kinds else "-" for kind in (PLAIN, WHITENED, DROPPED)),
            ]
        )
    return _table(["", "at", "removed", *(f"{kind}" for kind in (PLAIN, WHITENED, DROPPED))], table)


def _suffixes(found: Sequence[Found]) -> list[str]:
    return list(dict.fromkeys(each.point.series.partition(", ")[2] for each in found if each.point.series != DROPPED))


def _whitening(results: Results) -> list[str]:
    """How many configurations whitening improves, by size."""
    bounds = [(0.0, 0.05), (0.05, 0.15), (0.15, 0.3), (0.3, 0.5), (0.5, 1.0)]
    rows = []
    for low, high in bounds:
        pairs = [pair for pair in results.twins() if low <= pair[0].removed < high]
        if not pairs:
            continue
        saved = [results.difference([plain], [whitened]) for plain, whitened in pairs]
        better = sum(each.low is not None and each.low > 0 for each in saved)
        worse = sum(each.high is not None and each.high < 0 for each in saved)
        plain, whitened = ([pair[side] for pair in pairs] for side in (0, 1))
        rows.append([f"{100 * low:.0f} to {100 * high:.0f} %", len(pairs), better, worse, len(pairs) - better - worse,
                     _interval(results.difference(plain, whitened))])  # fmt: skip
    return _table(["removed", "configurations", "better", "worse", "undecided", "NLL saved on average"], rows)


def _point(found: Found) -> dict[str, Any]:
    point, text = found.point, found.record.text
    kl = sum(text.kl) / sum(text.tokens) if text is not None else None
    flips = sum(text.flips) / sum(text.tokens) if text is not None else None
    accuracy = {task.name: sum(map(float, task.metrics["acc"])) / task.items for task in found.record.tasks
                if "acc" in task.metrics}  # fmt: skip
    return {"study": point.study, "panel": point.panel, "series": point.series, "x": point.x, "id": found.record.id,
            "config": found.record.config, "factors": found.record.factors,
            "params_removed_pct": 100 * found.removed, "nll_change": found.change.to_json(), "kl": kl, "flips": flips,
            "accuracy": accuracy}  # fmt: skip


def _dense_nll(results: Results) -> float:
    text = results.dense.text
    return sum(text.nll) / sum(text.tokens) if text is not None else float("nan")


def _interval(value: Interval) -> str:
    if value.low is None or value.high is None:
        return f"{value.value:+.4f}"
    return f"{value.value:+.4f} [{value.low:+.4f}, {value.high:+.4f}]"


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return [*head, *(f"| {' | '.join(map(str, row))} |" for row in rows)]
