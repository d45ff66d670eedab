"""`validate probe`: micro-benchmarks that characterise a device, and the calibration they give."""

from __future__ import annotations

import math
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from costmodel.cli.common import say
from costmodel.cli.options import Amount, options_of
from costmodel.errors import InputError
from costmodel.forward.workload import Runtime
from costmodel.hardware.profile import HardwareProfile
from costmodel.units import DType
from validate.cli.options import STARTS, given
from validate.cli.progress import WorkBar
from validate.cli.starting import note_repaired, pin_and_warn, settings_to_resume
from validate.probes.plan import ProbePlan, probe_plan
from validate.probes.ranks import rank_plan
from validate.probes.records import OPS, OpRecord
from validate.probes.run import run_probe, turns
from validate.probes.settings import NAME, ProbeSettings
from validate.store.journal import Journal
from validate.store.settings import keep_settings

if TYPE_CHECKING:
    from validate.devices.device import Device

_LIMITS = {"cpu": (1024, 0.1, 0.008), "cuda": (16384, 0.02, 0.1)}
"""Largest number of rows; seconds of peak compute and share of memory that one operation may take."""


@click.command()
@options_of(ProbeSettings, "settings")
@click.option("--resume", is_flag=True, help=f"Continue the probe in DIR; {STARTS}.")
@click.option(
    "--stop-after",
    type=Amount("s", 1),
    metavar="SECONDS",
    help="Begin no operation after this time; --resume continues.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder to write.")
def command(settings: ProbeSettings, resume: bool, stop_after: float | None, out: Path) -> int:
    """Time GEMMs, attention and element-wise kernels, and fit a calibration to them.

    Every turn of an operation is a line in DIR/ops.jsonl as soon as it is taken, so a probe can be interrupted and
    resumed. In the end it writes DIR/*.csv and DIR/tables.json, which `validate fit` reads, DIR/calibration.json, and
    for an unknown CPU DIR/hardware.toml. With `--plan ranks` it writes DIR/ranks.csv and DIR/ranks.svg instead.

    \b
    Example:
        validate probe --out my-device
        costmodel estimate --model gpt2 --dtype fp32 \\
            --hw my-device/hardware.toml --calibration my-device/calibration.json
    """
    if settings.plan == "ranks" and "points" in given(click.get_current_context()):
        raise InputError("--points is of the plan `device`", value=settings.points, hint="leave it out of --plan ranks")
    if resume:
        settings_to_resume(out, given(click.get_current_context()), NAME)
    deadline = time.monotonic() + (stop_after or math.inf)
    used = pin_and_warn(settings.threads, settings.device)
    from validate.cli.probe_report import fit_device, say_ranks
    from validate.devices.hardware_match import hardware_for
    from validate.devices.opening import open_device

    device = open_device(settings.device, used)
    auto = "fp32" if device.kind == "cpu" else "bf16"
    kind = DType.parse(auto if settings.dtype == "auto" else settings.dtype)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Journal(out, OPS, resume=resume) as journal:
        profile = hardware_for(settings.hw, device, out)
        shared = {
            "device_name": device.name,
            "threads": getattr(device, "threads", None),
            "dtype": kind.value,
            **{name: getattr(settings, name) for name in ("plan", "points", "passes", "seed")},
        }
        keep_settings(out, shared, NAME, continued=bool(journal.records))
        if not _measure(settings, device, kind, _plan(settings, device, profile, kind), journal, deadline):
            return 0
        if settings.plan == "ranks":
            say_ranks(out, journal.records, device.name, kind)
        else:
            fit_device(out, journal.records, device, profile, kind, settings.seed)
    return 0


def _plan(settings: ProbeSettings, device: Device, profile: HardwareProfile, kind: DType) -> ProbePlan:
    rows, seconds, share = _LIMITS[device.kind]
    limits: dict[str, Any] = {
        "max_rows": rows,
        "max_flops": seconds * profile.matrix_rate(kind),
        "max_bytes": share * device.memory_bytes,
        "element_bytes": kind.bits // 8,
    }
    if settings.plan == "ranks":
        return rank_plan(**limits)
    return probe_plan(settings.points, settings.seed, **limits)


def _measure(
    settings: ProbeSettings,
    device: Device,
    kind: DType,
    plan: ProbePlan,
    journal: Journal[OpRecord],
    deadline: float,
) -> bool:
    """Take the turns that are missing; whether none is left."""
    from validate.probes.microbench import Microbench

    note_repaired(journal)
    order = turns(plan, settings.passes, settings.seed)
    runtime = Runtime.EAGER if device.kind == "cpu" else Runtime.GRAPH
    whole = False
    try:
        with WorkBar() as bar:
            bar.show("preparing", 0, len(order))
            bench = Microbench(device, kind, runtime, settings.seed)
            whole = run_probe(bench, order, journal, lambda done: bar.show("timing", done, len(order)), deadline)
    finally:
        if not whole:
            say(f"{len(journal.records)} of {len(order)} turns are taken; --resume continues")
    failed = [record for record in journal.records if record.failure is not None]
    if failed:
        first = f"{failed[0].kind} {failed[0].shape}: {failed[0].failure.reason}"  # type: ignore[union-attr]
        say(f"warning: turns failed: {len(failed)}; the first was {first}", err=True)
    if stopped := sum(record.quota_stops > 0 for record in journal.records):
        note = "turns during which the container's CPU quota stopped the process"
        say(f"warning: {note}: {stopped} of {len(journal.records)}", err=True)
    return whole
