"""`validate import`: somebody else's timings as tables of measured operations, and models of another format."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from costmodel.cli.common import NamingGroup, say
from costmodel.cli.progress import Working
from validate.calibration.folder import write_ops
from validate.calibration.importers import FRAMEWORKS, import_aiconfigurator
from validate.cli.progress import LOADING, is_loading


@click.group(cls=NamingGroup)
def command() -> None:
    """Read timings that others publish, so that a device is calibrated without owning one; and models in GGUF.

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
    with Working(f"reading the times of {system}"):
        ops = import_aiconfigurator(system, folder=data, framework=framework, dtype=dtype, hardware=hardware)
        write_ops(out, ops)
    for entry in ops.manifest.provenance:
        say(f"{entry['points']:>7,} {', '.join(entry['classes'])} from {entry['source']}")
    say(f"wrote {out}; next: validate fit {out} --out {ops.manifest.hardware}.json")


@command.command("gguf")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dtype", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder to write.")
def gguf(file: Path, dtype: Literal["fp32", "bf16", "fp16"], out: Path) -> None:
    """A GGUF file as an ordinary checkpoint with safetensors and a tokenizer; its weights are dequantised.

    \b
    Example:
        pip install -c constraints.txt '.[gguf]'
        validate import gguf SmolLM2-135M-Instruct.Q4_1.gguf --out smollm2
    """
    with Working(LOADING, at_once=is_loading(LOADING)) as working:
        from transformers.utils import logging

        from validate.checkpoint.gguf import import_gguf

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        working.status(f"reading {file}")
        found = import_gguf(file, out, dtype, working.status)
    if found.left_out:
        say(
            f"warning: {', '.join(found.left_out)} of the file: transformers reads no scaling of positions from GGUF; "
            "the folder's model has none until config.json says it",
            err=True,
        )
    types = ", ".join(f"{count} {name}" for name, count in found.types.items())
    say(f"{out}: {found.architecture}, {found.params:,} parameters in {dtype}, dequantised from {types}")
