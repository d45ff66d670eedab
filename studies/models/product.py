"""From a recipe and a corpus to a folder: a checkpoint, the texts to measure it on, tasks, and a record of it all."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import statistics
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from costmodel.errors import InputError
from costmodel.files.write import write_file
from studies.models.baselines import causal_baseline, masked_baseline
from studies.models.batches import IGNORED, Batches, Masker
from studies.models.cloze import cloze
from studies.models.continuations import CHOICES, continuations
from studies.models.corpus import Corpus, calibration_text, size
from studies.models.loop import Training, exact
from studies.models.place import place_name
from studies.models.recipe import Recipe, build_model
from studies.models.record import NAME as RECORD
from studies.models.record import remove_record
from studies.models.scores import accuracy, causal_losses, chosen, masked_losses, mean_loss, weights_digest
from studies.models.state import NAME as STATE
from studies.models.state import State, require_key
from studies.models.vocabulary import stream, token_bytes, train_tokenizer
from validate.errors import RunError
from validate.models.text import token_blocks

SCHEMA = 1
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "scipy")
Tasks = dict[str, list[dict[str, Any]]]
"""Items by task."""
CHECKED = 48
"""Held-out blocks that a point of the curve is measured on."""


class Product:
    """One model in the making; everything but the steps themselves is done anew when a run continues.

    Args:
        recipe: what to train.
        corpus: on what.
        folder: made if it does not exist.
        device: where; see `open_place`.

    Raises:
        InputError: when the recipe cannot be, or the corpus is too small for it.
        RunError: when the folder cannot be made.
    """

    def __init__(self, recipe: Recipe, corpus: Corpus, folder: Path, device: torch.device | None = None) -> None:
        self.recipe, self.corpus, self.folder = recipe.check(), corpus, folder
        self.device = device or torch.device("cpu")
        found, limit = size(corpus.train) + size(corpus.heldout), recipe.max_bytes
        if limit is not None and found > limit:
            raise InputError("text longer than the recipe's max_bytes", value=found, allowed=f"up to {limit}")
        try:
            (folder / "tasks").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError("cannot write to folder", value=str(folder), hint=error.strerror or str(error)) from error
        masked = recipe.is_masked
        self.tokenizer = train_tokenizer(corpus.train, recipe.vocab_size, masked=masked, length=recipe.length)
        if len(self.tokenizer) < recipe.vocab_size:
            raise InputError(
                "text too short for the vocabulary",
                value=recipe.vocab_size,
                allowed=f"at most {len(self.tokenizer)} tokens",
            )
        self.tokens = stream(self.tokenizer, corpus.train)
        text = heldout_text(corpus)
        self.blocks = token_blocks(self.tokenizer, text, recipe.length - 2 if masked else recipe.length)
        self.masker = None
        if masked:
            ids = self.tokenizer
            self.masker = Masker(
                first=ids.cls_token_id,
                last=ids.sep_token_id,
                mask=ids.mask_token_id,
                vocab_size=recipe.vocab_size,
                share=recipe.masked_share,
            )

    @property
    def key(self) -> str:
        """Digest of all that fixes the weights on one machine; a GPU rounds otherwise than the processor."""
        parts = [self.recipe.digest, self.corpus.digest, str(torch.__version__), version("transformers")]
        parts += [] if self.device.type == "cpu" else [self.device.type]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def make(
        self, *, baseline: bool = True, items: int = 500, points: int = 20, watch: Callable[[State], None] | None = None
    ) -> dict[str, Any]:
        """Train, write the folder, and return its record; an earlier one is removed first, since its weights will be.

        Args:
            baseline: count n-grams for comparison as well.
            items: of each task.
            points: of the curve.
            watch: called after every step.
        """
        model = build_model(self.recipe, self.tokenizer).to(self.device)
        training = Training(
            recipe=self.recipe,
            batches=self.batches,
            masker=self.masker,
            folder=self.folder,
            key=self.key,
            device=self.device,
            check=lambda model: float(self.losses(model, self.blocks[:CHECKED]).mean()),
        )
        require_key(self.folder, self.key)  # before anything is lost
        remove_record(self.folder)
        state = training.run(model, points=points, watch=watch)
        model.eval()
        return self._write(model, state, baseline, self.tasks(items))

    @property
    def batches(self) -> Batches:
        """Of the training part."""
        return Batches(tokens=self.tokens, length=self.blocks.shape[1], batch=self.recipe.batch, seed=self.recipe.seed)

    def losses(self, model: nn.Module, blocks: torch.Tensor) -> torch.Tensor:
        """Losses of held-out tokens in the recipe's threads, float64, nats: of all but a block's first, or masked."""
        with exact(self.recipe.threads):
            if self.masker is None:
                return causal_losses(model, blocks)
            return masked_losses(model, *self.masker.evaluate(blocks, self.recipe.seed))

    def tasks(self, items: int) -> Tasks:
        """Multiple-choice items by task: continuations for a causal model, blanks for a masked one."""
        if self.recipe.is_masked:
            return {
                "cloze": cloze(self.tokenizer, self.blocks, items, same_text=False),
                "cloze_same_text": cloze(self.tokenizer, self.blocks, items, same_text=True),
            }
        return {
            "continuation": continuations(self.corpus.heldout, items, same_file=False),
            "continuation_same_file": continuations(self.corpus.heldout, items, same_file=True),
        }

    def _write(self, model: nn.Module, state: State, baseline: bool, tasks: Tasks) -> dict[str, Any]:
        folder = self.folder
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # of a fraction of a second
        model.save_pretrained(folder)  # type: ignore[operator]
        self.tokenizer.save_pretrained(folder)
        write_file(folder / "heldout.txt", heldout_text(self.corpus).encode())
        write_file(folder / "calibration.txt", calibration_text(self.corpus.train).encode())
        answers: dict[str, dict[str, Any]] = {}
        for name, items in tasks.items():
            write_file(folder / "tasks" / f"{name}.jsonl", "".join(json.dumps(item) + "\n" for item in items).encode())
            if items:
                with exact(self.recipe.threads):
                    found = accuracy(chosen(model, self.tokenizer, items), items)
                answers[name] = {
                    "items": len(items),
                    "accuracy": found.value,
                    "interval": [found.low, found.high],
                    "chance": 1 / CHOICES,
                }
        record = {
            "schema": SCHEMA,
            "recipe": self.recipe.to_json(),
            "corpus": self.corpus.describe(),
            "train_tokens": len(self.tokens),
            "parameters": sum(each.numel() for each in model.parameters()),
            "seconds": {
                "processor": state.cpu_s,
                "wall": state.wall_s,
                "undisturbed": statistics.median(state.step_s) * self.recipe.steps,
            },
            "heldout": self._heldout(model),
            "baseline": self._baseline() if baseline else None,
            "tasks": answers,
            "weights_sha256": weights_digest(model),
            "libraries": {name: version(name) for name in LIBRARIES} | {"python": platform.python_version()},
            "machine": {
                "processor": place_name(torch.device("cpu")),
                "threads": self.recipe.threads,
                "device": self.device.type,
                "device_name": place_name(self.device),
            },
            "curve": [asdict(point) for point in state.curve],
        }
        write_file(folder / RECORD, json.dumps(record, indent=1).encode() + b"\n")
        (folder / STATE).unlink(missing_ok=True)
        return record

    def _heldout(self, model: nn.Module) -> dict[str, Any]:
        losses = self.losses(model, self.blocks)
        nats, spread = float(losses.mean()), mean_loss(losses, self._counts())
        return {
            "nats_per_token": nats,
            "interval": [spread.low, spread.high],
            "blocks": len(self.blocks),
            "tokens": losses.numel(),
            "bits_per_byte": self._bits(nats),
        }

    def _counts(self) -> torch.Tensor:
        """Predictions of each held-out block."""
        if self.masker is None:
            return torch.full((len(self.blocks),), self.blocks.shape[1] - 1)
        return (self.masker.evaluate(self.blocks, self.recipe.seed)[1] != IGNORED).sum(1)

    def _bits(self, nats: float) -> float:
        """Bits per byte of the tokens that are asked for."""
        asked = self._asked()
        return nats / math.log(2) * len(asked) / int(token_bytes(self.tokenizer)[asked].sum())

    def _asked(self) -> torch.Tensor:
        if self.masker is None:
            return self.blocks[:, 1:].flatten()
        targets = self.masker.evaluate(self.blocks, self.recipe.seed)[1]
        return targets[targets != IGNORED]

    def _baseline(self) -> dict[str, Any]:
        vocabulary = len(self.tokenizer)
        if self.masker is None:
            found = causal_baseline(self.tokens, self.blocks, vocabulary)
        else:
            seen, targets = self.masker.evaluate(self.blocks, self.recipe.seed)
            found = masked_baseline(self.tokens, seen, targets, vocabulary, hidden=self.masker.mask)
        return {**found, "bits_per_byte": self._bits(found["nats_per_token"])}


def heldout_text(corpus: Corpus) -> str:
    """The held-out files, one after the other."""
    return "\n".join(corpus.heldout)
