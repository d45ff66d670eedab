"""What `validate probe` writes and prints when every turn has been taken."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from costmodel.cli.common import print_table, say, write_csv
from costmodel.files.write import write_file
from costmodel.forward.workload import Runtime
from costmodel.hardware.profile import HardwareProfile
from costmodel.units import DType, percent
from validate.calibration.fit import fit_calibration
from validate.calibration.folder import Manifest, MeasuredOps, write_ops
from validate.calibration.shaped import rounded
from validate.cli.progress import WorkBar
from validate.devices.device import Device
from validate.devices.environment import environment
from validate.probes.launch import module_launch_seconds
from validate.probes.microbench import host_launch_seconds, tables_from
from validate.probes.rank_figure import rank_plot
from validate.probes.ranks import MULTIPLES, noise, rank_effects, rank_points
from validate.probes.records import OpRecord, quiet_seconds

CALIBRATION = "calibration.json"
RANKS = "ranks"


def fit_device(
    out: Path, records: Sequence[OpRecord], device: Device, profile: HardwareProfile, kind: DType, seed: int
) -> None:
    """Write the tables, fit them, and print the errors."""
    quiet = quiet_seconds(records)
    tables, streams = tables_from(quiet, kind.bits // 8)
    launch = host_launch_seconds(device) if profile.asynchronous else None
    modules = module_launch_seconds(device) if profile.asynchronous else None
    runtimes = [Runtime.EAGER, Runtime.GRAPH] if profile.asynchronous else [Runtime.EAGER]
    passes = 1 + max(record.turn for record in records)
    provenance = [
        {
            "classes": [*tables, *(table.kind for table in streams)],
            "points": len(quiet),
            "dtype": kind.value,
            "source": f"validate probe on {device.name}, seed {seed}",
            "licence": "own measurement",
            "method": f"{passes} passes over a shuffled plan, tenth percentile of the calls, weights rotated",
            "environment": environment(device),
        }
    ]
    manifest = Manifest(
        hardware=profile.name,
        dtype=kind.value,
        runtimes=[each.value for each in runtimes],
        provenance=provenance,
        host_launch_s=launch,
        module_launch_s=modules,
    )
    ops = MeasuredOps(manifest=manifest, tables=tables, streams=streams)
    write_ops(out, ops)
    with WorkBar() as bar:
        fit = fit_calibration(ops, profile, show=bar.show)
    write_file(out / CALIBRATION, fit.to_bytes())
    columns = ["class", "subset", "points", "mean", "median", "p95", "bias"]
    cells = [
        [
            row["kind"],
            row["subset"],
            row["points"],
            *(f"{row[name]:.1f} %" for name in ("mean_pct", "median_pct", "p95_pct", "bias_pct")),
        ]
        for row in fit.content["errors"]
    ]
    print_table(f"{out / CALIBRATION}: predicted / measured - 1 on shapes held out", columns, cells, left=2)


def say_ranks(out: Path, records: Sequence[OpRecord], device: str, kind: DType) -> None:
    """Write every rank's time beside its neighbours', draw them by class, and print medians."""
    points = rank_points(quiet_seconds(records))
    effects = rank_effects(points)
    halves = [quiet_seconds([record for record in records if record.turn % 2 == half]) for half in (0, 1)]
    floor = noise(*halves)
    columns = ("role", "rows", "rank", "multiple", "seconds", "to_line", "to_padded")
    figures = [[getattr(point, name) for name in columns] for point in points]
    text = io.StringIO()
    write_csv([dict(zip(columns, [*row[:4], *map(rounded, row[4:])], strict=True)) for row in figures], text)
    write_file(out / f"{RANKS}.csv", text.getvalue().encode())
    title = f"{device}, {kind.value}: ranks between two multiples of 64; passes differ by {percent(floor)}"
    write_file(out / f"{RANKS}.svg", rank_plot(effects, title, "svg"))
    rows = sorted({(each.role != "n", each.role, each.rows) for each in effects})
    found = {(each.role, each.rows, each.multiple): each for each in effects}
    cells = []
    for _, role, m in rows:
        chosen = [found.get((role, m, each)) for each in MULTIPLES]
        cells.append([role, m, *(None if each is None else f"{each.to_padded[1]:.2f}" for each in chosen)])
    print_table(
        f"{out / RANKS}.csv: median time / time of the next multiple of 64, by the power of two that divides the rank",
        ["rank is", "m", *map(str, MULTIPLES)],
        cells,
        left=1,
    )
    say(f"above 1: the rank padded with zeros is faster. Odd and even passes differ by {percent(floor)}")
