"""Repeats the paper's case studies on a trained model: rank, tensors, number, place and spacing of layers, and budget.

    python -m studies.models.train --out models
    python -m studies.paper.run --model models/llama --text models/llama/heldout.txt \\
        --calibration-text models/llama/calibration.txt --out studies/llama

Some 260 configurations for a model of 8 layers: plain factors, whitened factors, and layers dropped. Records go to
DIR/quality.jsonl as they are measured, so an interrupted run continues where it was; from them alone come
DIR/case_studies.md, DIR/case_studies.json and DIR/figures.
"""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from costmodel.cli import run
from costmodel.files.write import write_file
from studies.paper.figures import draw
from studies.paper.findings import findings, twins
from studies.paper.points import case_studies
from studies.paper.report import to_json, to_markdown
from studies.paper.results import Results
from validate.cli.progress import RunProgress
from validate.errors import RunError
from validate.quality.job import Job
from validate.quality.measure import measure_missing
from validate.quality.records import QUALITY
from validate.quality.settings import QualitySettings
from validate.store.journal import Journal


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--model", required=True, metavar="DIR", help="Checkpoint with a tokenizer.")
@click.option("--text", required=True, metavar="FILE", help="Text to predict, one that the model was not trained on.")
@click.option("--calibration-text", required=True, metavar="FILE", help="Text for whitened factors.")
@click.option(
    "--tasks",
    multiple=True,
    metavar="FILE.jsonl",
    help="Local items, for accuracies beside NLL; takes several times longer.",
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Items of each task.")
@click.option("--blocks", type=click.IntRange(2), default=64, show_default=True, help="Blocks of the text.")
@click.option("--length", type=click.IntRange(2), help="Tokens of a block.  [default: 256, or what the model takes]")
@click.option("--calibration-blocks", type=click.IntRange(1), help="Blocks of the calibration text.")
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Blocks that run together.")
@click.option("--threads", type=click.IntRange(1), help="Threads on a CPU.  [default: torch's]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--stop-after", type=click.FloatRange(1), metavar="SECONDS", help="Start no further one after this long.")
@click.option("--out", required=True, metavar="DIR", help="Where records, page and figures go.")
def command(out: str, stop_after: float | None, **options: Any) -> None:
    """Repeat the paper's case studies on a trained model, with whitened factors and dropped layers beside each."""
    start = time.monotonic()
    given = {name: value for name, value in options.items() if value is not None}
    job = Job.read(QualitySettings(**given, factors="whitened"))
    points = case_studies(job.spec)
    job = replace(job, cases=list({job_id(job, point.case): point.case for point in points}.values()))
    folder = Path(out)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Journal(folder, QUALITY, resume=True) as journal:
        job.keep(journal)
        before = len(journal.records)
        measure_missing(job, journal, lambda: RunProgress("configuration"), start + (stop_after or math.inf))
        records = QUALITY.read(folder)
    known = {record.id for record in records}
    missing = sum(job_id(job, case) not in known for case in job.cases)
    elapsed = time.monotonic() - start
    click.echo(f"{len(records) - before} of {len(job.cases) + 1} configurations measured now, in {elapsed:.0f} s")
    if missing:
        raise RunError(f"{missing} configurations are not measured yet", hint="the same command continues")
    results = Results(points, records)
    figures, found, pairs = draw(results, folder / "figures"), findings(results), twins(results)
    write_file(folder / "case_studies.json", json.dumps(to_json(results, found, pairs), indent=1).encode() + b"\n")
    page = to_markdown(results, found, pairs, {study: f"figures/{name}" for study, name in figures.items()})
    write_file(folder / "case_studies.md", page.encode())
    for each in found:
        click.echo(each.line())
    click.echo(f"wrote {folder / 'case_studies.md'}, {folder / 'case_studies.json'}, {folder / 'figures'}")


def job_id(job: Job, case: Any) -> str:
    """The id of a case's record."""
    identity: str = case.id(job.spec, job.model.sha256)
    return identity


if __name__ == "__main__":
    sys.exit(run(command, sys.argv[1:]))  # type: ignore[arg-type]
