"""Multiple-choice items for masked models: which of four tokens stood in the blank."""

from __future__ import annotations

import random
from typing import Any

import torch

from studies.models.continuations import CHOICES


def cloze(tokenizer: Any, blocks: torch.Tensor, count: int, *, same_text: bool, seed: int = 0) -> list[dict[str, Any]]:
    """Items `{"context", "choices", "answer"}`: the context has one mask token, a choice is the text of one token.

    Wrong choices are tokens of other blocks, by their frequency, or tokens that stand elsewhere in the same text.

    Args:
        blocks: int64 (blocks, length), of the held-out part, shorter than the model's sequences by two.
        count: of items; fewer are returned where the text has no more blocks.
        same_text: where wrong choices come from.
    """
    source = random.Random(f"cloze {same_text} {seed}")
    order = list(range(len(blocks)))
    source.shuffle(order)
    items: list[dict[str, Any]] = []
    for block in order:
        if len(items) == count:
            break
        item = _item(tokenizer, blocks, block, same_text, source)
        if item is not None:
            items.append(item)
    return items


def _item(
    tokenizer: Any, blocks: torch.Tensor, block: int, same_text: bool, source: random.Random
) -> dict[str, Any] | None:
    ids = blocks[block].tolist()
    for _ in range(8):  # a cut can fall where the text would be split into other tokens: try another
        at = source.randrange(len(ids) // 8, len(ids) - len(ids) // 8)
        context = _text(tokenizer, [*ids[:at], tokenizer.mask_token_id, *ids[at + 1 :]])
        whole = [*ids[:at], tokenizer.mask_token_id, *ids[at + 1 :]]
        if not _alone(tokenizer, ids[at]) or tokenizer(context, add_special_tokens=False)["input_ids"] != whole:
            continue
        wrong: list[int] = []
        for _ in range(200):
            row = ids if same_text else blocks[source.randrange(len(blocks))].tolist()
            token = row[source.randrange(len(row))]
            if token not in (ids[at], *wrong) and _alone(tokenizer, token):
                wrong.append(token)
            if len(wrong) == CHOICES - 1:
                answer = source.randrange(CHOICES)
                tokens = [*wrong[:answer], ids[at], *wrong[answer:]]
                choices = [_text(tokenizer, [token]) for token in tokens]
                return {"context": context, "choices": choices, "answer": answer}
    return None


def _text(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def _alone(tokenizer: Any, token: int) -> bool:
    """Whether the token's text, of letters or signs and not blank, is read as this one token."""
    text = _text(tokenizer, [token])
    return bool(text.strip()) and tokenizer(text, add_special_tokens=False)["input_ids"] == [token]
