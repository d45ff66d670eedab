"""Text as blocks of tokens, for calibration and evaluation."""

from __future__ import annotations

from typing import Any

import torch

from costmodel.errors import InputError


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
