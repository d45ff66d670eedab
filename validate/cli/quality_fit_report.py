"""The tables of `validate quality fit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from costmodel.cli.common import print_table, say
from costmodel.units import percent
from validate.interval import Interval, interval_text

if TYPE_CHECKING:
    from validate.predictor.fit import PredictorFit


def print_fit(fit: PredictorFit, link: Mapping[str, Any], path: Path) -> None:
    """Errors beside null models, strata left out, additivity, tasks, and what the numbers of the file mean."""
    from validate.predictor.errors import PREDICTOR
    from validate.predictor.fit import OTHERS

    form, counted = fit.chosen.candidate.form.name, fit.evidence.points.counted
    points = f"{len(counted)}" if counted.all() else f"{counted.sum()} sampled and {(~counted).sum()} other"
    failed = f", {fit.evidence.failed} failed" if fit.evidence.failed else ""
    crossed = [row for row in fit.errors if row["protocol"] == fit.errors[0]["protocol"]]
    columns = [
        "band, nats",
        "model",
        "points",
        "mean error",
        "predictor minus it",
        "ratio",
        "bias",
        "rank corr.",
        "covered",
    ]
    print_table(
        f"{path}: {fit.evidence.spec.name}, {form}; {points} configurations{failed}, {crossed[0]['protocol']}",
        columns,
        [_cells(row) for row in crossed],
        left=2,
        caption="change of NLL in nats, predicted minus measured; * fewer than 30 points, not judged; "
        "covered: share inside 90 % intervals" + ("" if counted.all() else "; errors are of those sampled"),
    )
    for row in (row for row in fit.errors if row["protocol"] == OTHERS and row["model"] == PREDICTOR):
        say(
            f"{row['points']} other configurations, not sampled: mean error {row['mean_abs']:.4f} nats, "
            f"covered {percent(row['coverage'], 0)}"
        )
    strata = [row for row in fit.errors if row["protocol"] not in (fit.errors[0]["protocol"], OTHERS)]
    if strata:
        names = list(dict.fromkeys(row["protocol"] for row in strata))
        cells = [_stratum(name, [row for row in strata if row["protocol"] == name]) for name in names]
        print_table(
            "Held out whole",
            ["fitted", "points", "mean error", "bias", "rank corr.", "best null model", "predictor minus it"],
            cells,
        )
    _print_sums(fit.additivity)
    meanings = {
        "shared": "damages of one layer: 0 add up, 1 the worst site counts alone",
        "bend": "of unlike layers: 1 add up, above 1 strengthen each other",
    }
    for row in fit.interactions:
        name = row["coefficient"]
        say(f"{name} {row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]: {meanings[name]}")
    if fit.tasks:
        print_table(
            "Accuracy of tasks from the predicted change of NLL, held out",
            [
                "task",
                "items",
                "dense",
                "chance",
                "mean error",
                "from measured NLL",
                "constant",
                "predictor minus it",
                "covered",
                "noise",
            ],
            [_task(row) for row in fit.tasks],
            caption="errors in percentage points; covered: share inside 90 % intervals; noise: standard error "
            "of an accuracy over its items",
        )
    pairs = [f"{value:.3g} for {change:g}" for change, value in zip(link["nll_change"], link["score"], strict=True)]
    say(f"the file's sums are scores, increasing with the change of NLL: {', '.join(pairs)} nats")
    spearman = "-" if fit.spearman is None else f"{fit.spearman:.3f}"
    say(f"held out: rank correlation {spearman}, 90 % intervals hold {percent(fit.coverage, 0)}")


def _print_sums(rows: Sequence[Mapping[str, Any]]) -> None:
    parts, fitted = ([row for row in rows if row["against"] == kind] for kind in ("parts", "fitted sum"))
    columns = ["by", "class", "points", "excess"]
    if parts:
        caption = "with 95 % intervals: above 0, damages strengthen each other, below 0 they mask"
        if any(row["excess_low"] is None for row in parts):
            caption += "; none where points are too few (--parts names more to measure)"
        title = "Where damage adds up: measured over the sum of measured parts, minus 1"
        print_table(title, columns, _sums(parts), left=2, caption=caption)
    else:
        say("where damage adds up is not known: no configuration's parts were measured; see --parts")
    caption = "with 95 % intervals; the sum is fitted to all sizes, so some interactions are in it"
    title = "Misfit of a fitted sum over sites: measured over predicted, minus 1"
    print_table(title, columns, _sums(fitted), left=2, caption=caption)


def _sums(rows: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    return [[row["group"], row["class"], row["points"], _excess(row)] for row in rows]


def _cells(row: Mapping[str, Any]) -> list[str | None]:
    covered = row.get("coverage")
    return [
        row["band"] + ("" if row["judged"] else " *"),
        row["model"],
        str(row["points"]),
        f"{row['mean_abs']:.4f}",
        _difference(row),
        None if row.get("ratio") is None else f"{row['ratio']:.2f}",
        f"{row['bias']:+.4f}",
        None if row["spearman"] is None else f"{row['spearman']:.3f}",
        None if covered is None else percent(covered, 0),
    ]


def _stratum(name: str, rows: list[Mapping[str, Any]]) -> list[str | None]:
    own, best = rows[0], min(rows[1:], key=lambda row: row["mean_abs"])
    spearman = None if own["spearman"] is None else f"{own['spearman']:.3f}"
    return [
        name,
        str(own["points"]),
        f"{own['mean_abs']:.4f}",
        f"{own['bias']:+.4f}",
        spearman,
        f"{best['model']} {best['mean_abs']:.4f}",
        _difference(best),
    ]


def _difference(row: Mapping[str, Any], scale: float = 1, digits: int = 4) -> str | None:
    if row.get("difference_low") is None:
        return None
    return interval_text(Interval(*(scale * row[f"difference{end}"] for end in ("", "_low", "_high"))), digits)


def _excess(row: Mapping[str, Any]) -> str:
    return interval_text(Interval(row["excess"], row["excess_low"], row["excess_high"]), 0, share=True)


def _task(row: Mapping[str, Any]) -> list[str | None]:
    start = [row["task"], str(row["items"]), percent(row["dense"]), percent(row["chance"])]
    if "note" in row:
        return [*start, row["note"], *[None] * 5]
    errors = [f"{100 * row[key]:.2f}" for key in ("mean_abs", "mean_abs_measured_change", "mean_abs_constant")]
    return [*start, *errors, _difference(row, 100, 2), percent(row["coverage"], 0), f"{100 * row['noise']:.2f}"]
