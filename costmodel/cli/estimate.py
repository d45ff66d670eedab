"""`costmodel estimate`: price one configuration."""

from __future__ import annotations

from typing import Any

import click

from costmodel import report
from costmodel.cli.common import format_option, print_lines, print_table, write_csv, write_json
from costmodel.cli.workload_options import decomposition_options, read_decomposition, read_setup, workload_options
from costmodel.estimate import Estimate, estimate
from costmodel.spec_text import describe


@click.command()
@workload_options
@decomposition_options
@click.option("--ops", "show_ops", is_flag=True, help="List every operation (JSON always does).")
@format_option
def command(specs: tuple[str, ...], config_file: str | None, show_ops: bool, fmt: str, **options: Any) -> None:
    """Price one rank configuration of a model on a device.

    \b
    Example:
      costmodel estimate --model llama2-7b --hw a100-sxm-80gb \\
        --decompose "layers=2,17,31 tensors=all rank=1 form=tucker"

    \b
    SPEC: key=value words.
      layers   all, 5, 8-23, 0-30:2, joined by commas   [default: all]
      tensors  names or groups (all, attn, mlp)         [default: all]
      rank     a number, or P% of break-even
      form     svd (two factors), tucker (three), dense (restores), drop (whole layers)   [default: svd]
    """
    setup = read_setup(**options)
    decomposition = read_decomposition(setup.model, specs, config_file)
    result = estimate(
        setup.model, setup.hardware, decomposition, setup.workloads, calibration=setup.calibration,
        new_tokens=setup.new_tokens,
    )  # fmt: skip
    if fmt == "json":
        write_json(result.to_json())
    elif fmt == "csv":
        write_csv(
            [{"phase": p.workload.phase.value, **row} for p in result.phases for row in p.op_rows()]
            if show_ops
            else report.csv_rows(result)
        )
    else:
        _print(result, show_ops)


def _print(result: Estimate, show_ops: bool) -> None:
    print_lines([
        f"{result.model.name} on {result.hardware.name}",
        f"configuration: {describe(result.decomposition, result.model)}",
    ])  # fmt: skip
    for phase in result.phases:
        print_table(report.phase_title(phase), ["", "dense", "decomposed", "saved"], report.phase_rows(phase))
        print_lines([f"verdict: {phase.verdict.text}"])
        columns = ["operations", "number", "dense time", "time", "share", "limited by"]
        print_table("where the device's time goes", columns, report.op_groups(phase))
        if show_ops:
            rows = phase.op_rows()
            print_table(
                "operations", list(rows[0]), [[_short(value) for value in row.values()] for row in rows], left=2
            )
    if result.request:
        title = f"request: {result.request.prompt_tokens} prompt tokens, {result.request.new_tokens} decode steps"
        print_table(title, ["", "dense", "decomposed", "saved"], report.request_rows(result.request))
    columns = ["tensor", "shape", "break-even svd", "break-even tucker", "rank here"]
    print_table("ranks", columns, report.break_even_rows(result))
    print_lines([f"assumption: {text}" for text in result.assumptions])
    print_lines([f"warning: {text}" for text in result.warnings])


def _short(value: object) -> str | None:
    return None if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
