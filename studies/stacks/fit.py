"""Fits the figures of stacks to published measurements of whole passes, and judges them on sources that are left out.

    python -m studies.stacks.fit whole_models.csv --out hw_profiles/stacks

Errors and intervals are of all rows as shipped, and of rows whose source, or whose whole laboratory, had a part in
neither (`studies.stacks.leave_out`).
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from costmodel.files.write import write_file
from costmodel.hardware.stack import load_stack
from studies.stacks.components import kind_of, points_of
from studies.stacks.figures import NAMES, fit
from studies.stacks.judge import error_rows, null_row, stack_table
from studies.stacks.leave_out import held_out, in_sample, left_out
from studies.stacks.write import write_stacks

ROWS_OUT = Path(__file__).with_name("errors.json")
"""Rows of errors, which `studies.calibrations.fit_shipped` puts into ERRORS.md."""


@click.command()
@click.argument("table", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder of stacks whose figures are set.")
def command(table: Path, out: Path | None) -> None:
    """Fit, judge, print, and write the figures into the stacks' files."""
    points = points_of(table)
    figures = fit(points)
    judged = {
        "in sample": in_sample(points),
        "source left out": left_out(points, lambda point: point.source),
        "laboratory left out": left_out(points, lambda point: point.laboratory),
    }
    for cells in stack_table(points, judged):
        click.echo(" | ".join(cells))
    for stack in sorted({point.stack for point in points}):
        text = ", ".join(
            f"{name} {value:.3g}" for name, value in zip(NAMES, figures(stack, kind_of(load_stack(stack))), strict=True)
        )
        click.echo(f"{stack}: {text}")
    rows = [*error_rows(points, judged), null_row(points)]
    click.echo("\n".join(json.dumps(row) for row in rows))
    if out is not None:
        write_file(ROWS_OUT, (json.dumps({"errors": rows}, indent=1) + "\n").encode())
        write_stacks(out, points, figures, held_out(points, lambda point: point.source))


if __name__ == "__main__":
    command()
