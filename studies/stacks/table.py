"""The tables of whole passes in docs/calibration.md and ERRORS.md, from the errors that `studies.stacks.fit` wrote.

    python -m studies.stacks.table [whole_models.csv]

With the published table its ratios, memory and repeated runs are put to the model as it ships and kept in points.json;
without it the tables are printed from what is kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import click

from costmodel.files.write import write_file
from costmodel.hardware.profile import profile_folder
from studies.stacks.judge import NULL
from validate.replay.points import PointRow, predict_points, read_points

FOLDER = Path(__file__).parent
ERRORS, POINTS = FOLDER / "errors.json", FOLDER / "points.json"
KNOWN = {
    "fastertransformer": "two documents, encoders and decoders apart",
    "kernels-summed": "one laboratory, three devices",
    "llama.cpp-cpu": "three points",
    "llama.cpp-cuda": "three sources, four devices; how fast its kernels read is known of the A100",
    "lmdeploy": "one source",
    "tensorrt": "one source, encoders, which run faster than other engines' decoders",
    "tensorrt-llm": "one source",
    "torch-compile": "one source",
    "torchscript": "one laboratory, two devices",
    "transformers": "four sources, among them one at 40 % more",
    "transformers-4.35": "one laboratory, two models",
    "vllm": "one source, small models; 1.4 ms a step",
}
"""What a stack's rows were, for docs/calibration.md."""
IN, OUT, LABORATORY = "in sample", "source left out", "laboratory left out"
_SAME = ("hw", "stack", "model_config", "dtype", "weight_dtype", "batch", "seq", "new_tokens", "phase", "decompose")
_TABLES = ("h200-sxm", "l40s", "b200-sxm")
_NOTE = """The null model, one factor by kind of stack on the roofline, source left out: {null}. The noise floor:
{points} runs of {questions} question that one source measured again lie {mean_pct:.1f} % from their mean.
`was`: all 367 rows before there were stacks, of which these 225 are a part; the rest was never seen. Rates
that devices without a calibration reach (`generations.toml`) were set with rows of the V100, the T4 and the
A100 in view, so that leaving their source out flatters them. The three ratios of quality A and B are
launch-bound: with every linear factored they are the ratio of launches, 1.17. Two are of a model some of
whose linears its source left dense, and does not say which (1.00 and 1.04 measured); in the third (1.32) a
linear costs the host twice a mean launch. Those of quality C (44 %) are no question to kernels: 104 ms a
step where kernels take a third of it, caches that are compressed too, or a gain beyond what the parameters
allow."""
Rows = Mapping[tuple[str, str], Mapping[str, Any]]


def stack_lines() -> list[str]:
    """The table of stacks of docs/calibration.md, as Markdown."""
    rows = _rows(json.loads(ERRORS.read_text())["errors"])
    lines = [
        "| stack | points | in sample, median | source left out, median / mean | inside, source left out |"
        " how well it is known |",
        "|---|---|---|---|---|---|",
    ]
    for name, known in KNOWN.items():
        shipped, out = (rows[f"stack {name}", protocol] for protocol in (IN, OUT))
        cells = [name, str(shipped["points"]), f"{shipped['median_pct']:.1f} %", _both(out), _inside(out), known]
        lines.append(f"| {' | '.join(cells)} |")
    shipped, out, laboratory = (rows["all", protocol] for protocol in (IN, OUT, LABORATORY))
    cells = ["all", str(shipped["points"]), f"{shipped['median_pct']:.1f} %", _both(out), _inside(out)]
    cells.append(f"{_both(laboratory)} with whole laboratories left out; a null model {_both(rows['all', NULL])}")
    return [*lines, f"| {' | '.join(cells)} |"]


