"""Blocks of text as inputs and the tokens that a model is asked for in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from costmodel.errors import InputError
from validate.text import token_blocks

IGNORED = -100
"""The target of a position that nothing is asked of."""
MASKED_SHARE = 0.15
"""Share of an encoder's tokens that are masked, as in its training (Devlin et al. 2019, section 3.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """What a model sees and what it is asked for; the same for the dense model and every candidate.

    Attributes:
        kind: causal or masked.
        inputs: int64 (blocks, length).
        targets: int64 (blocks, length): the token that belongs to the prediction made there, or IGNORED.
    """

    kind: Literal["causal", "masked"]
    inputs: torch.Tensor
    targets: torch.Tensor

    @property
    def tokens(self) -> list[int]:
        """Predictions asked for in each block."""
        return [int(count) for count in (self.targets != IGNORED).sum(1)]


def causal_blocks(tokenizer: Any, text: str, length: int, count: int | None) -> Blocks:
    """Every token but the first of a block is predicted from those before it.

    Raises:
        InputError: when the text is too short.
    """
    inputs = token_blocks(tokenizer, text, length, count)
    targets = torch.full_like(inputs, IGNORED)
    targets[:, :-1] = inputs[:, 1:]
    return Blocks(kind="causal", inputs=inputs, targets=targets)


def masked_blocks(tokenizer: Any, text: str, length: int, count: int | None, *, seed: int = 0) -> Blocks:
    """15 % of each block's tokens, at least one, are replaced by the mask token and predicted; special tokens surround
    a block, within its length, where the tokenizer has them.

    Args:
        seed: of the positions; always the same, so that records of all runs can be paired.

    Raises:
        InputError: when the tokenizer has no mask token or the text is too short.
    """
    if tokenizer.mask_token_id is None:
        raise InputError("tokenizer has no mask token", value=type(tokenizer).__name__, allowed="a masked LM's")
    before, after = special_ends(tokenizer)
    extra = len(before) + len(after)
    if length <= extra:
        raise InputError("--length is too small", value=length, allowed=f"above {extra}, the special tokens of a block")
    plain = token_blocks(tokenizer, text, length - extra, count)
    chosen = torch.zeros(plain.shape, dtype=torch.bool)
    masked = max(1, round(MASKED_SHARE * plain.shape[1]))
    order = torch.rand(plain.shape, generator=torch.Generator().manual_seed(seed)).argsort(1)[:, :masked]
    chosen.scatter_(1, order, True)
    inputs = plain.masked_fill(chosen, tokenizer.mask_token_id)
    targets = plain.masked_fill(~chosen, IGNORED)
    ends = [torch.tensor(ids, dtype=torch.int64).expand(len(plain), -1) for ids in (before, after)]
    inputs = torch.cat([ends[0], inputs, ends[1]], dim=1)
    targets = torch.nn.functional.pad(targets, (len(before), len(after)), value=IGNORED)
    return Blocks(kind="masked", inputs=inputs, targets=targets)


def special_ends(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts before and after a text: BERT's [CLS] and [SEP]."""
    probe: list[int] = tokenizer(tokenizer.mask_token)["input_ids"]
    place = probe.index(tokenizer.mask_token_id)
    return probe[:place], probe[place + 1 :]
