"""`costmodel roofline`: an estimate's operations on the roofline of its device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from costmodel.cli.common import compare_format_option, print_lines, print_table, warn_of, write_csv, write_json
from costmodel.cli.comparison import distinct_phases, print_comparison
from costmodel.cli.options import options_of
from costmodel.decomposition.settings import DecompositionSettings
from costmodel.errors import InputError
from costmodel.files.write import write_file
from costmodel.pricing.comparison import comparison_json
from costmodel.pricing.estimate import Estimate, estimate
from costmodel.pricing.setup import SEVERAL, Setup, WorkloadSettings
from costmodel.pricing.several import IMPOSSIBLE, Refusal, answer_each, questions_of
from costmodel.show.comparison import rooflines_table
from costmodel.show.figure import SUFFIXES, Theme, figure_bytes, file_kind
from costmodel.show.roofline_chart import RooflineChart
from costmodel.units import percent, seconds, si

SCHEMA = 1
"""Version of the JSON output."""


@click.command()
@options_of(WorkloadSettings, "workloads", SEVERAL)
@options_of(DecompositionSettings, "configuration")
@click.option(
    "-o",
    "--output",
    metavar="FILE.png|svg|html",
    help="Draw into this file; html is an interactive page that needs no network.",
)
@click.option(
    "--theme",
    type=click.Choice(["light", "dark"]),
    default="light",
    show_default=True,
    help="Colours of a PNG or SVG; a page follows the reader's setting.",
)
@compare_format_option
def command(
    workloads: tuple[WorkloadSettings, ...],
    configuration: DecompositionSettings,
    output: str | None,
    theme: Theme,
    fmt: str,
) -> None:
    """Show where a model's operations lie on the roofline of a device, dense and decomposed.

    Operations are added up by tensor or kind. Without -o the places are printed only. Several devices, stacks, batches
    or lengths give a table that compares them.

    \b
    Example:
      costmodel roofline --model llama2-7b --hw a100-sxm-80gb \\
        --decompose "layers=8-23 tensors=all rank=256" -o roofline.html
    """
    path = Path(output) if output is not None else None
    kind = file_kind(path, (*SUFFIXES, "html")) if path else ""
    if path and len(workloads) > 1:
        raise InputError("a picture shows one question", value=f"{len(workloads)} of them", hint="leave -o out")
    questions = questions_of(workloads)
    warn_of(configuration, questions[0].model)

    def priced(setup: Setup) -> Estimate:
        decomposition = configuration.load(setup.model)
        return estimate(setup.model, setup.hardware, decomposition, setup.workloads, calibration=setup.calibration)

    results = distinct_phases(answer_each(questions, priced))
    chart = RooflineChart.of(next(each for each in results if isinstance(each, Estimate)))
    if path:
        write_file(path, _drawn(chart, kind, theme))
    if len(results) > 1 or fmt == "markdown":
        _compare(results, fmt)
        return
    if fmt == "json":
        write_json({"schema": SCHEMA, **chart.to_json(), "output": output})
    elif fmt == "csv":
        write_csv(_rows(chart))
    else:
        _print(chart, output)


def _compare(results: Sequence[Estimate | Refusal], fmt: str) -> None:
    charts = [(result, RooflineChart.of(result)) for result in results if isinstance(result, Estimate)]
    if fmt == "json":
        answer = comparison_json(results)
        panels = [panel.to_json() for _, chart in charts for panel in chart.panels]
        told = iter(panels)
        phases = [
            {"workload": entry["workload"], **(_refused(entry, panels[0]) if _is_refused(entry) else next(told))}
            for entry in answer["phases"]
        ]
        write_json({"schema": SCHEMA, "model": answer["model"], "hardware": answer["hardware"], "phases": phases})
    elif fmt == "csv":
        rows = [
            {"hardware": result.hardware.name, "stack": phase.workload.stack, "batch": phase.workload.batch}
            | {"q_len": phase.workload.q_len, "kv_len": phase.workload.kv_len, "phase": panel.phase}
            | {**mark.to_json(), "roles": " ".join(mark.roles)}
            for result, chart in charts
            for phase, panel in zip(result.phases, chart.panels, strict=True)
            for mark in panel.marks
        ]
        write_csv([*rows, *(row for each in results if isinstance(each, Refusal) for row in each.csv_rows())])
    else:
        print_comparison(rooflines_table(results), fmt)


def _is_refused(entry: dict[str, Any]) -> bool:
    return bool(entry["verdict"]["code"] == IMPOSSIBLE)


def _refused(entry: dict[str, Any], like: dict[str, Any]) -> dict[str, Any]:
    """A phase that cannot be answered: nothing but what was asked, and why not."""
    return {**dict.fromkeys(like), "phase": entry["workload"]["phase"], "verdict": entry["verdict"]["text"]}


def _drawn(chart: RooflineChart, kind: str, theme: Theme) -> bytes:
    if kind == "html":
        from costmodel.show.roofline_page import roofline_page

        return roofline_page(chart).encode()
    from costmodel.show.roofline_plot import roofline_figure

    return figure_bytes(roofline_figure(chart, theme), kind)


def _rows(chart: RooflineChart) -> list[dict[str, Any]]:
    return [
        {"phase": panel.phase, **mark.to_json(), "roles": " ".join(mark.roles)}
        for panel in chart.panels
        for mark in panel.marks
    ]


def _print(chart: RooflineChart, output: str | None) -> None:
    print_lines([chart.title, f"configuration: {chart.configuration}"])
    for panel in chart.panels:
        rows = [
            [
                mark.label,
                mark.variant,
                mark.operations,
                f"{mark.work_intensity:.3g} FLOP/B",
                si(mark.flops_per_s, "FLOP/s"),
                seconds(mark.latency_s),
                percent(mark.share),
                mark.bound,
            ]
            for mark in panel.marks
        ]
        columns = ["operations", "variant", "number", "intensity", "achieved", "time", "share", "limited by"]
        print_table(panel.title, columns, rows, left=2)
        print_lines([f"verdict: {panel.verdict}"])
    for roof in chart.roofs:
        ridge = roof.flops_per_s / chart.memory_bytes_per_s
        print_lines([f"roof: {roof.label} {si(roof.flops_per_s, 'FLOP/s')} from {ridge:.3g} FLOP/B on"])
    if output:
        print_lines([f"wrote {output}"])
