"""Multiple choice by a masked LM: which choice fills the blank with the highest pseudo-log-likelihood."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch

from costmodel.errors import InputError
from validate.models.blocks import special_ends
from validate.models.pretrained import Pretrained
from validate.models.text import require_known
from validate.quality.answers import choice_fields
from validate.quality.items import ChoiceItem
from validate.quality.records import TaskRecord

BLANK = "[MASK]"
"""What marks the blank in a context, whatever the tokenizer's own mask token is."""

Asked = list[tuple[tuple[int, ...], int, int]]
"""Inputs with one more token masked, its place, and the token that belongs there."""


class Cloze:
    """One task of items with one blank each.

    The pseudo-log-likelihood of a choice is the sum over its tokens of log p(token | all other tokens), each masked
    in turn (Salazar et al. 2020); a choice of one token takes one pass, which all such choices of an item share.

    Args:
        pretrained: a masked LM with a tokenizer.
        items: contexts with exactly one `[MASK]`.
        batch: inputs that run together.

    Raises:
        InputError: when a context has no blank or more than one, is too long for the model, or has a token that it
            lacks.
    """

    def __init__(self, pretrained: Pretrained, name: str, items: Sequence[ChoiceItem], *, batch: int) -> None:
        self.name = name
        self._model, self._device, self._batch = pretrained.model, pretrained.device, batch
        self._items = items
        self._pad = pretrained.tokenizer.pad_token_id or 0
        self._asked = [self._ask(pretrained, item, number) for number, item in enumerate(items)]
        self._inputs = sorted({each[0] for choices in self._asked for asked in choices for each in asked}, key=len)
        for number, choices in enumerate(self._asked):
            tokens = (part for asked in choices for ids, _, token in asked for part in (*ids, token))
            require_known(tokens, pretrained.spec, f"{name}, item {number},")
        prompts = json.dumps([self._asked, [item.answer for item in items]])
        self._prompts = hashlib.sha256(prompts.encode()).hexdigest()[:16]

    def measure(self) -> list[TaskRecord]:
        """The record of the model as it is now.

        Raises:
            MeasurementError: when a likelihood is not finite.
        """
        wanted: dict[tuple[int, ...], set[tuple[int, int]]] = {ids: set() for ids in self._inputs}
        for choices in self._asked:
            for ids, place, token in (each for asked in choices for each in asked):
                wanted[ids].add((place, token))
        found: dict[tuple[tuple[int, ...], int, int], float] = {}
        with torch.inference_mode():
            for start in range(0, len(self._inputs), self._batch):
                self._run(self._inputs[start : start + self._batch], wanted, found)
        likelihoods = [[sum(found[each] for each in asked) for asked in choices] for choices in self._asked]
        targets = [item.answer for item in self._items]
        fields = choice_fields(likelihoods, targets, self.name)
        right = "".join("01"[answer == target] for answer, target in zip(fields["answers"], targets, strict=True))
        return [
            TaskRecord(
                name=self.name,
                group=self.name,
                kind="cloze",
                items=len(self._items),
                prompts=self._prompts,
                metrics={"acc": right},
                **fields,
            )
        ]

    def _ask(self, pretrained: Pretrained, item: ChoiceItem, number: int) -> list[Asked]:
        """Per choice what to ask the model."""
        tokenizer = pretrained.tokenizer
        context = item.context.replace(BLANK, tokenizer.mask_token)
        ids: list[int] = tokenizer(context, add_special_tokens=False, verbose=False)["input_ids"]
        if ids.count(tokenizer.mask_token_id) != 1:
            raise InputError(
                f"{self.name}: item {number} has {ids.count(tokenizer.mask_token_id)} blanks",
                value=item.context,
                allowed=f"one {BLANK} in each context",
            )
        blank = ids.index(tokenizer.mask_token_id)
        first, last = special_ends(tokenizer)
        before, after = [*first, *ids[:blank]], [*ids[blank + 1 :], *last]
        choices = []
        for choice in item.choices:
            filling = tokenizer(choice, add_special_tokens=False, verbose=False)["input_ids"]
            length = len(before) + len(filling) + len(after)
            if not filling or length > pretrained.spec.max_positions:
                raise InputError(
                    f"{self.name}: item {number} does not fit",
                    value=f"{length} tokens",
                    allowed=f"up to {pretrained.spec.max_positions}, none empty",
                )
            asked: Asked = []
            for place, token in enumerate(filling):
                masked = [*filling[:place], tokenizer.mask_token_id, *filling[place + 1 :]]
                asked.append(((*before, *masked, *after), len(before) + place, token))
            choices.append(asked)
        return choices

    def _run(
        self,
        rows: Sequence[tuple[int, ...]],
        wanted: dict[tuple[int, ...], set[tuple[int, int]]],
        found: dict[tuple[tuple[int, ...], int, int], float],
    ) -> None:
        inputs, seen = padded(rows, self._pad)
        logits = self._model(input_ids=inputs.to(self._device), attention_mask=seen.to(self._device)).logits
        for row, ids in enumerate(rows):
            asked = sorted(wanted[ids])
            places = torch.tensor([place for place, _ in asked], device=logits.device)
            tokens = torch.tensor([token for _, token in asked], device=logits.device)
            predicted = torch.log_softmax(logits[row, places].float(), dim=-1)
            values = predicted.gather(1, tokens[:, None])[:, 0].tolist()
            for (place, token), value in zip(asked, values, strict=True):
                found[ids, place, token] = value


def padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Any, Any]:
    """Token rows of unlike length as inputs and attention mask, both int64 (rows, longest)."""
    width = max(map(len, rows))
    inputs = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], dtype=torch.int64)
    seen = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], dtype=torch.int64)
    return inputs, seen
