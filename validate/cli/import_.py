"""`validate import`: somebody else's timings as tables of measured operations."""

from __future__ import annotations

from pathlib import Path

import click

from costmodel.cli.common import say
from validate.calibration.folder import write_ops
from validate.calibration.importers import FRAMEWORKS, import_aiconfigurator


@click.group()
def command() -> None:
    """Read timings that others publish, so that a device is calibrated without owning one.

    \b
    Example:
        validate import aiconfigurator --system l40s --out l40s-times
        validate fit l40s-times --out l40s.json
    """


@command.command("aiconfigurator")
@click.option("--system", required=True, metavar="NAME", help="System of the database, such as l40s or h200_sxm.")
@click.option("--framework", type=click.Choice(FRAMEWORKS), help="Whose kernels.  [default: the first that has them]")
@click.option("--dtype", type=click.Choice(["bf16", "fp16"]), default="bf16", show_default=True)
@click.option("--hw", "hardware", metavar="NAME", help="Profile to calibrate.  [default: the system's]")
@click.option("--data", type=click.Path(path_type=Path), help="The package's systems/data folder, if not installed.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
def aiconfigurator(
    system: str, framework: str | None, dtype: str, hardware: str | None, data: Path | None, out: Path
) -> None:
    """GEMM and attention times of the optional package aiconfigurator-core (Apache-2.0, 82 MB, Linux x86-64).

    \b
    Example:
        pip install aiconfigurator-core
        validate import aiconfigurator --system h200_sxm --out h200-times
    """
    ops = import_aiconfigurator(system, folder=data, framework=framework, dtype=dtype, hardware=hardware)
    write_ops(out, ops)
    for entry in ops.manifest.provenance:
        say(f"{entry['points']:>7,} {', '.join(entry['classes'])} from {entry['source']}")
    say(f"wrote {out}; next: validate fit {out} --out {ops.manifest.hardware}.json")
