"""From a checkpoint and a text to a sensitivity file, in one call that can be killed and made again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from costmodel.errors import InputError, ModelError
from costmodel.families.load import load_model
from validate.cluster.connection import Cluster
from validate.devices.opening import torch_device
from validate.errors import RunError
from validate.hf.names import DTYPES
from validate.models.artefact import merged_folder
from validate.models.blocks import calibration_inputs, text_blocks
from validate.models.kept import is_factored
from validate.models.stream import LayerStream
from validate.models.tokenizers import require_tokenizer
from validate.sensitivity.file import Sensitivity, SensitivityRun, load_sensitivity, save_sensitivity
from validate.sensitivity.run import Factorise, SensitivityRunner
from validate.sensitivity.settings import SensitivitySettings
from validate.store.digests import file_sha256, joined_sha256
from validate.store.steps import WorkFolder
from validate.store.texts import read_text

_DTYPES = {"auto": "fp32", "fp32": "fp32", "bf16": "bf16", "fp16": "fp16"}
_LENGTH = 512
_SAME = ("model", "weights", "text", "blocks", "length", "dtype", "device", "gradients", "seed")
"""What two parts of one run have in common."""


def measure_sensitivity(
    model: str,
    text: Path,
    out: Path,
    settings: SensitivitySettings,
    *,
    show: Callable[[str], None] = lambda text: None,
    count: Callable[[int, int], None] = lambda done, total: None,
    cluster: Cluster | None = None,
) -> Sensitivity:
    """Measure every site and write the file; continue a killed run, and only read a file that is complete.

    Args:
        model: a folder or a name on the hub; of a factored folder the products of the factors are looked at.
        text: UTF-8 file.
        out: the file to write.
        settings: how much of the text, how, and where.
        show: told what is being done.
        count: told how many sites are done, and of how many.
        cluster: whose workers factorise weights; None for this process.

    Raises:
        InputError: when an argument, the text or the model does not do.
        RunError: when `out` holds, or is being written by, another run.
        MeasurementError: when a number is not finite.
    """
    if not is_factored(Path(model)):
        return _measure(model, text, out, settings, show=show, count=count, cluster=cluster)
    show("multiplying the factors")
    with merged_folder(Path(model)) as merged:
        return _measure(str(merged), text, out, settings, show=show, count=count, cluster=cluster)


def _measure(
    model: str,
    text: Path,
    out: Path,
    settings: SensitivitySettings,
    *,
    show: Callable[[str], None],
    count: Callable[[int, int], None],
    cluster: Cluster | None,
) -> Sensitivity:
    where = torch_device(settings.device).type
    show("reading the checkpoint's index")
    kind = _DTYPES[settings.dtype]
    stream = LayerStream(model, dtype=DTYPES[kind][0], device=where, batch=settings.batch)
    name = stream.spec.name if Path(model).is_dir() else _hub_name(model)
    longest = stream.spec.max_positions
    length = min(_LENGTH, longest) if settings.length is None else settings.length
    if length > longest:
        raise InputError("--length", value=length, allowed=f"up to {longest}, the model's positions")
    show("reading the text")
    tokenizer = require_tokenizer(stream.tokenizer(), stream.folder)
    given = (stream.model, stream.spec, tokenizer, read_text(text), length, settings.blocks)
    asked = text_blocks(*given, seed=settings.seed, hint="leave --fisher out") if settings.fisher else None
    inputs = asked.inputs if asked is not None else calibration_inputs(*given, seed=settings.seed)
    targets = asked.targets if asked is not None else None
    show("hashing the weights")
    files = file_sha256(stream.folder)
    weights = joined_sha256({name: digest for name, digest in files.items() if name != "config.json"})
    shared: dict[str, Any] = {
        "model": name,
        "weights": weights,
        "text": hashlib.sha256(inputs.numpy().tobytes()).hexdigest(),
        "blocks": settings.blocks,
        "length": length,
        "dtype": kind,
        "device": where,
        "gradients": settings.fisher,
        "seed": settings.seed if stream.spec.is_encoder else 0,
    }
    if out.exists():
        found = load_sensitivity(out)
        for key in _SAME:
            if getattr(found.run, key) != shared[key]:
                raise RunError(
                    f"{out} is of another {key}",
                    value=shared[key],
                    allowed=str(getattr(found.run, key)),
                    hint="choose another --out",
                )
        known = found.run.checkpoint
        if known != joined_sha256(files) if known is not None else found.run.config != dict(stream.config):
            raise RunError(f"{out} is of another config.json", hint="choose another --out")
        return found
    total, done = stream.spec.num_layers * len(stream.spec.tensors), 0

    def advance(sites: int) -> None:
        nonlocal done
        done += sites
        count(done, total)

    with WorkFolder(out, shared | {"batch": settings.batch, "checkpoint": joined_sha256(files)}) as work:
        show("measuring sites")
        with _factorise(cluster, where, len(stream.spec.tensors)) as factorise:
            runner = SensitivityRunner(stream, inputs, targets, work, advance, factorise)
            sites = runner.run()
        run = SensitivityRun(
            **shared,
            checkpoint=joined_sha256(files),
            config=dict(stream.config),
            nll=runner.nll,
            whole=stream.whole,
            versions=_versions(),
            seconds=runner.seconds,
        )
        found = Sensitivity(run=run, spec=stream.spec, sites=sites)
        save_sensitivity(out, found)
        work.remove()
    return found


def _factorise(cluster: Cluster | None, device: str, sites: int) -> AbstractContextManager[Factorise | None]:
    if cluster is None:
        return nullcontext()
    from validate.sensitivity.clustered import factorised_on

    return factorised_on(cluster, device, sites)


def _hub_name(path_or_id: str) -> str:
    """The built-in name of a checkpoint on the hub, as `costmodel --model` calls it, else its own."""
    try:
        return load_model(path_or_id).name
    except ModelError:
        return path_or_id


def _versions() -> dict[str, str]:
    import transformers

    return {"torch": str(torch.__version__), "transformers": transformers.__version__}
