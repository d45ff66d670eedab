"""From a job to what measures it: the checkpoint, its texts as blocks, its tasks, the sources of factors."""

from __future__ import annotations

from collections.abc import Callable

import torch

from costmodel.errors import InputError
from validate.device import open_device
from validate.environment import environment
from validate.pretrained import Pretrained, open_pretrained
from validate.quality.blocks import Blocks, causal_blocks, masked_blocks
from validate.quality.evaluator import Evaluator
from validate.quality.job import Job, TextFile
from validate.quality.tasks import open_tasks
from validate.quality.text import TextMeasure
from validate.replace import StageMaker
from validate.text import token_blocks
from validate.whitening import make_factors

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def open_evaluator(job: Job, status: Callable[[str], None]) -> Evaluator:
    """Load everything that a job needs.

    Args:
        status: told what is being done.

    Raises:
        InputError: when something does not fit together: a text too short, a task not for this model.
    """
    settings = job.settings
    device = open_device(settings["device"], settings["threads"] or torch.get_num_threads())
    status(f"reading {job.spec.name}")
    pretrained = open_pretrained(str(job.folder), dtype=_TYPES[settings["dtype"]], device=device.torch_device)
    if not job.spec.is_encoder:
        pretrained.model.config.use_cache = False  # type: ignore[union-attr]  # nothing is generated
    text = None
    if job.text is not None:
        blocks = text_blocks(pretrained, job.text.content, job.length, settings["blocks"])
        text = TextMeasure(pretrained, blocks, job.text.source, batch=settings["batch"])
    if job.tasks:
        status("loading tasks")
    tasks = open_tasks(pretrained, job.tasks, batch=settings["batch"], limit=settings["limit"])
    makers: dict[str, StageMaker] = {"plain": make_factors("plain", pretrained, None)}
    if settings["factors"] == "whitened" and job.calibration is not None:
        status("reading calibration text")
        makers["whitened"] = whitened_factors(
            pretrained, job.calibration, length=job.length, blocks=settings["calibration_blocks"]
        )
    return Evaluator(
        pretrained, job.model, makers, text=text, tasks=tasks,
        calibration=job.calibration.source if job.calibration else None, environment=environment(device),
    )  # fmt: skip


def text_blocks(pretrained: Pretrained, text: str, length: int, count: int | None) -> Blocks:
    """Blocks of the kind that the model predicts.

    Raises:
        InputError: when the checkpoint has no language-modelling head or no tokenizer, or the text is too short.
    """
    name = type(pretrained.model).__name__
    if pretrained.tokenizer is None:
        raise InputError("checkpoint without a tokenizer", value=str(pretrained.folder), allowed="tokenizer.json")
    if not pretrained.spec.is_encoder:
        return causal_blocks(pretrained.tokenizer, text, length, count)
    if not name.endswith("ForMaskedLM"):
        raise InputError("the checkpoint has no head that predicts text", value=name, allowed="...ForMaskedLM",
                         hint="leave --text out, and give --tasks")  # fmt: skip
    return masked_blocks(pretrained.tokenizer, text, length, count)


def whitened_factors(pretrained: Pretrained, text: TextFile, *, length: int, blocks: int) -> StageMaker:
    """Factors fitted to activations on a calibration text; the model must be dense.

    Raises:
        InputError: when the text is too short.
    """
    if pretrained.tokenizer is None:
        raise InputError("checkpoint without a tokenizer", value=str(pretrained.folder), allowed="tokenizer.json")
    return make_factors("whitened", pretrained, token_blocks(pretrained.tokenizer, text.content, length, blocks))
