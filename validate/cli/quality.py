"""`validate quality`: perplexity, divergence and accuracy of factored models against the dense one."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from costmodel.cli.common import NamingGroup
from validate.cli.quality_options import quality_options
from validate.cli.quality_report import finish
from validate.cli.starting import note_repaired
from validate.quality.job import Job
from validate.quality.measure import measure_missing
from validate.quality.records import QUALITY, QualityRecord
from validate.store.journal import RecordJournal
from validate.store.settings import load_settings, save_settings

SETTINGS = "quality.json"
_NOT_REMEMBERED = ("out", "resume", "fmt", "stop_after")


class _QualityGroup(NamingGroup):
    """Commands on the records, imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["fit"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != "fit":
            return None
        from validate.cli.quality_fit import command as fit

        return fit

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([("fit", "predict every configuration from those measured")])


@click.group(cls=_QualityGroup, invoke_without_command=True)
@quality_options
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> int:
    """Measure what factoring costs: loss and divergence on text, accuracy on tasks, each paired with the dense model.

    Configurations come from files, SPECs, or a seeded sample of the space; the dense model is always measured. Every
    one leaves a line in DIR/quality.jsonl as soon as it is measured, so a run can be interrupted and resumed.

    \b
    Example:
      validate quality --model my-llama --text heldout.txt --tasks items.jsonl \\
        --decompose "tensors=mlp rank=50%" --decompose "layers=5 form=drop"
    """
    given = {name for name in options if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if ctx.invoked_subcommand is not None:
        if given:
            name = ctx.invoked_subcommand
            raise click.UsageError(
                f"these options belong to a run: {', '.join(sorted(given))}; put the options of {name} after its name"
            )
        return 0
    return measure(options, given)


def measure(options: Mapping[str, Any], given: set[str]) -> int:
    """Run, report, and return the exit code; options not given take the resumed run's values."""
    start = time.monotonic()
    deadline = start + (options["stop_after"] or math.inf)
    folder = Path(options["out"])
    settings = {name: value for name, value in options.items() if name not in _NOT_REMEMBERED}
    earlier = load_settings(folder, SETTINGS) if options["resume"] else None
    if earlier is not None:
        settings |= {name: value for name, value in earlier["options"].items() if name not in given}
    job = Job.read(settings)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with RecordJournal(folder, QUALITY, resume=options["resume"]) as journal:
        note_repaired(journal)
        before = {record.id: record for record in journal.records}
        if earlier is not None:
            job.require_same(earlier)
        save_settings(folder, {**job.fixed, "options": settings}, SETTINGS)
        interrupted = _run(job, journal, deadline)
        records = QUALITY.read(folder)  # from the file: an interrupt may fall between writing and remembering
        if interrupted and not records:
            raise click.Abort
        measured = sum(before.get(record.id) != record for record in records)
        code = finish(folder, records, fmt=options["fmt"], measured=measured, elapsed_s=time.monotonic() - start)
    if interrupted:
        raise click.Abort
    return code


def _run(job: Job, journal: RecordJournal[QualityRecord], deadline: float) -> bool:
    """Measure what has no final record yet; True when interrupted."""
    try:
        measure_missing(job, journal, deadline)
    except KeyboardInterrupt:
        return True
    return False
