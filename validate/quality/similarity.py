"""Sentence pairs with scores of how alike they are: what a sentence encoder is judged by (STS-B)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from costmodel.errors import InputError
from validate.errors import MeasurementError
from validate.models.pretrained import Pretrained
from validate.models.text import require_known
from validate.quality.cloze import padded
from validate.quality.records import TaskRecord
from validate.quality.rows import read_rows

FIELDS = ("sentence1", "sentence2", "score")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredPair:
    """Two sentences, and how alike people found them."""

    first: str
    second: str
    score: float


def is_pair(row: Mapping[str, Any]) -> bool:
    """Whether a row of a file is a scored pair."""
    return all(name in row for name in FIELDS)


def read_pairs(path: str, limit: int | None = None) -> list[ScoredPair]:
    """Scored pairs of JSON lines with `sentence1`, `sentence2`, `score`.

    Args:
        limit: read this many, the first ones.

    Raises:
        InputError: naming the first line that is none, or when there are fewer than two.
    """
    found: list[ScoredPair] = []
    for where, row in read_rows(path):
        first, second, score = (row.get(name) for name in FIELDS)
        if not (isinstance(first, str) and isinstance(second, str) and first.strip() and second.strip()):
            raise InputError(f"{where}: no two sentences", value=sorted(row), allowed=", ".join(FIELDS))
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise InputError(f"{where}: score is no number", value=score)
        found.append(ScoredPair(first=first, second=second, score=float(score)))
        if len(found) == limit:
            break
    if len(found) < 2:
        raise InputError("fewer than two pairs", value=path, allowed="two or more, to be ranked")
    return found


class Similarity:
    """Cosine of mean-pooled last hidden states of the two sentences of each pair; judged by its rank correlation with
    the scores (Cer et al. 2017 for the data, Reimers and Gurevych 2019 for pooling and measure).

    Args:
        pretrained: an encoder or a decoder with a tokenizer; sentences are cut to what it takes.
        batch: sentences that run together.

    Raises:
        InputError: when the model lacks a token.
    """

    def __init__(self, pretrained: Pretrained, name: str, pairs: Sequence[ScoredPair], *, batch: int) -> None:
        self.name = name
        self._body: Any = pretrained.model.base_model
        self._device, self._batch = pretrained.device, batch
        self._scores = [pair.score for pair in pairs]
        self._pad = pretrained.tokenizer.pad_token_id or 0
        texts = list(dict.fromkeys(text for pair in pairs for text in (pair.first, pair.second)))
        places = {text: place for place, text in enumerate(texts)}
        self._pairs = [(places[pair.first], places[pair.second]) for pair in pairs]
        longest = pretrained.spec.max_positions
        self._rows: list[list[int]] = [
            pretrained.tokenizer(text, truncation=True, max_length=longest)["input_ids"] for text in texts
        ]
        for row in self._rows:
            require_known(row, pretrained.spec, name)
        asked = json.dumps([self._rows, self._pairs, self._scores])
        self._prompts = hashlib.sha256(asked.encode()).hexdigest()[:16]

    def measure(self) -> list[TaskRecord]:
        """The record of the model as it is now.

        Raises:
            MeasurementError: when an embedding is not finite.
        """
        vectors = torch.nn.functional.normalize(self._embedded(), dim=1)
        first, second = (torch.tensor(side) for side in zip(*self._pairs, strict=True))
        cosines = (vectors[first] * vectors[second]).sum(1)
        if not bool(torch.isfinite(cosines).all()):
            raise MeasurementError("non-finite", f"an embedding of {self.name} is NaN or infinite")
        return [
            TaskRecord(
                name=self.name,
                group=self.name,
                kind="similarity",
                items=len(self._pairs),
                prompts=self._prompts,
                metrics={"cosine": [round(value, 9) for value in cosines.tolist()]},
                scores=self._scores,
            )
        ]

    def _embedded(self) -> torch.Tensor:
        """Means of the hidden states of each text's own tokens, float64 (texts, hidden), in the order of the texts."""
        order = sorted(range(len(self._rows)), key=lambda place: len(self._rows[place]))
        found: dict[int, torch.Tensor] = {}
        with torch.inference_mode():
            for start in range(0, len(order), self._batch):
                part = order[start : start + self._batch]
                inputs, seen = padded([self._rows[place] for place in part], self._pad)
                states = self._body(
                    input_ids=inputs.to(self._device), attention_mask=seen.to(self._device)
                ).last_hidden_state
                weights = seen.to(self._device, torch.float64)[:, :, None]
                means = (states.to(torch.float64) * weights).sum(1) / weights.sum(1)
                found |= zip(part, means.cpu(), strict=True)
        return torch.stack([found[place] for place in range(len(self._rows))])