def coverage_text() -> str:
    """Its sentence on what the 90 % intervals hold, and how wide they are where a source was left out."""
    rows = _rows(json.loads(ERRORS.read_text())["errors"])
    shipped, out, laboratory = (rows["all", protocol] for protocol in (IN, OUT, LABORATORY))
    widths = " and ".join(dict.fromkeys(f"{row['half_width_pct']:.0f} %" for row in (out, laboratory)))
    return (
        f"{_inside(shipped)} of rows lie within as shipped; where neither the figures nor the width saw a row's source "
        f"{_inside(out)}, its whole laboratory {_inside(laboratory)}, at half-widths of {widths}, "
        f"{out['width_to_error']:.1f} and {laboratory['width_to_error']:.1f} times the mean error."
    )


def asked_lines() -> list[str]:
    """Was, asked and now, as Markdown: what whole passes were asked to reach."""
    rows, points = _rows(json.loads(ERRORS.read_text())["errors"]), json.loads(POINTS.read_text())
    cpu = _rows(json.loads((profile_folder() / "calibrations" / "amd-epyc-2t.json").read_text())["errors"])
    lines = [
        "| what | was | asked | as shipped | source left out | laboratory left out | fitted on |",
        "|---|---|---|---|---|---|---|",
    ]
    times = (
        ("dense time, median / mean", "all", "32 / 34 %", "12 / 16 %"),
        ("calibrated devices, launched by the host", "calibrated devices, launched by the host", "44 %", "12 %"),
        ("calibrated devices, engines and graphs", "calibrated devices, engines and graphs", "14 %", "8 %"),
        ("devices without a calibration", "devices without a calibration", "30, 51 %", "18 %"),
    )
    for title, subset, was, asked in times:
        cells = [title, was, asked, *(_both(rows[subset, protocol]) for protocol in (IN, OUT, LABORATORY))]
        lines.append(f"| {' | '.join([*cells, 'these rows'])} |")
    widths = [
        f"{_inside(rows['all', each])}, {rows['all', each]['width_to_error']:.1f} x" for each in (IN, OUT, LABORATORY)
    ]
    asked = ["inside the 90 % interval; half-width / mean error", "11 %", "80 to 97 %, 2 x", *widths, "these rows"]
    lines.append(f"| {' | '.join(asked)} |")
    ratio, memory = points["ratio"], points["memory"]
    right = f"{ratio['right']} of {ratio['points']}; {ratio['median_pct']:.0f} %"
    lines.append(
        f"| factored ratios, right about faster or slower; median | - | 95 %; 8 % | {right} | same | same | nothing |"
    )
    text = f"{memory['median_pct']:.1f} / {memory['worst_pct']:.0f} %"
    lines.append(
        f"| memory under transformers, median / worst | 6 / 40 % | 3 / 15 % | {text} | same | same | nothing |"
    )
    shipped, models = (
        next(row for (_, protocol), row in cpu.items() if protocol.startswith(f"samples, {held}"))
        for held in ("configurations", "whole models")
    )
    held = [f"{row['p95_pct']:.1f} / {row['worst_pct']:.1f} %" for row in (shipped, models)]
    note = f"configurations held out; whole models held out {held[1]}"
    lines.append(f"| CPU, factored against dense, p95 / worst | 12 / 24 % | 8 / 15 % | {held[0]} | - | - | {note} |")
    gemm, fp8 = (
        ", ".join(_held_out(device, kind) for device in devices)
        for kind, devices in (("gemm", _TABLES), ("gemm:fp8", ("h100-sxm-80gb", *_TABLES)))
    )
    title = "GEMM held out, whole (n, k), mean: H200, L40S (cold rows), B200; fp8 on the H100 and these"
    lines.append(f"| {title} | 25, 30, - % | 5, 6, 5; 5 % | {gemm}; {fp8} % | - | - | other (n, k) |")
    attention = "; ".join(", ".join(_held_out(device, kind) for device in _TABLES) for kind in ("prefill", "decode"))
    title = "attention held out, mean: H200, L40S, B200; prefill, decode"
    lines.append(f"| {title} | 67, 54, - % | 6 % | {attention} % | - | - | other head shapes |")
    own, other = _error("a40", "gemm", "all"), _error("h100-sxm-80gb", "gemm", "Vidur")
    figures = [f"{row['mean_pct']:.1f} %, {row['coverage_pct']:.0f} %" for row in (own, other)]
    title = "GEMMs of another laboratory: an A40, an H100 under an older stack; mean, inside the 90 % interval"
    asked = "30, 18 %; -, 24 % | 10, 12 %; 80 %"
    fitted = "A40: other (n, k); H100: nothing of this laboratory"
    lines.append(f"| {title} | {asked} | {'; '.join(figures)} | - | - | {fitted} |")
    floor = points["repeated"]
    return [*lines, "", _NOTE.format(null=_both(rows["all", NULL]), **floor)]


