"""`validate fit`: measured times -> a calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import msgspec

from costmodel.cli.common import format_option, print_table, write_csv, write_json
from costmodel.errors import InputError
from costmodel.files.write import write_file
from costmodel.forward.workload import Runtime
from costmodel.hardware.profile import load_hardware
from costmodel.units import COMPUTE_DTYPES, DType
from validate.calibration.fit import fit_calibration
from validate.calibration.folder import MANIFEST, Manifest, MeasuredOps, read_ops
from validate.calibration.tables import read_tables
from validate.cli.fit_records import fit_records, is_records
from validate.cli.progress import WorkBar

SCHEMA = 1
"""Version of the JSON output."""
COLUMNS = (
    "kind",
    "subset",
    "protocol",
    "points",
    "mean_pct",
    "median_pct",
    "p95_pct",
    "bias_pct",
    "coverage_pct",
    "tau",
    "sign_pct",
)
_TITLES = {"coverage_pct": "covered", "tau": "tau", "sign_pct": "sign right"}


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="DIR|FILES", type=click.Path(path_type=Path))
@click.option(
    "--hw", "hardware", metavar="NAME|PATH", help="Profile of the device.  [default: the folder's tables.json]"
)
@click.option("--dtype", metavar="T", help="Type that was measured.  [default: the folder's, or bf16]")
@click.option(
    "--probes",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With records: a calibration from probes of the device to stand on, instead of its datasheet.",
)
@click.option("--also", multiple=True, metavar="T", help="Further type that the calibration may serve; repeatable.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Calibration file to write.  [default: calibration.json in a run's folder]",
)
@format_option
def command(
    paths: tuple[Path, ...],
    hardware: str | None,
    dtype: str | None,
    also: tuple[str, ...],
    out: Path | None,
    fmt: str,
    probes: Path | None,
) -> None:
    """Fit a calibration to measured operations and print its errors on shapes held out.

    DIR holds tables.json and CSV tables, as `validate probe` and `validate import` write them; FILES are .csv or
    .parquet tables with columns m, n, k, latency_us (GEMM) or batch_size, q_len, past_len, num_heads,
    num_key_value_heads, head_dim, latency_us (attention). A run's folder or .jsonl files of records give a calibration
    of level samples. Needs no torch and no device.

    \b
    Example:
        validate fit l40s-times --out l40s.json
        costmodel estimate --model llama3-8b --hw l40s --calibration l40s.json
    """
    if is_records(paths):
        out, rows, name = fit_records(paths, hardware, out, probes)
        print_errors(out, rows, name, fmt)
        return
    if probes is not None:
        raise InputError(
            "--probes is for records of whole passes", value=str(paths[0]), allowed="a run's folder or .jsonl files"
        )
    if out is None:
        raise InputError("--out is missing", hint="name the calibration file to write")
    folder = paths[0] if len(paths) == 1 and (paths[0] / MANIFEST).is_file() else None
    ops = read_ops(folder) if folder is not None else None
    tables = read_tables(paths) if ops is None else ops.tables
    hardware = hardware or (ops.manifest.hardware if ops else None)
    if hardware is None:
        raise InputError("--hw is missing", hint=f"name the device's profile, or give a folder with {MANIFEST}")
    profile = load_hardware(hardware)
    kind = DType.parse(dtype or (ops.manifest.dtype if ops else "bf16"), allowed=COMPUTE_DTYPES)
    served = [DType.parse(each, "--also", COMPUTE_DTYPES) for each in also]
    if ops is None:
        sources = ", ".join(path.name for path in paths)
        manifest = Manifest(
            hardware=profile.name,
            dtype=kind.value,
            runtimes=[each.value for each in (Runtime if profile.asynchronous else [Runtime.EAGER])],
            provenance=[{"classes": sorted(tables), "source": sources, "licence": "unknown"}],
        )
        ops = MeasuredOps(manifest=manifest, tables=tables)
    else:
        ops = replace(ops, manifest=msgspec.structs.replace(ops.manifest, dtype=kind.value))
    with WorkBar() as bar:
        fit = fit_calibration(ops, profile, served=served, show=bar.show)
    write_file(out, fit.to_bytes())
    print_errors(out, fit.content["errors"], profile.name, fmt)


def _figure(name: str, value: float) -> str:
    return f"{value:.2f}" if name == "tau" else f"{value:.1f} %"


def print_errors(out: Path, rows: Sequence[Mapping[str, Any]], hardware: str, fmt: str) -> None:
    """The error table."""
    if fmt == "json":
        write_json({"schema": SCHEMA, "calibration": str(out), "hardware": hardware, "errors": rows})
    elif fmt == "csv":
        write_csv([{name: row.get(name) for name in COLUMNS} for row in rows])
    else:
        shown = [name for name in COLUMNS[4:] if any(name in row for row in rows)]
        columns = ["class", "subset", "held out", "points", *(_TITLES.get(name, name[:-4]) for name in shown)]
        cells = [
            [
                row["kind"],
                row["subset"],
                row["protocol"],
                f"{row['points']:,}",
                *(_figure(name, row[name]) if name in row else None for name in shown),
            ]
            for row in rows
        ]
        print_table(f"{out}: predicted / measured - 1", columns, cells, left=3)
