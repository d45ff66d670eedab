"""`validate probe`: micro-benchmarks that characterise a device, and the calibration they give."""

from __future__ import annotations

import math
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from costmodel.forward.workload import Runtime
from costmodel.hardware.profile import HardwareProfile
from costmodel.units import COMPUTE_DTYPES, DType
from validate.cli.progress import WorkBar
from validate.cli.starting import note_repaired, pin_and_warn
from validate.probes.plan import ProbePlan, probe_plan
from validate.probes.ranks import rank_plan
from validate.probes.records import OPS, OpRecord
from validate.probes.run import PASSES, run_probe, turns
from validate.store.journal import Journal
from validate.store.settings import load_settings, require_same, save_settings

if TYPE_CHECKING:
    from validate.devices.device import Device

SETTINGS = "probe.json"
_LIMITS = {"cpu": (1024, 0.1, 0.008), "cuda": (16384, 0.02, 0.1)}
"""Largest number of rows; seconds of peak compute and share of memory that one operation may take."""


@click.command()
@click.option(
    "--hw",
    "hardware",
    default="auto",
    show_default=True,
    metavar="auto|NAME|PATH",
    help="Profile of the device; auto matches its name, or writes a minimal profile of a CPU.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--threads", type=click.IntRange(1, 4096), help="Threads on a CPU.  [default: physical cores that it may use]"
)
@click.option(
    "--dtype",
    type=click.Choice(["auto", *(each.value for each in COMPUTE_DTYPES)]),
    default="auto",
    show_default=True,
    help="auto: fp32 on a CPU, bf16 on CUDA.",
)
@click.option(
    "--plan",
    type=click.Choice(["device", "ranks"]),
    default="device",
    show_default=True,
    help="What a calibration needs, or what ranks cost that are no multiple of 64.",
)
@click.option(
    "--points",
    type=click.IntRange(200, 20_000),
    default=600,
    show_default=True,
    help="Operations of the plan `device`: about a second for ten of them.",
)
@click.option(
    "--passes",
    type=click.IntRange(1, 100),
    default=PASSES,
    show_default=True,
    help="Times that the whole plan is gone through.",
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of the plan.")
@click.option("--resume", is_flag=True, help="Continue the probe in DIR.")
@click.option(
    "--stop-after",
    type=click.FloatRange(1),
    metavar="SECONDS",
    help="Begin no operation after this time; --resume continues.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder to write.")
def command(**options: Any) -> int:
    """Time GEMMs, attention and element-wise kernels, and fit a calibration to them.

    Every turn of an operation is a line in DIR/ops.jsonl as soon as it is taken, so a probe can be interrupted and
    resumed. In the end it writes DIR/*.csv and DIR/tables.json, which `validate fit` reads, DIR/calibration.json, and
    for an unknown CPU DIR/hardware.toml. With `--plan ranks` it writes DIR/ranks.csv and DIR/ranks.svg instead.

    \b
    Example:
        validate probe --out my-device
        costmodel estimate --model gpt2 --dtype fp32 --hw my-device/hardware.toml \\
            --calibration my-device/calibration.json
    """
    deadline = time.monotonic() + (options["stop_after"] or math.inf)
    used = pin_and_warn(options["threads"], options["device"])
    from validate.cli.probe_report import fit_device, say_ranks
    from validate.devices.hardware_match import hardware_for
    from validate.devices.opening import open_device

    out: Path = options["out"]
    device = open_device(options["device"], used)
    auto = "fp32" if device.kind == "cpu" else "bf16"
    kind = DType.parse(auto if options["dtype"] == "auto" else options["dtype"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Journal(out, OPS, resume=options["resume"]) as journal:
        profile = hardware_for(options["hardware"], device, out)
        settings = {
            "device_name": device.name,
            "threads": getattr(device, "threads", None),
            "dtype": kind.value,
            **{name: options[name] for name in ("plan", "points", "passes", "seed")},
        }
        earlier = load_settings(out, SETTINGS)
        if earlier is not None and journal.records:
            require_same(earlier, settings, sorted(settings))
        save_settings(out, settings, SETTINGS)
        if not _measure(options, device, kind, _plan(options, device, profile, kind), journal, deadline):
            return 0
        if options["plan"] == "ranks":
            say_ranks(out, journal.records, device.name, kind)
        else:
            fit_device(out, journal.records, device, profile, kind, options["seed"])
    return 0


def _plan(options: dict[str, Any], device: Device, profile: HardwareProfile, kind: DType) -> ProbePlan:
    rows, seconds, share = _LIMITS[device.kind]
    limits: dict[str, Any] = {
        "max_rows": rows,
        "max_flops": seconds * profile.matrix_rate(kind),
        "max_bytes": share * device.memory_bytes,
        "element_bytes": kind.bits // 8,
    }
    if options["plan"] == "ranks":
        return rank_plan(**limits)
    return probe_plan(options["points"], options["seed"], **limits)


def _measure(
    options: dict[str, Any],
    device: Device,
    kind: DType,
    plan: ProbePlan,
    journal: Journal[OpRecord],
    deadline: float,
) -> bool:
    """Take the turns that are missing; whether none is left."""
    from validate.probes.microbench import Microbench

    note_repaired(journal)
    order = turns(plan, options["passes"], options["seed"])
    runtime = Runtime.EAGER if device.kind == "cpu" else Runtime.GRAPH
    whole = False
    try:
        with WorkBar() as bar:
            bar.show("preparing", 0, len(order))
            bench = Microbench(device, kind, runtime, options["seed"])
            whole = run_probe(bench, order, journal, lambda done: bar.show("timing", done, len(order)), deadline)
    finally:
        if not whole:
            click.echo(f"{len(journal.records)} of {len(order)} turns are taken; --resume continues")
    failed = [record for record in journal.records if record.failure is not None]
    if failed:
        first = f"{failed[0].kind} {failed[0].shape}: {failed[0].failure.reason}"  # type: ignore[union-attr]
        click.echo(f"warning: turns failed: {len(failed)}; the first was {first}", err=True)
    if stopped := sum(record.quota_stops > 0 for record in journal.records):
        note = "turns during which the container's CPU quota stopped the process"
        click.echo(f"warning: {note}: {stopped} of {len(journal.records)}", err=True)
    return whole
