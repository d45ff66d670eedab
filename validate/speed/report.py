"""One self-contained page from records: predictions, measurements, how far apart, and the noise. No torch."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from costmodel.decomposition.text import describe
from costmodel.units import seconds
from validate.pages.style import STYLE
from validate.speed.metrics import ErrorRow, Evaluation, Predicted, measured, recorded_levels
from validate.speed.plots import figures
from validate.speed.records import Sample

_RATIO_COLUMNS = ("prediction", "n", "bias", "median", "p95", "worst", "Kendall tau", "sign right")


def page(evaluation: Evaluation, samples: Sequence[Sample], extra: dict[str, Predicted] | None = None) -> str:
    """The HTML text; it refers to nothing outside itself.

    Args:
        evaluation: of `samples`.
        samples: all records, failed ones included.
        extra: predictions of further levels, as given to `evaluate`.
    """
    parts = [
        _header(evaluation, samples),
        _tiles(evaluation, samples),
        _figures(evaluation, extra),
        _errors(evaluation, extra),
        _groups(evaluation),
        _failures(evaluation),
        _memory(evaluation),
        _samples(evaluation, extra),
        _environment(samples),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Predicted against measured</title>'
        f"<style>{STYLE}</style></head><body><main>\n{''.join(parts)}</main></body></html>\n"
    )


def _header(evaluation: Evaluation, samples: Sequence[Sample]) -> str:
    if not samples:
        return "<h1>Predicted against measured</h1><p>No samples were recorded.</p>"
    first = samples[0]
    device = first.environment.get("device", {}).get("name", "unknown device")
    count, kind = first.environment.get("threads", 1), first.environment.get("device", {}).get("kind")
    threads = f", {count} thread{'s' * (count != 1)}" if kind == "cpu" else ""
    models = ", ".join(sorted({f"{s.model.name}, {s.model.num_layers} layers" for s in samples}))
    dtypes = ", ".join(sorted({str(s.workload["dtype"]) for s in samples}))
    about = f"{models}, {dtypes}, on {device}{threads}; {first.started[:10]}"
    return (
        f'<h1>Predicted against measured</h1><p class="sub">{_text(about)}</p>'
        f'<p class="finding">{_text(_finding(evaluation))}</p>'
    )


def _finding(evaluation: Evaluation) -> str:
    rows = {row.name: row for row in evaluation.ratios}
    if evaluation.level not in rows:
        return "No configuration could be compared with the dense model."
    row, null = rows[evaluation.level], rows["time ~ parameters"]
    floor = evaluation.noise.median
    noise = f"; two measurements of one configuration differ by {_pct(floor)}" if floor is not None else ""
    return (
        f"The {evaluation.level} prediction of how long a factored model takes, relative to dense, is off by "
        f"{_pct(row.median)} in the median and {_pct(row.p95)} at the 95th percentile. Assuming time proportional to "
        f"parameters is off by {_pct(null.median)}{noise}."
    )


def _tiles(evaluation: Evaluation, samples: Sequence[Sample]) -> str:
    row = next((row for row in evaluation.ratios if row.name == evaluation.level), None)
    checked = [s for s in samples if s.identity]
    equal = sum(all(c.expected == c.found for c in s.identity) for s in checked)
    failed, noise = len(evaluation.failed), evaluation.noise
    tiles = [
        (f"{len(evaluation.samples)} of {len(samples)}", "samples measured", bool(failed)),
        (f"{equal} of {len(samples)}", "are the model priced: params, bytes, FLOPs", equal != len(samples)),
        (_pct(row.median) if row else "-", "median error of the ratio", False),
        (_pct(noise.median) if noise.median is not None else "-", "noise floor, from repeats", False),
        (f"{row.tau:.2f}" if row and row.tau is not None else "-", "Kendall tau of the ratio", False),
        (_sign(row) if row else "-", '"faster than dense?" right', False),
    ]
    cells = "".join(
        f'<div class="tile{" bad" if bad else ""}"><b>{_text(value)}</b><span>{_text(label)}</span></div>'
        for value, label, bad in tiles
    )
    return f'<div class="tiles">{cells}</div>'


def _figures(evaluation: Evaluation, extra: dict[str, Predicted] | None) -> str:
    drawn = "".join(
        f"<figure><h3>{_text(title)}</h3>{svg}<figcaption>{_text(caption)}</figcaption></figure>"
        for title, caption, svg in figures(evaluation, extra)
    )
    return f'<h2>Figures</h2><div class="figures">{drawn}</div>' if drawn else ""


def _errors(evaluation: Evaluation, extra: dict[str, Predicted] | None) -> str:
    fitted = "".join(
        f" {name} is fitted to this run, each configuration predicted from the others." for name in extra or ()
    )
    noise, lines = evaluation.noise, []
    if noise.median is not None:
        lines.append(
            f"{noise.repeats} samples were built and measured twice: the deviation of one measurement is "
            f"{_pct(noise.median)} in the median, {_pct(noise.worst)} at worst."
        )
    if noise.dense_worst is not None:
        lines.append(
            f"Dense against dense, measured {noise.dense} times: off from 1 by at most {_pct(noise.dense_worst)}."
        )
    if noise.half_width is not None:
        lines.append(f"95 % intervals of the ratio reach {_pct(noise.half_width)} to each side in the median.")
    if noise.disturbed:
        lines.append(
            f"{noise.disturbed} samples were disturbed by other work, clocks or a quota; they count all the same."
        )
    paragraphs = "".join(f"<p>{_text(line)}</p>" for line in lines)
    return (
        "<h2>Error of the predicted ratio to dense</h2>"
        + _table(_RATIO_COLUMNS, [_cells(row) for row in evaluation.ratios])
        + '<p class="note">Error = predicted / measured - 1; bias is its mean, the others are of its size. The two '
        "null models take the saving in time to be the saving in parameters, or 0.6 of it. Sign right: of the samples "
        f"whose difference from dense is clear of the noise.{_text(fitted)}</p>"
        + "<h2>Noise floor</h2>"
        + (paragraphs or "<p>Not measured.</p>")
        + "<h2>Error of predicted seconds</h2>"
        + _table(_RATIO_COLUMNS[:6], [_cells(row)[:6] for row in evaluation.latencies])
    )


def _groups(evaluation: Evaluation) -> str:
    tables = "".join(
        f"<div><h3>By {_text(stratum)}</h3>"
        + _table((stratum, *_RATIO_COLUMNS[1:6], "sign right"), [[*_cells(row)[:6], _sign(row)] for row in rows])
        + "</div>"
        for stratum, rows in evaluation.groups.items()
    )
    title = f"<h2>Where the error is: {_text(evaluation.level or '')}</h2>"
    return f'{title}<div class="groups">{tables}</div>' if tables else ""


def _failures(evaluation: Evaluation) -> str:
    if not evaluation.failed:
        return ""
    rows = [
        [s.index, _config(s), _work(s), s.failure.stage if s.failure else "-", s.failure.reason if s.failure else "-"]
        for s in evaluation.failed
    ]
    return "<h2>Failed samples</h2>" + _table(
        ("sample", "configuration", "workload", "stage", "reason"), rows, wide=(1, 4)
    )


def _memory(evaluation: Evaluation) -> str:
    errors = [
        s.predicted[0].peak_memory_bytes / s.memory.peak_allocated_bytes - 1
        for s in evaluation.samples
        if s.memory is not None and s.memory.peak_allocated_bytes and s.predicted
    ]
    if not errors:
        return ""
    method = next(s.memory.method for s in evaluation.samples if s.memory is not None)
    size = sorted(abs(error) for error in errors)
    return (
        f"<h2>Peak memory</h2><p>Predicted against measured over {len(errors)} samples: off by "
        f"{_pct(size[len(size) // 2], 2)} in the median, {_pct(size[-1], 2)} at worst.</p>"
        f'<p class="note">Measured by: {_text(method)}.</p>'
    )


def _samples(evaluation: Evaluation, extra: dict[str, Predicted] | None) -> str:
    if not evaluation.samples:
        return ""
    levels = {**recorded_levels(evaluation.samples), **(extra or {})}
    predicted = levels.get(evaluation.level or "", {})
    rows = []
    for s in evaluation.samples:
        timing = measured(s)
        guess = predicted[s.id][1] / predicted[s.id][0] if s.id in predicted else None
        interval = f"{timing.ratio_low:.3f} to {timing.ratio_high:.3f}" if math.isfinite(timing.ratio_high) else "-"
        error = None if guess is None else f"{100 * (guess / timing.ratio - 1):+.1f} %"
        rows.append(
            [
                s.index,
                _config(s),
                _work(s),
                f"{s.strata.param_ratio:.3f}",
                seconds(timing.dense.median_s),
                seconds(timing.candidate.median_s),
                f"{timing.ratio:.3f}",
                interval,
                None if guess is None else f"{guess:.3f}",
                error,
                len(timing.dense.seconds),
                "; ".join(timing.disturbed) or "-",
            ]
        )
    columns = (
        "sample",
        "configuration",
        "workload",
        "params / dense",
        "dense",
        "factored",
        "ratio",
        "95 % interval",
        "predicted",
        "error",
        "pairs",
        "disturbed",
    )
    table = _table(columns, rows, wide=(1, 11))
    return f"<h2>Details</h2><details><summary>All measured samples</summary>{table}</details>"


def _environment(samples: Sequence[Sample]) -> str:
    if not samples:
        return ""
    rows: list[tuple[str, str]] = [("hardware profile", samples[0].hardware), ("started", samples[0].started)]
    rows += list(_flat(samples[0].environment))
    items = "".join(f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>" for name, value in rows)
    return f"<details><summary>Environment</summary><dl>{items}</dl></details>"


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}".replace("_", " "), "none" if value is None else str(value)


def _config(sample: Sample) -> str:
    spec = sample.spec()
    return describe(sample.decomposition(spec), spec)


def _work(sample: Sample) -> str:
    work = sample.workload
    length = f"{work['q_len']} tokens" if work["phase"] == "prefill" else f"kv {work['kv_len']}"
    return f"{work['phase']}, batch {work['batch']}, {length}, {work['runtime']}"


def _cells(row: ErrorRow) -> list[Any]:
    tau = None if row.tau is None else f"{row.tau:.2f}"
    return [
        row.name,
        row.count,
        f"{100 * row.bias:+.1f} %",
        _pct(row.median),
        _pct(row.p95),
        _pct(row.worst),
        tau,
        _sign(row),
    ]


def _sign(row: ErrorRow) -> str:
    return "-" if row.sign_right is None else f"{round(row.sign_right * row.decided)} of {row.decided}"


def _pct(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]], wide: tuple[int, ...] = ()) -> str:
    def cell(index: int, value: Any) -> str:
        kind = ' class="w"' if index in wide else ""
        return f"<td{kind}>{_text('-' if value is None else str(value))}</td>"

    head = "".join(f"<th{' class=l' if index in wide else ''}>{_text(name)}</th>" for index, name in enumerate(columns))
    body = "".join(f"<tr>{''.join(cell(i, value) for i, value in enumerate(row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _text(value: str) -> str:
    return html.escape(value)
