"""`validate apply`: a dense checkpoint and a configuration -> a factored checkpoint."""

from __future__ import annotations

import contextlib
import math
import shlex
import signal
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from costmodel.cli.common import format_option, say, warn_of
from costmodel.cli.options import options_of
from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.settings import DecompositionSettings
from costmodel.errors import DecompositionError, InputError
from costmodel.units import parse_amount, require_unit, si
from validate.checkpoint.choice import Choice, Chosen
from validate.checkpoint.settings import ApplySettings
from validate.cli.apply_report import print_written
from validate.cli.options import given
from validate.cli.progress import LOADING, WorkBar
from validate.errors import RunError

if TYPE_CHECKING:  # these load torch
    import torch

    from validate.checkpoint.makers import Makers
    from validate.checkpoint.manifest import FactorsRecord
    from validate.checkpoint.source import DenseSource

_LENGTH = 256
"""Tokens of a block of calibration text, as `validate quality` takes them."""


@click.command()
@click.option("--model", required=True, metavar="PATH", help="Dense checkpoint: a folder, or a name on the hub.")
@options_of(DecompositionSettings, "configuration")
@options_of(ApplySettings, "settings")
@click.option(
    "--choice",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="choice.json of `validate choose`: exactly what was verified, its kind of factors and calibration included.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder to write; one that exists is refused.",
)
@format_option
def command(
    model: str,
    configuration: DecompositionSettings,
    settings: ApplySettings,
    choice: Path | None,
    out: Path,
    fmt: str,
) -> None:
    """Write a factored checkpoint: every weight that the configuration names becomes its factors.

    Weights pass through memory one at a time. DIR appears when all of it is written and read back; after an interrupt
    the same command takes up the weights that were factored, from .DIR.partial. DIR holds
    factored*.safetensors, factored.json (ranks, errors, source, hashes), config.json and the tokenizer of the dense
    model, decomposition.json and recipe.toml for `costmodel estimate`. After `import validate.hf` from_pretrained of
    transformers loads it; without, it refuses. With --merged DIR is an ordinary dense checkpoint instead.

    \b
    Example:
        validate apply --model my-model --decompose "layers=2-5 rank=50%" \\
            --out my-model-factored
        validate apply --model my-model --choice loop/choice.json \\
            --calibration-text text.txt --out my-model-chosen
    """
    started = time.monotonic()
    shard_bytes = parse_size(settings.max_shard_size)
    verified = None if choice is None else Choice.read(choice)
    if verified is not None:
        settings = _as_verified(verified.chosen, configuration, settings, given(click.get_current_context()))
    if settings.merged and settings.weight_dtype:
        raise InputError("--merged and --weight-dtype", value=settings.weight_dtype, allowed="one of them")
    if verified is None and (settings.factors != "plain") != (settings.calibration_text is not None):
        if settings.calibration_text is None:
            hint = "give --calibration-text FILE, or leave --factors out"
            raise InputError("--factors are fitted to a text, and there is none", value=settings.factors, hint=hint)
        hint = "add --factors whitened, sequential or fisher, or leave the text out"
        raise InputError("--calibration-text is of no use to plain factors", value=settings.calibration_text, hint=hint)
    if unused := settings.factors == "plain" and sorted({"blocks", "length"} & given(click.get_current_context())):
        raise InputError(
            f"--{unused[0]} is of a calibration text, which plain factors have none of", hint="leave it out"
        )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with WorkBar() as bar, contextlib.ExitStack() as stack:
        bar.show(LOADING, 0, 0)
        import psutil
        from transformers.utils import logging

        from validate.checkpoint.finished import finished_count
        from validate.checkpoint.plan import peak_bytes, plan_checkpoint
        from validate.checkpoint.source import open_source
        from validate.checkpoint.write import write_checkpoint
        from validate.devices.opening import torch_device
        from validate.store.new_folder import require_new, workplace_path

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        require_new(out)
        bar.show("reading the checkpoint's index", 0, 0)
        source = open_source(model)
        if verified is not None:
            decomposition = verified.decomposition(source.spec, source.folder, settings.calibration_text)
        else:
            decomposition = configuration.load(source.spec)
            warn_of(configuration, source.spec)
        if not decomposition.factors and not decomposition.dropped and not settings.weight_dtype:
            raise DecompositionError(
                "nothing to factor or drop", hint="give --decompose SPEC, --recipe, --config or --choice"
            )
        plan = plan_checkpoint(
            source,
            decomposition,
            source.weights.dtype if settings.dtype == "auto" else settings.dtype,
            shard_bytes,
            form="merged" if settings.merged else "factored",
            int8=settings.weight_dtype == "int8",
        )
        require_new(out, plan.disk_bytes)
        where = torch_device(settings.device)
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="factors-"))
        makers, record = _makers(source, decomposition, settings, plan.dtype, where, bar, Path(scratch))
        states = 1 if settings.factors == "whitened" else 2  # hidden states of the dense model, and of another pass
        needed = peak_bytes(plan, source, states * (record.blocks or 0) * (record.length or 0))
        if needed > (free := psutil.virtual_memory().available):
            note = f"may take up to {si(needed, 'B')} of memory, {si(free, 'B')} are free; lower --max-shard-size"
            say(f"note: {note}", err=True)
        try:
            written = write_checkpoint(
                source, decomposition, plan, out, makers=makers, factors=record, device=where, progress=bar.show
            )
        except (KeyboardInterrupt, RunError):
            if kept := finished_count(workplace_path(out) / "finished"):
                note = f"{kept} factored weights are kept in {workplace_path(out)}; the same command continues"
                say(f"note: {note}", err=True)
            raise
    if written.taken:
        say(f"note: {written.taken} factored weights were taken from an interrupted run", err=True)
    above = len(decomposition.above_break_even(source.spec))
    print_written(written, above, list(source.left_out), needed, time.monotonic() - started, fmt)
    if fmt == "table" and not settings.merged:
        words = shlex.join(["validate", "quality", "--model", str(out), "--dense", model, "--text"])
        say(f"next: {words} FILE says what it did to the answers; from_pretrained reads it after `import validate.hf`")


