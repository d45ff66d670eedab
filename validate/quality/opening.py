"""From a job to what measures it: the checkpoint, its texts as blocks, its tasks, the sources of factors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch

from validate.devices.environment import environment
from validate.devices.opening import open_device
from validate.factors.fisher import FisherFactors
from validate.factors.kinds import Factors
from validate.factors.replace import StageMaker
from validate.factors.sequential import SequentialFactors
from validate.factors.whitening import make_factors
from validate.hf.names import DTYPES
from validate.models.artefact import open_factored
from validate.models.blocks import calibration_inputs, text_blocks
from validate.models.kept import is_factored
from validate.models.pretrained import Pretrained, open_pretrained
from validate.models.stored import stored_weights
from validate.models.stream import LayerStream
from validate.models.tokenizers import require_tokenizer
from validate.quality.case import QualityCase
from validate.quality.evaluator import Evaluator
from validate.quality.job import Job, TextFile
from validate.quality.tasks import open_tasks
from validate.quality.text import TextMeasure


def open_evaluator(job: Job, status: Callable[[str], None], *, cases: Iterable[QualityCase] | None = None) -> Evaluator:
    """Load everything that a job needs.

    Args:
        status: told what is being done.
        cases: all that will be measured: fitted factors then keep what they need of the layers alone that these
            factor. None for any.

    Raises:
        InputError: when something does not fit together: a text too short, a task not for this model.
    """
    settings = job.settings
    device = open_device(settings.device, settings.threads or torch.get_num_threads())
    status(f"reading {job.spec.name}")
    opened = open_factored if is_factored(job.folder) else open_pretrained
    pretrained = opened(job.folder, dtype=DTYPES[settings.dtype][0], device=device.torch_device)
    if not job.spec.is_encoder:
        pretrained.model.config.use_cache = False  # type: ignore[union-attr]  # nothing is generated
    artefact = None
    if job.artefact is not None:
        status(f"reading {job.artefact.source.name}")
        artefact = open_factored(job.artefact.folder, dtype=DTYPES[settings.dtype][0], device=device.torch_device)
        artefact.model.config.use_cache = pretrained.model.config.use_cache  # type: ignore[union-attr]
    text = None
    if job.text is not None:
        blocks = text_blocks(
            pretrained.model,
            job.spec,
            _tokenizer(pretrained),
            job.text.content,
            job.length,
            settings.blocks,
            hint="leave --text out, and give --tasks",
        )
        text = TextMeasure(pretrained, blocks, job.text.source, batch=settings.batch)
    if job.tasks:
        status("loading tasks")
    tasks = open_tasks(pretrained, job.tasks, batch=settings.batch, limit=settings.limit, shots=settings.shots)
    makers: dict[str, StageMaker | SequentialFactors] = {
        "plain": make_factors("plain", pretrained, None, weight=stored_weights(pretrained))
    }
    if settings.factors != "plain" and job.calibration is not None:
        status("reading calibration text")
        makers[settings.factors] = calibrated_factors(
            settings.factors,
            pretrained,
            job.calibration,
            length=job.length,
            blocks=settings.calibration_blocks,
            layers=None if cases is None else {site.layer for case in cases for site in case.decomposition.factors},
        )
    return Evaluator(
        pretrained,
        job.model,
        makers,
        text=text,
        tasks=tasks,
        calibration=job.calibration.source if job.calibration else None,
        environment=environment(device),
        artefact=artefact,
        params=sum(each.numel() for each in pretrained.model.parameters()) if is_factored(job.folder) else None,
    )


def calibrated_factors(
    kind: Factors,
    pretrained: Pretrained,
    text: TextFile,
    *,
    length: int,
    blocks: int,
    layers: Collection[int] | None = None,
) -> StageMaker | SequentialFactors:
    """Factors fitted to a calibration text, in blocks of the kind that is measured; the model must be dense.

    Args:
        layers: those that will be factored; None for all.

    Raises:
        InputError: when the text is too short, or fisher is asked of a model without a head that predicts text.
    """
    asked = (pretrained.model, pretrained.spec, _tokenizer(pretrained), text.content, length, blocks)
    if kind == "fisher":
        predicted = text_blocks(*asked, hint="take --factors whitened")
        return FisherFactors(_stream(pretrained), predicted.inputs, predicted.targets, layers)
    inputs = calibration_inputs(*asked)
    if kind == "sequential":
        return SequentialFactors(_stream(pretrained), inputs)
    return make_factors(kind, pretrained, inputs, layers=layers, weight=stored_weights(pretrained))


def _stream(pretrained: Pretrained) -> LayerStream:
    """The same checkpoint a layer at a time, in fp32 where the model is."""
    return LayerStream(str(pretrained.folder), device=pretrained.device)


def _tokenizer(pretrained: Pretrained) -> Any:
    return require_tokenizer(pretrained.tokenizer, pretrained.folder)
