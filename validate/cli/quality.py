"""`validate quality`: perplexity, divergence and accuracy of factored models against the dense one."""

from __future__ import annotations

import math
import signal
import time
from pathlib import Path

import click

from costmodel.cli.common import NamingGroup, format_option, say
from costmodel.cli.options import options_of
from validate.cli.options import cluster_at, given, ray_option, require_used, run_options
from validate.cli.progress import RunProgress
from validate.cli.quality_report import finish
from validate.cli.starting import note_repaired, settings_to_resume
from validate.plans.configs_file import configs_warnings
from validate.quality.job import Job
from validate.quality.measure import measure_missing
from validate.quality.records import QUALITY, QualityRecord
from validate.quality.settings import NAME, QualitySettings
from validate.store.journal import Journal
from validate.store.settings import resumed


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
@options_of(QualitySettings, "settings")
@run_options("quality", "configuration", more="; without new configurations only report")
@ray_option("Measure")
@format_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    out: Path,
    resume: bool,
    stop_after: float | None,
    ray: str | None,
    fmt: str,
    settings: QualitySettings,
) -> int:
    """Measure what factoring costs: loss and divergence on text, accuracy on tasks, each paired with the dense model.

    Configurations come from files, SPECs, or a seeded sample of the space; the dense model is always measured. Every
    one leaves a line in DIR/quality.jsonl as soon as it is measured, so a run can be interrupted and resumed.

    \b
    Example:
      validate quality --model my-llama --text heldout.txt --tasks items.jsonl \\
        --decompose "tensors=mlp rank=50%" --decompose "layers=5 form=drop"
    """
    asked = given(ctx)
    if ctx.invoked_subcommand is not None:
        if asked:
            name = ctx.invoked_subcommand
            raise click.UsageError(
                f"these options belong to a run: {', '.join(sorted(asked))}; put the options of {name} after its name"
            )
        return 0
    start = time.monotonic()
    earlier = settings_to_resume(out, asked, NAME) if resume else None
    settings = resumed(settings, earlier, asked)
    on_tasks, on_text, fitted = (bool(each) for each in (settings.tasks, settings.text, settings.calibration_text))
    require_used(
        asked,
        {
            "limit": ("--tasks", on_tasks),
            "shots": ("--tasks", on_tasks),
            "blocks": ("--text", on_text),
            "length": ("--text", on_text or fitted),
            "calibration_blocks": ("--calibration-text", fitted),
        },
    )
    job = Job.read(settings)
    for text in configs_warnings(job.settings.configs, job.spec):
        say(f"warning: {text}", err=True)
    for text in job.notes:
        say(text, err=True)
    sampled = 1 + sum(case.origin == "sample" for case in job.cases)
    if job.settings.samples is not None and sampled < job.settings.samples:
        say(f"note: {sampled} samples instead of {job.settings.samples}: there are no more distinct ones", err=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Journal(out, QUALITY, resume=resume) as journal:
        note_repaired(journal)
        before = {record.id: record for record in journal.records}
        job.keep(journal)
        interrupted = _run(job, journal, start + (stop_after or math.inf), ray)
        records = QUALITY.read(out)  # from the file: an interrupt may fall between writing and remembering
        if interrupted and not records:
            raise click.Abort
        measured = sum(before.get(record.id) != record for record in records)
        code = finish(out, records, fmt=fmt, measured=measured, elapsed_s=time.monotonic() - start)
    if interrupted:
        raise click.Abort
    return code


def _run(job: Job, journal: Journal[QualityRecord], deadline: float, ray: str | None) -> bool:
    """Measure what has no final record yet; True when interrupted."""
    try:
        with cluster_at(ray) as cluster:
            measure_missing(job, journal, lambda: RunProgress("configuration"), deadline, cluster=cluster)
    except KeyboardInterrupt:
        return True
    return False
