"""Heals a factored folder: what is finished is kept, and the result is a folder of its own, judged on other text."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from costmodel.errors import InputError, ModelError
from validate.checkpoint.manifest import SourceRecord
from validate.devices.opening import torch_device
from validate.heal.distil import Distillation, Judged, factor_weights, judge
from validate.heal.settings import HealSettings
from validate.hf.names import DTYPES, MANIFEST
from validate.interval import Interval
from validate.models.artefact import open_factored
from validate.models.blocks import Blocks, text_blocks
from validate.models.pretrained import Pretrained, open_pretrained
from validate.models.tokenizers import require_tokenizer
from validate.models.weights import require_finite
from validate.quality.intervals import change
from validate.quality.job import LENGTH, TextFile
from validate.store.decode import decode_as
from validate.store.digests import checkpoint_sha256, file_sha256, joined_sha256
from validate.store.new_folder import require_new
from validate.store.steps import WorkFolder


class _Made(msgspec.Struct, frozen=True, kw_only=True):
    """What a manifest says of the dense checkpoint; that of a model that was saved again says nothing."""

    source: SourceRecord | None = None


NAME = "heal.json"
"""What was done and what came of it, in the folder written."""
SCHEMA = 1
Progress = Callable[[str, float, float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Healed:
    """What a healing came to, on the text to judge on, with the weights as they are written.

    Attributes:
        dense_nll, before_nll, after_nll: nats per token.
        before_kl, after_kl: of the factored model from the dense one, nats per token.
        change: of the NLL by healing, paired.
    """

    dense_nll: float
    before_nll: float
    after_nll: float
    before_kl: float
    after_kl: float
    change: Interval

    def record(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """The content of heal.json; `about` is what was asked for, with the digests of what it was asked of."""
        return {"schema": SCHEMA, "settings": dict(about), **self.to_json()}

    def to_json(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in ("dense_nll", "before_nll", "after_nll")}
        return {**values, "before_kl": self.before_kl, "after_kl": self.after_kl, "nll_change": self.change.to_json()}


def heal(
    factored: Path,
    dense: str,
    text: Path,
    judge_text: Path,
    out: Path,
    settings: HealSettings,
    progress: Progress = lambda text, done, total: None,
) -> Healed:
    """Distil `dense` into the factors of `factored`, and write the folder `out`; a killed run continues.

    Raises:
        CostModelError: when something does not fit together: texts that are one, models that are not of one kind, a
            dense checkpoint that is not the one that the factors were made of.
        RunError: when the state of another run is there, or the disk fails.
    """
    require_new(out)
    learned, judged = (TextFile.read(str(path)) for path in (text, judge_text))
    assert learned is not None
    assert judged is not None
    if learned.source.sha256 == judged.source.sha256:
        raise InputError("--judge-text is the text to learn from", value=str(judge_text), hint="judge on another")
    device = torch_device(settings.device)
    progress("reading the models", 0, 0)
    own, truth = open_factored(factored, device=device), open_pretrained(dense, device=device)
    files = file_sha256(truth.folder)
    if type(own.model) is not type(truth.model) or own.spec.vocab_size != truth.spec.vocab_size:
        allowed = f"the dense {type(own.model).__name__} that {factored} was made from"
        raise InputError("--dense is another kind of model", value=type(truth.model).__name__, allowed=allowed)
    _require_source(factored, truth.folder, files)
    length = settings.length or min(LENGTH, truth.spec.max_positions)
    learning = _blocks(truth, learned, length, settings.blocks)
    judging = _blocks(truth, judged, length, settings.judge_blocks)
    about = {
        **asdict(settings),
        "factored": checkpoint_sha256(factored),
        "dense": joined_sha256(files),
        "text": learned.source.sha256,
        "judge_text": judged.source.sha256,
        "length": length,
    }
    with WorkFolder(out, about) as work:
        progress("judging before", 0, 0)
        reference, before = judge(truth.model, truth.model, judging), judge(truth.model, own.model, judging)
        _distil(truth, own, learning, settings, work, progress)
        progress("judging after", 0, 0)
        stored = _stored_type(factored)
        _round(own, stored)
        found = _compared(reference, before, judge(truth.model, own.model, judging), judging.tokens)
        _write(own, stored, work.path / "model", found.record(about))
        os.rename(work.path / "model", out)
        work.remove()
    return found


def _require_source(factored: Path, dense: Path, files: Mapping[str, str]) -> None:
    """Make sure that factors were made of a dense checkpoint's weights, where their folder says what they were made of:
    the manifest of one that was loaded and saved again does not.

    Args:
        files: SHA-256 of the dense checkpoint's files, by name.

    Raises:
        InputError: when they were made of others.
    """
    text = (factored / MANIFEST).read_text(encoding="utf-8")
    source = decode_as(text, _Made, str(factored / MANIFEST), "manifest", ModelError).source
    if source is None:
        return
    held = set(files.values())
    if other := next((record.name for record in source.files if record.sha256 not in held), None):
        hint = f"{factored} was made of {source.name}, whose {other} is another"
        raise InputError("--dense is not what the factors were made of", value=str(dense), hint=hint)


def _distil(
    truth: Pretrained, own: Pretrained, learning: Blocks, settings: HealSettings, work: WorkFolder, progress: Progress
) -> None:
    work_of = Distillation(
        truth.model,
        own.model,
        learning,
        steps=settings.steps,
        rate=settings.rate,
        batch=settings.batch,
        seed=settings.seed,
    )
    if kept := work.steps("state"):
        work_of.restore(work.load("state", kept[-1], work_of.shapes))
    while work_of.done < settings.steps:
        until = min(settings.steps, (work_of.done // settings.keep_every + 1) * settings.keep_every)
        for loss in work_of.run(until):
            progress(f"step {work_of.done}: {loss:.4f} nats from dense", work_of.done, settings.steps)
        work.save("state", work_of.done, work_of.state())
        for number in work.steps("state")[:-1]:
            work.forget("state", number)
    own.model.requires_grad_(False)


def _blocks(model: Pretrained, text: TextFile, length: int, count: int) -> Blocks:
    tokenizer = require_tokenizer(model.tokenizer, model.folder)
    return text_blocks(model.model, model.spec, tokenizer, text.content, length, count)


def _compared(dense: Judged, before: Judged, after: Judged, tokens: list[int]) -> Healed:
    total = sum(tokens)
    return Healed(
        dense_nll=sum(dense.nll) / total,
        before_nll=sum(before.nll) / total,
        after_nll=sum(after.nll) / total,
        before_kl=sum(before.kl) / total,
        after_kl=sum(after.kl) / total,
        change=change(after.nll, before.nll, tokens),
    )


def _stored_type(factored: Path) -> torch.dtype:
    """The type of a factored folder's weights, which the healed one's are of too."""
    stored: str = json.loads((factored / MANIFEST).read_text(encoding="utf-8"))["dtype"]
    return DTYPES[stored][0]


@torch.no_grad()
def _round(own: Pretrained, stored: torch.dtype) -> None:
    """Give the factors, which were trained in fp32, the values that will be written.

    Raises:
        MeasurementError: when one is not finite in that type.
    """
    for name, weight in factor_weights(own.model).items():
        require_finite(weight, name, stored)
        weight.copy_(weight.to(stored))


def _write(own: Pretrained, stored: torch.dtype, folder: Path, about: dict[str, Any]) -> None:
    """The healed model in the type that its folder had, with its tokenizer."""
    model: Any = own.model
    model.to(stored)
    model.save_pretrained(folder)
    if own.tokenizer is not None:
        own.tokenizer.save_pretrained(folder)
    (folder / NAME).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
