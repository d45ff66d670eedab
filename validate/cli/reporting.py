"""What every command that has records prints and writes: tables, the page, the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from costmodel.cli.common import print_table, say, write_csv, write_json
from costmodel.files.write import write_file
from costmodel.units import percent
from validate.speed.metrics import ErrorRow, Evaluation, evaluate
from validate.speed.records import Sample

SCHEMA = 1


def finish(folder: Path, samples: Sequence[Sample], *, fmt: str, fail_above: float | None) -> int:
    """Write DIR/report.html and DIR/calibration.json, print the tables, and return 1 when the gate is not met."""
    from validate.calibration.whole.run_folder import CALIBRATION, fit_folder
    from validate.speed.report import page

    fit, note = fit_folder(folder, samples)
    extra = {fit.level: fit.predicted} if fit else None
    evaluation = evaluate(samples, extra)
    html, calibration = folder / "report.html", folder / CALIBRATION
    if fit is not None:
        write_file(calibration, fit.to_bytes())
    write_file(html, page(evaluation, samples, extra).encode())
    if fmt == "json":
        paths = {
            "samples": str(folder / "samples.jsonl"),
            "report": str(html),
            "calibration": str(calibration) if fit else None,
        }
        write_json({"schema": SCHEMA, **evaluation.to_json(), "calibration_note": note, "paths": paths})
    elif fmt == "csv":
        write_csv([row.to_json() for row in evaluation.ratios])
    else:
        print_evaluation(evaluation)
        say(f"note: {note}")
        say(f"records {folder / 'samples.jsonl'}, page {html}{f', calibration {calibration}' if fit else ''}")
    return gate(evaluation, fail_above)


def gate(evaluation: Evaluation, fail_above: float | None) -> int:
    """1 when --fail-above is given and the median error is above it, nothing could be compared, or a sample failed."""
    if fail_above is None:
        return 0
    if evaluation.failed:
        say(f"error: {len(evaluation.failed)} samples failed", err=True)
        return 1
    if evaluation.gate is None:
        say("error: no sample to compare with --fail-above", err=True)
        return 1
    if 100 * evaluation.gate > fail_above:
        say(f"error: median error {percent(evaluation.gate)} of the ratio is above {fail_above:g} %", err=True)
        return 1
    return 0


def print_evaluation(evaluation: Evaluation) -> None:
    """The tables of a terminal."""
    noise = evaluation.noise
    identity = sum(bool(s.identity) and all(c.expected == c.found for c in s.identity) for s in evaluation.samples)
    failed = f", {len(evaluation.failed)} failed" if evaluation.failed else ""
    say(f"{len(evaluation.samples)} samples measured{failed}; identity checks passed in {identity}")
    for sample in evaluation.failed:
        say(f"  sample {sample.index}: {sample.failure.reason if sample.failure else 'not measured'}")
    if outputs := [sample.outputs for sample in evaluation.samples if sample.outputs is not None]:
        most = max(max(each.candidate, each.dense) for each in outputs)
        allowed = f"{outputs[0].tolerance:g} is allowed"
        stack = evaluation.samples[0].workload["stack"]
        say(f"outputs of {stack} are within {most:.1e} of PyTorch's, relative to the largest; {allowed}")
    columns = ["predicted time / dense time", "n", "bias", "median", "p95", "worst", "tau", "sign right"]
    print_table(
        "Error of the predicted ratio",
        columns,
        [_cells(row) for row in evaluation.ratios],
        caption=noise_line(evaluation),
    )
    rows = [_cells(row)[:6] for row in evaluation.latencies]
    print_table("Error of predicted seconds", ["level", *columns[1:6]], rows)
    for stratum, group in evaluation.groups.items():
        if stratum in ("phase", "rank class", "batch"):
            title = f"Error of the ratio by {stratum}, {evaluation.level}"
            print_table(title, [stratum, *columns[1:]], [_cells(row) for row in group])
    if noise.disturbed:
        say(f"note: {noise.disturbed} samples were disturbed by other work, clocks or a quota; see the page")


def noise_line(evaluation: Evaluation) -> str:
    """The noise floor in one sentence."""
    noise, parts = evaluation.noise, []
    if noise.median is not None:
        parts.append(f"{noise.repeats} repeated samples differ by {percent(noise.median)} in the median")
    if noise.dense_worst is not None:
        parts.append(f"dense against dense is off by at most {percent(noise.dense_worst)}")
    if noise.half_width is not None:
        parts.append(f"95 % intervals are {percent(noise.half_width)} to each side")
    return f"noise floor: {', '.join(parts)}" if parts else "noise floor: not measured"


def _cells(row: ErrorRow) -> list[Any]:
    sign = None if row.sign_right is None else f"{percent(row.sign_right)} of {row.decided}"
    tau = None if row.tau is None else f"{row.tau:.2f}"
    return [
        row.name,
        row.count,
        percent(row.bias, signed=True),
        percent(row.median),
        percent(row.p95),
        percent(row.worst),
        tau,
        sign,
    ]
