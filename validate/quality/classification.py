"""Sequence classification by an encoder with a classifying head: texts with labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch

from costmodel.errors import InputError
from validate.models.pretrained import Pretrained
from validate.models.text import require_known
from validate.quality.answers import choice_fields
from validate.quality.cloze import padded
from validate.quality.items import LabelledText
from validate.quality.records import TaskRecord


class Classification:
    """One task of labelled texts; a text longer than the model's sequences is cut at its end.

    Args:
        pretrained: a model for sequence classification with a tokenizer.
        items: labels are numbers from 0, or names of the config's `id2label`.
        batch: texts that run together.

    Raises:
        InputError: when the model has no such head, or lacks a label or a token.
    """

    def __init__(self, pretrained: Pretrained, name: str, items: Sequence[LabelledText], *, batch: int) -> None:
        self.name = name
        self._model, self._device, self._batch = pretrained.model, pretrained.device, batch
        config: Any = self._model.config
        if not type(self._model).__name__.endswith("ForSequenceClassification"):
            raise InputError(
                f"{name}: labels need a model for sequence classification",
                value=type(self._model).__name__,
                allowed="...ForSequenceClassification",
            )
        names = {str(label): int(index) for index, label in config.id2label.items()}
        self._labels = [self._label(item, names, int(config.num_labels), place) for place, item in enumerate(items)]
        self._pad = pretrained.tokenizer.pad_token_id or 0
        self._rows: list[list[int]] = [
            pretrained.tokenizer(item.text, truncation=True, max_length=pretrained.spec.max_positions)["input_ids"]
            for item in items
        ]
        for place, row in enumerate(self._rows):
            require_known(row, pretrained.spec, f"{name}, item {place},")
        prompts = json.dumps([self._rows, self._labels])
        self._prompts = hashlib.sha256(prompts.encode()).hexdigest()[:16]

    def measure(self) -> list[TaskRecord]:
        """The record of the model as it is now.

        Raises:
            MeasurementError: when a score is not finite.
        """
        scores: list[list[float]] = []
        with torch.inference_mode():
            for start in range(0, len(self._rows), self._batch):
                inputs, seen = padded(self._rows[start : start + self._batch], self._pad)
                logits = self._model(input_ids=inputs.to(self._device), attention_mask=seen.to(self._device)).logits
                scores += torch.log_softmax(logits.float(), dim=-1).tolist()
        fields = choice_fields(scores, self._labels, self.name)
        right = "".join("01"[answer == label] for answer, label in zip(fields["answers"], self._labels, strict=True))
        return [
            TaskRecord(
                name=self.name,
                group=self.name,
                kind="classification",
                items=len(self._rows),
                prompts=self._prompts,
                metrics={"acc": right},
                **fields,
            )
        ]

    def _label(self, item: LabelledText, names: dict[str, int], count: int, place: int) -> int:
        label = names.get(item.label, -1) if isinstance(item.label, str) else item.label
        if not 0 <= label < count:
            allowed = f"0 to {count - 1}, or {', '.join(list(names)[:8])}"
            raise InputError(
                f"{self.name}: item {place} has a label unknown to the model", value=item.label, allowed=allowed
            )
        return label
