"""`costmodel graph`: the layer graph of a model, dense beside factored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from costmodel.cli.common import format_option, print_lines, print_table, warn_of, write_csv, write_json
from costmodel.cli.options import options_of
from costmodel.decomposition.settings import DecompositionSettings
from costmodel.errors import InputError
from costmodel.files.write import write_file
from costmodel.pricing.estimate import estimate
from costmodel.pricing.setup import WorkloadSettings
from costmodel.show.figure import Theme, file_kind
from costmodel.show.layer_graph import LayerGraph, layer_graphs
from costmodel.units import percent, seconds

SCHEMA = 1
"""Version of the JSON output."""


@click.command()
@options_of(WorkloadSettings, "workload")
@options_of(DecompositionSettings, "configuration")
@click.option("-o", "--output", metavar="FILE.svg|graphml|mermaid", help="Write the graph into this file.")
@click.option(
    "--theme", type=click.Choice(["light", "dark"]), default="light", show_default=True, help="Colours of an SVG."
)
@format_option
def command(
    workload: WorkloadSettings, configuration: DecompositionSettings, output: str | None, theme: Theme, fmt: str
) -> None:
    """Show how data flows through a model's layers, dense beside factored, with bytes and times.

    Layers that are wired alike are folded into one block. Without -o the blocks are printed only.

    \b
    Example:
      costmodel graph --model llama2-7b --hw a100-sxm-80gb --phase decode \\
        --decompose "layers=8-23 tensors=all rank=256" -o graph.svg
    """
    kind = file_kind(Path(output), ("svg", "graphml", "mermaid")) if output is not None else ""
    if "," in workload.hw and not Path(workload.hw).exists():
        raise InputError("a graph is of one device", value=workload.hw, hint="name one, or use costmodel estimate")
    setup = workload.setup()
    warn_of(configuration, setup.model)
    result = estimate(
        setup.model,
        setup.hardware,
        configuration.load(setup.model),
        setup.workloads,
        calibration=setup.calibration,
    )
    title, graphs = layer_graphs(result)
    if output is not None:
        write_file(Path(output), _drawn(title, graphs, kind, theme))
    if fmt == "json":
        write_json({"schema": SCHEMA, "title": title, "graphs": [_json(each) for each in graphs], "output": output})
    elif fmt == "csv":
        write_csv(
            {"phase": g.phase, "variant": g.variant, **data} for g in graphs for _, data in g.graph.nodes(data=True)
        )
    else:
        print_lines([title])
        columns = ["pass", "block", "operations", "time", "share"]
        print_table("Layers wired alike", columns, [row for each in graphs for row in _rows(each)], left=2)
        print_lines([f"wrote {output}"] if output is not None else [])


def _drawn(title: str, graphs: list[LayerGraph], kind: str, theme: Theme) -> bytes:
    if kind == "svg":
        from costmodel.show.layer_picture import layer_svg

        return layer_svg(title, graphs, theme).encode()
    from costmodel.show.layer_files import graphml, mermaid

    return graphml(title, graphs) if kind == "graphml" else mermaid(title, graphs).encode()


def _json(graph: LayerGraph) -> dict[str, Any]:
    return {
        "phase": graph.phase,
        "variant": graph.variant,
        "latency_s": graph.latency_s,
        "blocks": [{"name": b.name, "layers": b.layers, "latency_s": b.latency_s} for b in graph.blocks],
        "nodes": [{"name": name, **data} for name, data in graph.graph.nodes(data=True)],
        "edges": [
            {"source": source, "target": target, **data} for source, target, data in graph.graph.edges(data=True)
        ],
    }


def _rows(graph: LayerGraph) -> list[list[object]]:
    return [
        [
            f"{graph.variant} {graph.phase}",
            block.name,
            sum(graph.graph.nodes[name]["kind"] != "entry" for name in graph.nodes_of(block)),
            seconds(block.latency_s),
            percent(block.latency_s / graph.latency_s if graph.latency_s else 0.0),
        ]
        for block in graph.blocks
    ]
