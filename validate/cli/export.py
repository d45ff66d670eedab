"""`validate export`: a factored or dense folder as a file that another runtime loads."""

from __future__ import annotations

import time
from pathlib import Path

import click

from costmodel.cli.common import NamingGroup, say
from costmodel.cli.progress import Working
from costmodel.errors import InputError
from costmodel.units import seconds, si
from validate.cli.progress import LOADING, is_loading


@click.group(cls=NamingGroup)
def command() -> None:
    """Write a checkpoint, dense or of `validate apply`, in the format of another runtime.

    \b
    Example:
        validate export onnx my-model-factored --out my-model.onnx
    """


@command.command("onnx")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="File to write.")
def onnx(folder: Path, out: Path) -> None:
    """A decoder as one ONNX file, for prefill and decode with a cache, of any batch and length.

    Inputs: input_ids (batch, new) and past_key_values.L.key and .value (batch, kv heads, past, head_dim), past 0 for a
    prompt. Outputs: logits of the last position and present.L.key and .value. It is run once by ONNX Runtime and
    compared with PyTorch before it is kept.

    \b
    Example:
        pip install -c constraints.txt '.[onnx]'
        validate export onnx my-model-factored --out my-model.onnx
    """
    started = time.monotonic()
    if out.suffix.lower() != ".onnx":
        raise InputError("--out", value=str(out), allowed="a file named .onnx")
    if out.exists() or not out.parent.is_dir():
        raise InputError("--out", value=str(out), allowed="a new file in a folder that exists")
    with Working(LOADING, at_once=is_loading(LOADING)) as working:
        from transformers.utils import logging

        from validate.runtimes.export import require_onnx
        from validate.runtimes.folder import export_folder

        require_onnx()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        working.status(f"exporting {folder}")
        off = export_folder(folder, out, working.status)
    say(
        f"{out}: {si(out.stat().st_size, 'B')}, outputs of ONNX Runtime and PyTorch differ by at most {off:.1e} of the "
        f"largest, {seconds(time.monotonic() - started, 3)}"
    )
