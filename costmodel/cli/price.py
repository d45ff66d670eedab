"""`costmodel price`: bare shapes in bulk."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import click

from costmodel.cli.common import say
from costmodel.files.cells import cells, not_finite, plain
from costmodel.files.write import write_file
from costmodel.forward.workload import Runtime
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.layers import price_layers
from costmodel.pricing.shapes import COLLECTIVE_COLUMNS, MOE_COLUMNS, price_shapes, read_shapes, rows_of
from costmodel.timing.calibration.load import find_calibration, time_model
from costmodel.units import COMPUTE_DTYPES, DType

SCHEMA = 1
"""Version of the JSON output."""

_DTYPES = (*COMPUTE_DTYPES, DType.FP8)
"""Types of bare operations: in fp8 GEMMs alone, since attention stays in 16 bits."""


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--hw", "hardware", required=True, metavar="NAME|PATH", help="Built-in hardware profile or a .toml file.")
@click.option(
    "--dtype",
    default="bf16",
    show_default=True,
    help="Element type: bf16, fp16, tf32, fp32, or fp8 for GEMMs with a result in 16 bits.",
)
@click.option(
    "--runtime",
    type=click.Choice(["eager", "graph"]),
    default="eager",
    show_default=True,
    help="Times are the device's; on a CPU, eager includes dispatch.",
)
@click.option(
    "--calibration",
    default="auto",
    show_default=True,
    metavar="FILE|auto|none",
    help="Measured corrections: a file, the shipped one, or none.",
)
@click.option(
    "--format",
    "fmt",
    type=click.Choice(["csv", "json"]),
    default="csv",
    show_default=True,
    help="How to print the result.",
)
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Write to this file instead of printing.")
def command(
    file: Path, hardware: str, dtype: str, runtime: str, calibration: str, fmt: str, output: Path | None
) -> None:
    """Price the bare GEMMs, attention kernels, expert layers or collectives of a .csv or .parquet FILE.

    Columns m, n, k: a linear (m, k) @ (k, n). Columns batch_size, q_len, past_len, num_heads, num_key_value_heads,
    head_dim: causal fused attention. Columns num_tokens, hidden_size, moe_intermediate_size, num_experts_per_tok,
    num_experts, moe_tp_size, moe_ep_size, distribution: a layer's routed experts on the busiest device. Columns
    collective, num_gpus, message_elements: a collective of one server. Other columns are passed through, as texts that
    no terminal obeys and no spreadsheet computes. The same rows come out in the same order with
    latency_s, latency_lower_s, latency_upper_s, latency_p05_s, latency_p95_s and bound: the device's time of the kernel
    alone.

    \b
    Example:
      costmodel price shapes.csv --hw h100-sxm-80gb
    """
    profile, run = load_hardware(hardware), Runtime(runtime)
    kind = DType.parse(dtype, allowed=_DTYPES)
    table = read_shapes(file)
    if table.names in (MOE_COLUMNS, COLLECTIVE_COLUMNS):
        times, level = price_layers(table, profile, kind)
        name: str | None = "moe" if table.names is MOE_COLUMNS else "collectives"
    else:
        found = find_calibration(calibration, profile, kind, run)
        model = time_model(profile, kind, run, found)
        times, level = price_shapes(table, model, kind), model.level
        name = found.name if found else None
    for column, values in table.columns.items():
        if count := not_finite(values):
            say(f"note: column {column} has {count} values that are infinite or no number; they pass through", err=True)
    if fmt == "csv":
        times = {name: _texts(values) for name, values in times.items()}
        table = replace(table, columns={name: cells(values) for name, values in table.columns.items()})
    header, rows = rows_of(table, times)
    facts = {
        "schema": SCHEMA,
        "hardware": profile.name,
        "dtype": kind.value,
        "runtime": run.value,
        "level": level,
        "calibration": name,
    }
    if output is None:
        _write(fmt, facts, header, rows, sys.stdout)
        return
    content = io.StringIO()
    _write(fmt, facts, header, rows, content)
    write_file(output, content.getvalue().encode())


def _texts(values: list[Any]) -> list[Any]:
    """Numbers with nine digits, which is faster to write than all seventeen."""
    return [f"{value:.9g}" for value in values] if values and isinstance(values[0], float) else values


def _write(
    fmt: str, facts: dict[str, Any], header: list[str], rows: Iterator[tuple[Any, ...]], stream: IO[str]
) -> None:
    if fmt == "csv":
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(cells(header))
        writer.writerows(rows)
        return
    start = json.dumps(facts, indent=1, allow_nan=False).removesuffix("\n}")
    stream.write(f'{start},\n "rows": [')
    encode = json.JSONEncoder(allow_nan=False).encode
    for index, row in enumerate(rows):
        stream.write(f"{',' if index else ''}\n  {encode(dict(zip(header, map(plain, row), strict=True)))}")
    stream.write("\n ]\n}\n")
