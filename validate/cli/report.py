"""`validate report`: table and page from records alone."""

from __future__ import annotations

from pathlib import Path

import click

from costmodel.cli.options import Amount
from validate.cli.reporting import finish
from validate.quality.records import QUALITY
from validate.speed.records import SAMPLES, read_samples


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--fail-above", type=Amount("%", 0), metavar="PCT", help="Exit 1 when the median error is above.")
@click.option(
    "--format",
    "fmt",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="How to print the result.",
)
def command(folder: Path, fail_above: float | None, fmt: str) -> int:
    """Rebuild table and page from the records of a run, timed or of quality; nothing is measured.

    Example: validate report my-run
    """
    if (folder / QUALITY.file).is_file() and not (folder / SAMPLES.file).exists():
        from validate.cli import quality_report

        return quality_report.finish(folder, QUALITY.read(folder), fmt=fmt)
    return finish(folder, read_samples(folder), fmt=fmt, fail_above=fail_above)
