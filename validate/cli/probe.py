"""`validate probe`: micro-benchmarks that characterise a device, and the calibration they give."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from costmodel.cli.common import print_table, write_file
from costmodel.units import COMPUTE_DTYPES, DType
from costmodel.workload import Runtime
from validate.threads import pin_threads, waiting_note

CALIBRATION = "calibration.json"
_LIMITS = {"cpu": (1024, 0.1, 0.008), "cuda": (16384, 0.02, 0.1)}
"""Largest number of rows; seconds of peak compute and share of memory that one operation may take."""


@click.command()
@click.option("--hw", "hardware", default="auto", show_default=True, metavar="auto|NAME|PATH",
              help="Profile of the device; auto matches its name, or writes a minimal profile of a CPU.")  # fmt: skip
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(1, 4096), help="Threads on a CPU.  [default: physical cores]")
@click.option("--dtype", type=click.Choice(["auto", *(each.value for each in COMPUTE_DTYPES)]), default="auto",
              show_default=True, help="auto: fp32 on a CPU, bf16 on CUDA.")  # fmt: skip
@click.option("--points", type=click.IntRange(200, 20_000), default=600, show_default=True,
              help="Operations to time: about a second for ten of them.")  # fmt: skip
@click.option("--passes", type=click.IntRange(1, 100), default=4, show_default=True,
              help="Times that the whole plan is gone through.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of the plan.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
def command(
    hardware: str, device: str, threads: int | None, dtype: str, points: int, passes: int, seed: int, out: Path
) -> None:
    """Time GEMMs, attention and element-wise kernels, and fit a calibration to them.

    Writes DIR/*.csv and DIR/tables.json, which `validate fit` reads, DIR/calibration.json, and for an unknown CPU
    DIR/hardware.toml.

    \b
    Example:
        validate probe --out my-device
        costmodel estimate --model gpt2 --dtype fp32 --hw my-device/hardware.toml \\
            --calibration my-device/calibration.json
    """
    used = pin_threads(threads)
    if note := waiting_note(used):
        click.echo(f"warning: {note}", err=True)
    from validate.device import open_device
    from validate.environment import environment
    from validate.fit import fit_calibration
    from validate.hardware_match import hardware_for
    from validate.microbench import Microbench, tables_from
    from validate.op_tables import Manifest, MeasuredOps, write_ops
    from validate.probe_plan import probe_plan

    out.mkdir(parents=True, exist_ok=True)
    opened = open_device(device, used)
    profile = hardware_for(hardware, opened, out)
    kind = DType.parse(("fp32" if opened.kind == "cpu" else "bf16") if dtype == "auto" else dtype)
    rows, seconds, share = _LIMITS[opened.kind]
    plan = probe_plan(
        points, seed, max_rows=rows, max_flops=seconds * profile.matrix_rate(kind),
        max_bytes=share * opened.memory_bytes, element_bytes=kind.bits // 8,
    )  # fmt: skip
    runtime = Runtime.EAGER if opened.kind == "cpu" else Runtime.GRAPH
    bench = Microbench(opened, kind, runtime, seed)
    total = len(plan) * passes

    def progress(done: int) -> None:
        if sys.stderr.isatty() and (done % 10 == 0 or done == total):
            click.echo(f"\rtiming {done} of {total}", nl=done == total, err=True)

    tables, streams = tables_from(plan, bench.measure(plan, progress, passes), kind.bits // 8)
    launch = bench.host_launch_seconds() if opened.kind == "cuda" else None
    runtimes = [Runtime.EAGER, Runtime.GRAPH] if profile.asynchronous else [Runtime.EAGER]
    found = environment(opened)
    provenance = [{
        "classes": [*tables, *(table.kind for table in streams)], "points": len(plan), "dtype": kind.value,
        "source": f"validate probe on {opened.name}, seed {seed}", "licence": "own measurement",
        "method": f"{passes} passes over a shuffled plan, tenth percentile of the calls, weights rotated",
        "environment": found,
    }]  # fmt: skip
    manifest = Manifest(hardware=profile.name, dtype=kind.value, runtimes=[each.value for each in runtimes],
                        provenance=provenance, host_launch_s=launch)  # fmt: skip
    write_ops(out, MeasuredOps(manifest=manifest, tables=tables, streams=streams))
    fit = fit_calibration(tables, profile, kind, streams=streams, runtimes=runtimes, provenance=provenance,
                          host_launch_s=launch)  # fmt: skip
    write_file(out / CALIBRATION, fit.to_bytes())
    columns = ["class", "subset", "points", "mean", "median", "p95", "bias"]
    cells = [
        [row["kind"], row["subset"], row["points"],
         *(f"{row[name]:.1f} %" for name in ("mean_pct", "median_pct", "p95_pct", "bias_pct"))]
        for row in fit.content["errors"]
    ]  # fmt: skip
    print_table(f"{out / CALIBRATION}: predicted / measured - 1 on shapes held out", columns, cells, left=2)