def _as_verified(
    chosen: Chosen, configuration: DecompositionSettings, settings: ApplySettings, asked_for: set[str]
) -> ApplySettings:
    """The settings with the kind of factors and the blocks of text that were verified.

    Args:
        asked_for: names of the options that the user gave.

    Raises:
        InputError: when others are asked for.
    """
    text = chosen.calibration
    wanted: dict[str, Any] = {
        "factors": chosen.factors,
        **({"blocks": text.blocks, "length": text.length} if text else {}),
    }
    for name, value in wanted.items():
        asked = getattr(settings, name)
        if name in asked_for and asked != value:
            raise InputError(f"--{name} with --choice", value=asked, allowed=f"{value}, as it was verified")
    if configuration != DecompositionSettings():
        raise InputError("--choice and --config or --decompose", hint="give one of them")
    return replace(settings, **wanted)


def parse_size(text: str) -> int:
    """Bytes of `5GB`, `500MB`, `2GiB`, as `parse_amount` takes them.

    Raises:
        InputError: when it is no size, none at all, or a small number without a unit.
    """
    size = parse_amount(text, "B", "--max-shard-size")
    if not 1 <= size < math.inf:
        raise InputError("--max-shard-size", value=text, allowed="a size such as 5GB, 500MB or 2GiB")
    require_unit(text, size, "B", "--max-shard-size")
    return int(size)


def _makers(
    source: DenseSource,
    decomposition: Decomposition,
    settings: ApplySettings,
    dtype: str,
    device: torch.device,
    bar: WorkBar,
    scratch: Path,
) -> tuple[Makers, FactorsRecord]:
    """What makes the factors, and what the manifest says of it; `scratch` is an empty folder for it."""
    from validate.checkpoint.makers import SequentialMakers, WhitenedMakers, plain_makers
    from validate.checkpoint.manifest import FactorsRecord, FileRecord
    from validate.factors.fisher import StoredFactors
    from validate.factors.sequential import require_single
    from validate.hf.names import DTYPES
    from validate.models.blocks import calibration_inputs, text_blocks
    from validate.models.stream import LayerStream
    from validate.models.tokenizers import read_tokenizer, require_tokenizer
    from validate.models.weights import file_record
    from validate.store.texts import read_text

    text, blocks, kind = settings.calibration_text, settings.blocks, settings.factors
    if text is None:
        return plain_makers, FactorsRecord(kind="plain")
    content = read_text(text)
    tokenizer = require_tokenizer(read_tokenizer(source.folder), source.folder)
    longest = source.spec.max_positions
    length = settings.length or min(_LENGTH, longest)
    if length > longest:
        raise InputError("--length is beyond the model", value=length, allowed=f"up to {longest}")
    bar.show("reading the calibration text", 0, 0)
    record = FactorsRecord(kind=kind, calibration=FileRecord(**file_record(text)), blocks=blocks, length=length)
    asked = (source.model, source.spec, tokenizer, content, length, blocks)
    if kind == "whitened":
        stream = LayerStream(str(source.folder), dtype=DTYPES[dtype][0], device=device)
        experts = any(source.spec.tensor(site.tensor, site.layer).experts for site in decomposition.factors)
        return WhitenedMakers(stream, calibration_inputs(*asked), experts=experts), record
    require_single(source.spec, decomposition)
    stream = LayerStream(str(source.folder), device=device)
    if kind == "sequential":
        return SequentialMakers(stream, calibration_inputs(*asked), decomposition), record
    predicted = text_blocks(*asked, hint="take --factors whitened")
    bar.show("running the calibration text forward and backward", 0, 0)
    stored = StoredFactors(stream, predicted.inputs, predicted.targets, decomposition, scratch)
    return lambda site: stored, record
