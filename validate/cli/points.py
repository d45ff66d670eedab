"""`validate points`: published measurements of whole models against the model."""

from __future__ import annotations

from pathlib import Path

import click

from costmodel.cli.common import format_option, print_table, write_csv, write_json
from validate.replay.points import predict_points, read_points, summarise

SCHEMA = 1


@click.command("points")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@format_option
def command(file: Path, fmt: str) -> None:
    """Put each row of FILE, a measurement of a whole model, to the model, and say how wrong it is.

    FILE is CSV with the columns model_config (a name, or a path beside FILE), dtype, batch, seq, phase, kind, measured,
    hw and stack; new_tokens, weight_dtype, attention, lm_head and decompose where they say something.

    \b
    Example:
        validate points my-measurements.csv --format json
    """
    rows = predict_points(read_points(file), file.parent)
    summary = summarise(rows)
    if fmt == "json":
        write_json({"schema": SCHEMA, "rows": [row.to_json() for row in rows], "summary": summary})
    elif fmt == "csv":
        write_csv([row.to_json() for row in rows])
    else:
        columns = ["device", "stack", "kind", "points", "median |%|", "mean |%|", "median %", "worst %", "inside %"]
        cells = [
            [
                str(row["device"]),
                str(row["stack"]),
                str(row["kind"]),
                str(row["points"]),
                *(
                    f"{row[name]:.1f}"
                    for name in ("median_abs_pct", "mean_abs_pct", "median_pct", "worst_pct", "inside_pct")
                ),
            ]
            for row in summary
        ]
        print_table("Published measurements against the model", columns, cells, left=3)
