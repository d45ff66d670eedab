"""`costmodel estimate`: price one configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from costmodel.cli.common import compare_format_option, print_lines, print_table, warn_of, write_csv, write_json
from costmodel.cli.options import options_of
from costmodel.decomposition.settings import DecompositionSettings
from costmodel.errors import InputError
from costmodel.files.write import write_file
from costmodel.pricing.estimate import Estimate, estimate
from costmodel.pricing.likely import Likely, likely
from costmodel.pricing.phase_estimate import PhaseEstimate
from costmodel.pricing.setup import SEVERAL, Setup, WorkloadSettings
from costmodel.pricing.several import Refusal, answer_each, questions_of
from costmodel.show import report
from costmodel.show.break_even import break_even_rows, device_break_even_rows
from costmodel.show.figure import Theme, file_kind
from costmodel.units import percent


@click.command()
@options_of(WorkloadSettings, "workloads", SEVERAL)
@options_of(DecompositionSettings, "configuration")
@click.option("--ops", "show_ops", is_flag=True, help="List every operation (JSON always does).")
@click.option("--plot", "plot_file", metavar="FILE.png|svg", help="Draw where the time goes, dense over decomposed.")
@click.option(
    "--theme", type=click.Choice(["light", "dark"]), default="light", show_default=True, help="Colours of the picture."
)
@click.option("--save-recipe", metavar="FILE.toml", help="Write the configuration as a recipe.")
@compare_format_option
def command(
    workloads: tuple[WorkloadSettings, ...],
    configuration: DecompositionSettings,
    show_ops: bool,
    plot_file: str | None,
    theme: Theme,
    save_recipe: str | None,
    fmt: str,
) -> None:
    """Price one rank configuration of a model on a device, or on several side by side.

    \b
    Example:
      costmodel estimate --model llama2-7b --hw a100-sxm-80gb \\
        --decompose "layers=2,17,31 tensors=all rank=1 form=tucker"

    \b
    SPEC, one quoted argument of key=value words:
      layers   all, 5, 8-23, 0-30:2, joined by commas  [default: all]
      tensors  names, or groups all, attn, mlp         [default: all]
      rank     a number, or P% of the break-even rank
      form     svd (two factors) or tucker (three)     [default: svd]
               dense restores, drop skips whole layers; both without rank
    A later SPEC wins site by site; --preset, --recipe or --config applies first.

    --hw, --stack, --tp, --ep, --pp, --batch, --seq-len and --kv-len repeat or take commas: a comparison.
    """
    if plot_file is not None:
        file_kind(Path(plot_file))
    if plot_file is not None and len(workloads) > 1:
        raise InputError("a picture shows one question", value=f"{len(workloads)} of them", hint="leave --plot out")
    if save_recipe is not None:
        from costmodel.decomposition.recipe import require_suffix

        require_suffix(save_recipe)
    questions = questions_of(workloads)
    warn_of(configuration, questions[0].model)

    def priced(setup: Setup) -> Estimate:
        return estimate(
            setup.model,
            setup.hardware,
            configuration.load(setup.model),
            setup.workloads,
            calibration=setup.calibration,
            new_tokens=setup.new_tokens,
        )

    results = answer_each(questions, priced)
    if len(results) > 1:
        from costmodel.cli.comparison import distinct_phases

        results = distinct_phases(results)
    result = next(each for each in results if isinstance(each, Estimate))
    if plot_file is not None:
        from costmodel.show.time_plot import time_plot

        write_file(Path(plot_file), time_plot(result, Path(plot_file), theme))
    if save_recipe is not None:
        from costmodel.decomposition.recipe import recipe_text

        write_file(Path(save_recipe), recipe_text(result.decomposition, result.model).encode())
    if len(results) > 1 or fmt == "markdown":
        _compare(results, show_ops, fmt)
        return
    works = tuple(phase.workload for phase in result.phases)
    others = likely(result.model, result.hardware, result.decomposition, works, workloads[0].calibration)
    if fmt == "json":
        write_json(result.to_json() | {"likely": [each.to_json() for each in others]})
    elif fmt == "csv":
        write_csv(
            [{"phase": p.workload.phase.value, **row} for p in result.phases for row in p.op_rows()]
            if show_ops
            else report.csv_rows(result)
        )
    else:
        _print(result, others, show_ops)
        print_lines([f"wrote {plot_file}"] if plot_file is not None else [])


def _compare(results: Sequence[Estimate | Refusal], show_ops: bool, fmt: str) -> None:
    if fmt == "json":
        from costmodel.pricing.comparison import comparison_json

        write_json(comparison_json(results))
    elif fmt == "csv" and show_ops:
        write_csv(
            {"hardware": result.hardware.name, **phase.workload.to_json(), **row}
            for result in results
            if isinstance(result, Estimate)
            for phase in result.phases
            for row in phase.op_rows()
        )
    elif fmt == "csv":
        write_csv(row for each in results for row in report.comparison_csv_rows(each))
    else:
        from costmodel.cli.comparison import print_comparison
        from costmodel.show.comparison import estimates_table

        print_comparison(estimates_table(results), fmt)


def _part(phase: PhaseEstimate) -> str:
    """What a list of operations is of, where it is not the whole pass."""
    many = phase.workload.microbatches
    return f", one microbatch of {many}" if many > 1 else ""


def _print(result: Estimate, others: Sequence[Likely], show_ops: bool) -> None:
    plain = not result.decomposition.factors and not result.decomposition.dropped
    shown = (0, 1) if plain else (0, 1, 2, 3)
    columns = [("", "dense", "decomposed", "saved")[index] for index in shown]

    def costs(title: str, rows: list[tuple[str, str, str, str]]) -> None:
        print_table(title, columns, [[row[index] for index in shown] for row in rows], fold=False)

    print_lines(
        [
            f"{result.model.name} on {result.hardware.name}",
            f"configuration: {report.configuration_text(result.decomposition, result.model)}",
            "",
        ]
    )
    for phase in result.phases:
        costs(report.phase_title(phase), report.phase_rows(phase))
        if (count := phase.workload.devices) > 1:
            costs(f"{phase.workload.phase.value}: all {count} devices together", report.whole_rows(phase))
        if phase.workload.pp > 1:
            bubble = percent(phase.pipeline()["decomposed"]["bubble"])
            columns_of_stages = ["stage", "layers", "weights", "KV cache", "peak memory", "time"]
            title = f"{phase.workload.phase.value}: a device of each stage, idle for {bubble} of the time"
            print_table(title, columns_of_stages, report.stage_rows(phase), fold=False)
        print_lines([f"{phase.workload.phase.value} verdict: {phase.verdict.text}", ""])
        groups = report.op_groups(phase)
        print_table(
            f"{phase.workload.phase.value}: where the device's time goes",
            ["operations", *([] if plain else ["dense time"]), "number", "time", "share", "limited by"],
            [row[:1] + row[2:] for row in groups] if plain else groups,
            fold=False,
        )
        if show_ops:
            columns_of_ops = ["operation", "m x n x k", "FLOPs", "traffic", "FLOP/B", "time", "limited by"]
            title = f"{phase.workload.phase.value}: operations{_part(phase)}"
            print_table(title, columns_of_ops, report.op_lines(phase), fold=False)
    if result.request:
        tokens = f"{result.request.prompt_tokens} prompt tokens, {result.request.new_tokens} new"
        costs(f"request: {tokens}", report.request_rows(result.request))
    if others:
        open_ = "host" if result.phases[0].workload.stack else "stack"
        print_lines([f"no {open_} was named; on likely ones:"])
        print_lines([f"  {each.text(plain=plain)}" for each in others] + [""])
    ranks = ["tensor", "out x in", "rank here", "layers", "break-even svd", "tucker"]
    print_table(
        "ranks (above break-even a factored weight costs more than the dense one)",
        ranks,
        break_even_rows(result),
        fold=False,
    )
    if devices := device_break_even_rows(result):
        shares = ["tensor", "share of a device", "factors split by", "sites", "break-even svd", "tucker"]
        print_table(
            "ranks above which factors weigh more on a device than its share of dense", shares, devices, fold=False
        )
    print_lines([f"assumption: {text}" for text in result.assumptions])
    print_lines([f"warning: {text}" for text in result.warnings])
