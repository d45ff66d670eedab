"""One self-contained page from records: predictions, measurements, how far apart, and the noise. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from costmodel.decomposition.text import describe
from costmodel.units import percent, seconds
from validate.pages.markup import Table, report
from validate.speed.metrics import ErrorRow, Evaluation, Predicted, measured, recorded_levels
from validate.speed.plots import figures
from validate.speed.records import Sample
from validate.store.record_format import device_of

_RATIO_COLUMNS = ("prediction", "n", "bias", "median", "p95", "worst", "Kendall tau", "sign right")


def page(evaluation: Evaluation, samples: Sequence[Sample], extra: dict[str, Predicted] | None = None) -> str:
    """The HTML text; it refers to nothing outside itself.

    Args:
        evaluation: of `samples`.
        samples: all records, failed ones included.
        extra: predictions of further levels, as given to `evaluate`.
    """
    return report(
        "speed.html",
        "Predicted against measured",
        about=_about(samples) if samples else "",
        finding=_finding(evaluation),
        summary=_tiles(evaluation, samples),
        figures=figures(evaluation, extra),
        fitted=list(extra or ()),
        ratios=Table(columns=_RATIO_COLUMNS, rows=[_cells(row) for row in evaluation.ratios]),
        latencies=Table(columns=_RATIO_COLUMNS[:6], rows=[_cells(row)[:6] for row in evaluation.latencies]),
        noise=_noise(evaluation),
        level=evaluation.level,
        groups=[(stratum, _group(stratum, rows)) for stratum, rows in evaluation.groups.items()],
        failed=_failures(evaluation),
        memory=_memory(evaluation),
        samples=_samples(evaluation, extra),
        environment=_environment(samples),
    )


def _about(samples: Sequence[Sample]) -> str:
    first = samples[0]
    device, kind, count = device_of(first.environment)
    threads = f", {count} thread{'s' * (count != 1)}" if kind == "cpu" else ""
    models = ", ".join(sorted({f"{s.model.name}, {s.model.num_layers} layers" for s in samples}))
    dtypes = ", ".join(sorted({str(s.workload["dtype"]) for s in samples}))
    stacks = ", ".join(sorted({str(s.workload["stack"]) for s in samples if s.workload.get("stack")}))
    by = f" by {stacks}" if stacks else ""
    return f"{models}, {dtypes}, on {device}{threads}{by}; {first.started[:10]}"


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


def _tiles(evaluation: Evaluation, samples: Sequence[Sample]) -> list[tuple[str, str, bool]]:
    row = next((row for row in evaluation.ratios if row.name == evaluation.level), None)
    checked = [s for s in samples if s.identity]
    equal = sum(all(c.expected == c.found for c in s.identity) for s in checked)
    failed, noise = len(evaluation.failed), evaluation.noise
    return [
        (f"{len(evaluation.samples)} of {len(samples)}", "samples measured", bool(failed)),
        (f"{equal} of {len(samples)}", "are the model priced: params, bytes, FLOPs", equal != len(samples)),
        *_outputs(samples),
        (_pct(row.median) if row else "-", "median error of the ratio", False),
        (_pct(noise.median) if noise.median is not None else "-", "noise floor, from repeats", False),
        (f"{row.tau:.2f}" if row and row.tau is not None else "-", "Kendall tau of the ratio", False),
        (_sign(row) if row else "-", '"faster than dense?" right', False),
    ]


def _outputs(samples: Sequence[Sample]) -> list[tuple[str, str, bool]]:
    """Of a stack's samples, how far their outputs are from PyTorch's own."""
    checked = [s.outputs for s in samples if s.outputs is not None]
    if not checked:
        return []
    most = max(max(each.candidate, each.dense) for each in checked)
    allowed = checked[0].tolerance
    return [(f"{most:.1e}", f"largest difference from PyTorch's outputs, of {allowed:g} allowed", most > allowed)]


def _noise(evaluation: Evaluation) -> list[str]:
    noise, lines = evaluation.noise, []
    if noise.median is not None:
        lines.append(
            f"{noise.repeats} samples were built and measured twice: the deviation of one measurement is "
            f"{_pct(noise.median)} in the median, {_pct(noise.worst)} at worst."
        )
    if noise.dense_worst is not None:
        times = "once" if noise.dense == 1 else f"{noise.dense} times"
        lines.append(f"Dense against dense, measured {times}: off from 1 by at most {_pct(noise.dense_worst)}.")
    if noise.half_width is not None:
        lines.append(f"95 % intervals of the ratio reach {_pct(noise.half_width)} to each side in the median.")
    if noise.disturbed:
        lines.append(
            f"{noise.disturbed} samples were disturbed by other work, clocks or a quota; they count all the same."
        )
    return lines


def _group(stratum: str, rows: Iterable[ErrorRow]) -> Table:
    return Table(
        columns=(stratum, *_RATIO_COLUMNS[1:6], "sign right"), rows=[[*_cells(row)[:6], _sign(row)] for row in rows]
    )


def _failures(evaluation: Evaluation) -> Table:
    rows = [
        [s.index, _config(s), _work(s), s.failure.stage if s.failure else "-", s.failure.reason if s.failure else "-"]
        for s in evaluation.failed
    ]
    return Table(columns=("sample", "configuration", "workload", "stage", "reason"), rows=rows, wide=(1, 4))


def _memory(evaluation: Evaluation) -> dict[str, Any]:
    errors = [
        s.predicted[0].peak_memory_bytes / s.memory.peak_allocated_bytes - 1
        for s in evaluation.samples
        if s.memory is not None and s.memory.peak_allocated_bytes and s.predicted
    ]
    if not errors:
        return {}
    method = next(s.memory.method for s in evaluation.samples if s.memory is not None)
    size = sorted(abs(error) for error in errors)
    return {
        "count": len(errors),
        "median": _pct(size[len(size) // 2], 2),
        "worst": _pct(size[-1], 2),
        "method": method,
    }


def _samples(evaluation: Evaluation, extra: dict[str, Predicted] | None) -> Table:
    levels = {**recorded_levels(evaluation.samples), **(extra or {})}
    predicted = levels.get(evaluation.level or "", {})
    rows = []
    for s in evaluation.samples:
        timing = measured(s)
        guess = predicted[s.id][1] / predicted[s.id][0] if s.id in predicted else None
        interval = f"{timing.ratio_low:.3f} to {timing.ratio_high:.3f}" if math.isfinite(timing.ratio_high) else "-"
        error = None if guess is None else percent(guess / timing.ratio - 1, signed=True)
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
    return Table(columns=columns, rows=rows, wide=(1, 11))


def _environment(samples: Sequence[Sample]) -> list[tuple[str, str]]:
    if not samples:
        return []
    first = samples[0]
    return [("hardware profile", first.hardware), ("started", first.started), *_flat(first.environment)]


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
    return f"{work['phase']}, batch {work['batch']}, {length}, {work.get('stack') or work['runtime']}"


def _cells(row: ErrorRow) -> list[Any]:
    tau = None if row.tau is None else f"{row.tau:.2f}"
    return [
        row.name,
        row.count,
        percent(row.bias, signed=True),
        _pct(row.median),
        _pct(row.p95),
        _pct(row.worst),
        tau,
        _sign(row),
    ]


def _sign(row: ErrorRow) -> str:
    return "-" if row.sign_right is None else f"{round(row.sign_right * row.decided)} of {row.decided}"


def _pct(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else percent(value, digits).replace(" ", "\N{NO-BREAK SPACE}")
