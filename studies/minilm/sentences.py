"""Sentences of STS-B as tokens, their embeddings, and blocks of them that factors are fitted to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from costmodel.errors import InputError
from validate.models.pretrained import Pretrained
from validate.quality.cloze import padded
from validate.quality.similarity import ScoredPair

BATCH = 32
"""Sentences that run together."""


class Sentences:
    """Distinct sentences of pairs.

    Args:
        pretrained: gives the tokenizer.
        pairs: what they are from.
        without: sentences that are left out.

    Attributes:
        texts, rows: the sentences in the order of the pairs, and their tokens, special ones included.
    """

    def __init__(self, pretrained: Pretrained, pairs: Sequence[ScoredPair], *, without: Iterable[str] = ()) -> None:
        left_out = {normal(text) for text in without}
        texts = dict.fromkeys(text for pair in pairs for text in (pair.first, pair.second))
        self.texts = [text for text in texts if normal(text) not in left_out]
        if not self.texts:
            raise InputError("no sentence is left")
        tokenizer: Any = pretrained.tokenizer
        longest = pretrained.spec.max_positions
        self.rows: list[list[int]] = [
            tokenizer(text, truncation=True, max_length=longest)["input_ids"] for text in self.texts
        ]
        self._pad = tokenizer.pad_token_id or 0

    @property
    def name(self) -> str:
        """SHA-256 of the tokens, and how many sentences."""
        digest = hashlib.sha256(json.dumps(self.rows).encode()).hexdigest()
        return f"{digest} {len(self.rows)} sentences"

    def embeddings(self, body: nn.Module) -> torch.Tensor:
        """Mean of the last hidden states of each sentence's own tokens, at length 1, float64 (sentences, hidden)."""
        order = sorted(range(len(self.rows)), key=lambda place: len(self.rows[place]))
        found: dict[int, torch.Tensor] = {}
        with torch.inference_mode():
            for start in range(0, len(order), BATCH):
                part = order[start : start + BATCH]
                inputs, seen = padded([self.rows[place] for place in part], self._pad)
                found |= zip(part, embedded(body, inputs, seen).double(), strict=True)
        return torch.stack([found[place] for place in range(len(self.rows))])

    def blocks(self, length: int, count: int) -> torch.Tensor:
        """Blocks that begin where a sentence does and go on into the next ones, int64 (blocks, length).

        Args:
            length: of each, special tokens included.
            count: blocks at most, spread over the sentences.
        """
        first, last = self.rows[0][0], self.rows[0][-1]
        inner = [row[1:-1] for row in self.rows]
        places = [round(place) for place in torch.linspace(0, len(inner) - 1, min(count, len(inner))).tolist()]
        found = []
        for place in places:
            tokens: list[int] = []
            while len(tokens) < length - 2:
                tokens += inner[place % len(inner)]
                place += 1
            found.append([first, *tokens[: length - 2], last])
        return torch.tensor(found, dtype=torch.int64)


def embedded(body: nn.Module, inputs: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Embeddings of one batch, float (sentences, hidden), at length 1.

    Args:
        inputs, seen: int64 (sentences, tokens), ids and where they count.
    """
    states: torch.Tensor = body(input_ids=inputs, attention_mask=seen).last_hidden_state
    weights = seen[:, :, None].to(states)
    return nn.functional.normalize((states * weights).sum(1) / weights.sum(1), dim=1)


def normal(text: str) -> str:
    """A sentence as it is compared with others: without case and signs."""
    return " ".join("".join(each if each.isalnum() else " " for each in text.casefold()).split())