def kept(rows: Sequence[Mapping[str, str]], answers: Sequence[PointRow]) -> dict[str, dict[str, float]]:
    """Errors of the published ratios of quality A and B and of memory under transformers, and the scatter of runs that
    one source repeated."""
    pairs = list(zip(rows, answers, strict=True))
    good = [answer for row, answer in pairs if row["kind"] == "ratio" and row.get("quality") in ("A", "B")]
    memory = [
        abs(answer.error_pct)
        for row, answer in pairs
        if row["kind"] == "memory" and row["stack"].startswith("transformers")
    ]
    again: dict[tuple[str, ...], list[float]] = {}
    for row, answer in pairs:
        if row["kind"] in ("time", "factored_time"):
            again.setdefault((row["source"], *(row[name] for name in _SAME), row["attention"]), []).append(
                answer.measured
            )
    repeated = [runs for runs in again.values() if len(runs) > 1]
    away = [abs(run * len(runs) / sum(runs) - 1) for runs in repeated for run in runs]
    return {
        "ratio": {
            "points": len(good),
            "right": sum((each.prediction.value < 1) == (each.measured < 1) for each in good),
            "median_pct": round(median(abs(each.error_pct) for each in good), 2),
        },
        "memory": {
            "points": len(memory),
            "median_pct": round(median(memory), 2),
            "worst_pct": round(max(memory), 2),
        },
        "repeated": {
            "points": len(away),
            "questions": len(repeated),
            "mean_pct": round(100 * sum(away) / max(1, len(away)), 2),
        },
    }


def _held_out(device: str, kind: str) -> str:
    """Mean error of a calibration's form on shapes that it had not seen."""
    return f"{_error(device, kind, 'all')['mean_pct']:.1f}"


def _error(device: str, kind: str, subset: str) -> Mapping[str, Any]:
    """The first row of a calibration's errors whose subset begins so."""
    errors = json.loads((profile_folder() / "calibrations" / f"{device}.json").read_text())["errors"]
    found: Mapping[str, Any] = next(row for row in errors if row["kind"] == kind and row["subset"].startswith(subset))
    return found


def _rows(errors: Sequence[Mapping[str, Any]]) -> Rows:
    return {(row["subset"], row["protocol"]): row for row in errors}


def _both(row: Mapping[str, Any]) -> str:
    return f"{row['median_pct']:.1f} / {row['mean_pct']:.1f} %"


def _inside(row: Mapping[str, Any]) -> str:
    return f"{row['coverage_pct']:.0f} %"


@click.command()
@click.argument("table", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=False)
def command(table: Path | None) -> None:
    """Print the tables; with TABLE, of published measurements, judge its ratios and memory first."""
    if table is not None:
        rows = read_points(table)
        write_file(POINTS, (json.dumps(kept(rows, predict_points(rows, table.parent)), indent=1) + "\n").encode())
    click.echo("\n".join([*stack_lines(), "", coverage_text(), "", *asked_lines()]))


if __name__ == "__main__":
    command()
