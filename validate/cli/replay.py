"""`validate replay`: somebody else's measured table against the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from costmodel.cli.common import format_option, print_lines, print_table, write_csv, write_json
from costmodel.families.load import load_model
from costmodel.files.write import write_file
from costmodel.forward.workload import Attention
from costmodel.hardware.profile import load_hardware
from costmodel.units import COMPUTE_DTYPES, DType, seconds
from validate.replay.model import SCHEMA, ScoringRun, load_constants
from validate.replay.replay import PREDICTORS, Replay, ReplayRow, Split, mean_errors, replay
from validate.replay.table import METRICS, chosen, read_benchmarks

_SHORT = {"latency_pct": "time", "energy_pct": "energy", "memory_pct": "mem."}


@click.command()
@click.argument("table", metavar="FILE")
@click.option("--model", "model_name", required=True, metavar="NAME|PATH", help="Built-in name, or a config.json.")
@click.option("--hw", "hw_name", required=True, metavar="NAME|PATH", help="Built-in device, or a profile's TOML.")
@click.option(
    "--fit-on",
    metavar="NAMES",
    help="Benchmarks to fit the common constants on, between commas; the others "
    "are predicted.  [default: each in turn]",
)
@click.option("--constants", "constants_file", metavar="FILE", help="Common constants instead of fitted ones.")
@click.option(
    "--save-constants", metavar="FILE", help="Write the constants used, for --constants, with the errors of each split."
)
@click.option(
    "--form",
    type=click.Choice(["tucker", "svd"]),
    default="tucker",
    show_default=True,
    help="Factors of the measured models.",
)
@click.option(
    "--dtype", default="fp16", show_default=True, help="Of the measured models: fp32, tf32, fp16, bf16 or fp8."
)
@click.option(
    "--attention",
    type=click.Choice([each.value for each in Attention]),
    default="unfused",
    show_default=True,
    help="One fused kernel, or separate ones as in old transformers.",
)
@format_option
def command(
    table: str,
    model_name: str,
    hw_name: str,
    fit_on: str | None,
    constants_file: str | None,
    save_constants: str | None,
    form: str,
    dtype: str,
    attention: str,
    fmt: str,
) -> None:
    """Predict a measured table of likelihood-scoring runs, beside the lines to beat.

    FILE is a CSV with the columns layers (empty: dense), rank, benchmark, batch_size, param_reduction_pct,
    latency_s_per_batch, energy_j_per_batch_4gpu, memory_mib_per_gpu, power_w_4gpu, gpu_utilisation_pct. Of a predicted
    benchmark only the dense row is looked at.

    \b
    Example:
      validate replay cost.csv --model llama2-7b --hw a100-sxm-80gb \\
        --fit-on arc_easy
    """
    benchmarks = read_benchmarks(table)
    run = ScoringRun(
        model=load_model(model_name),
        hardware=load_hardware(hw_name),
        form=form,
        dtype=DType.parse(dtype, "dtype", COMPUTE_DTYPES),
        attention=Attention(attention),
    )
    run.hardware.matrix_rate(run.dtype)
    constants = load_constants(constants_file) if constants_file else None
    result = replay(run, benchmarks, chosen(benchmarks, fit_on) if fit_on else (), constants)
    if save_constants:
        _save(Path(save_constants), result)
    if fmt == "json":
        write_json(result.to_json())
    elif fmt == "csv":
        write_csv([_flat(row) for row in result.rows])
    else:
        _print(result)


def _save(path: Path, result: Replay) -> None:
    split = result.splits[0]
    data = {
        "schema": SCHEMA,
        "model": result.run.model.name,
        "hardware": result.run.hardware.name,
        **split.to_json(),
        "splits": [each.to_json() for each in result.splits],
    }
    write_file(path, f"{json.dumps(data, indent=2, allow_nan=False)}\n".encode())


def _flat(row: ReplayRow) -> dict[str, Any]:
    cells: dict[str, Any] = {
        "fit_on": " ".join(row.fit_on),
        "benchmark": row.benchmark,
        "layers": " ".join(map(str, row.row.layers)),
        "rank": row.row.rank,
        "param_reduction_pct": row.row.param_reduction_pct,
    }
    for metric in METRICS:
        for source in ("measured", *PREDICTORS):
            values = getattr(row, source)
            cells[f"{metric}.{source}"] = None if values is None else values[metric]
    return cells


def _print(result: Replay) -> None:
    for split in result.splits:
        _print_split(split)
    rows = []
    for split in result.splits:
        errors = mean_errors(split.rows)
        for metric in METRICS:
            cells = [None if (found := errors[each]) is None else f"{found[metric]:.2f}" for each in PREDICTORS]
            rows.append([_name(split), metric.removesuffix("_pct"), *cells])
    title = f"{result.run.model.name} on {result.run.hardware.name}: mean absolute error in percentage points"
    print_table(title, ["fitted on", "saving", "model", "0.6 line", "fitted line"], rows, left=2)


def _print_split(split: Split) -> None:
    heads = [word for metric in METRICS for word in (_SHORT[metric], "model", "line", "off")]
    rows = [
        [
            row.benchmark,
            f"{row.row.param_reduction_pct:.2f}",
            *(
                f"{value:.2f}"
                for metric in METRICS
                for value in (
                    row.measured[metric],
                    row.predicted[metric],
                    row.null_line[metric],
                    row.predicted[metric] - row.measured[metric],
                )
            ),
        ]
        for row in split.rows
    ]
    title = f"constants from {_name(split)}; parameters cut and savings in %; line: 0.6 x cut"
    print_table(title, ["benchmark", "cut", *heads], rows)
    values = split.constants
    print_lines(
        [
            f"constants: matrix efficiency {values.matrix_efficiency:.3f}, memory efficiency "
            f"{values.memory_efficiency:.3f}, harness {seconds(values.harness_s_per_request, 3)} a request, "
            f"power {values.compute_w:.0f} W computing, "
            f"{values.memory_w:.0f} W moving data, {values.idle_w:.0f} W waiting",
            *(
                f"{each.benchmark}: {each.tokens_per_sequence:.1f} tokens a sequence, the dense run's harness "
                f"{seconds(each.harness_s_per_batch, 3)} a batch"
                for each in split.setups
            ),
            "",
        ]
    )


def _name(split: Split) -> str:
    return ", ".join(split.fit_on) or "a file"
