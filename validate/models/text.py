"""Text as blocks of tokens, for calibration and evaluation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from costmodel.errors import InputError
from costmodel.model import ModelSpec


def token_blocks(tokenizer: Any, text: str, length: int, count: int | None = None) -> torch.Tensor:
    """The text as consecutive blocks of `length` tokens, without special ones; the rest that fills no block is left.

    Args:
        tokenizer: a transformers tokenizer.
        length: tokens of a block.
        count: how many blocks, spread evenly over the text; None for all.

    Returns:
        int64 (blocks, length).

    Raises:
        InputError: when the text is too short for `count` blocks, or for one.
    """
    ids = torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], dtype=torch.int64)
    whole = len(ids) // length
    needed = 1 if count is None else count
    if whole < needed:
        allowed = f"at least {needed * length:,} tokens ({needed} blocks of {length})"
        raise InputError("text too short", value=f"{len(ids):,} tokens", allowed=allowed)
    blocks = ids[: whole * length].view(whole, length)
    if count is None or count == whole:
        return blocks
    return blocks[torch.linspace(0, whole - 1, count).round().long()]


def known_tokens(tokens: torch.Tensor, spec: ModelSpec) -> torch.Tensor:
    """The same tokens of a text, after making sure that the model has an embedding for each.

    Args:
        tokens: int64 of any shape; negative ones stand for none.

    Raises:
        InputError: naming the largest one.
    """
    if tokens.numel():
        require_known([int(tokens.max())], spec, "the text")
    return tokens


def require_known(tokens: Iterable[int], spec: ModelSpec, where: str) -> None:
    """Make sure that a model has an embedding for each of some tokens.

    Args:
        where: they are from.

    Raises:
        InputError: naming the largest one.
    """
    highest = max(tokens, default=0)
    if highest >= spec.vocab_size:
        raise InputError(
            f"the tokenizer gives a token of {where} that the model lacks",
            value=highest,
            allowed=f"below {spec.vocab_size}, the vocabulary of {spec.name}",
            hint="the tokenizer is of another model, or has tokens added that were never trained",
        )
