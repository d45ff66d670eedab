"""Blocks of text as inputs and the tokens that a model is asked for in them: what is measured and calibrated on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from costmodel.errors import InputError
from costmodel.model import ModelSpec
from validate.models.text import known_tokens, token_blocks

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
    return next_tokens(token_blocks(tokenizer, text, length, count))


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
    hidden = hidden_tokens(_inner(tokenizer, text, length, count), tokenizer.mask_token_id, seed)
    targets = torch.nn.functional.pad(hidden.targets, (len(before), len(after)), value=IGNORED)
    return Blocks(kind="masked", inputs=_surrounded(hidden.inputs, before, after), targets=targets)


def text_blocks(
    model: Any,
    spec: ModelSpec,
    tokenizer: Any,
    text: str,
    length: int,
    count: int | None,
    *,
    seed: int = 0,
    hint: str = "",
) -> Blocks:
    """Blocks of the kind that a model predicts.

    Args:
        model: with its head, whose class says what that is.
        seed: of an encoder's masked positions.
        hint: what to do about a model without such a head.

    Raises:
        InputError: when the model has no head that predicts text, the text is too short, or has a token that the model
            lacks.
    """
    predicts = _is_masked(model) if spec.is_encoder else _is_causal(model)
    if not predicts:
        allowed = "...ForMaskedLM" if spec.is_encoder else "...ForCausalLM"
        name = type(model).__name__
        raise InputError("the checkpoint has no head that predicts text", value=name, allowed=allowed, hint=hint)
    return _known(_blocks(spec, tokenizer, text, length, count, seed), spec)


def calibration_inputs(
    model: Any, spec: ModelSpec, tokenizer: Any, text: str, length: int, count: int | None, *, seed: int = 0
) -> torch.Tensor:
    """What a model is to see of a calibration text: blocks like those that it is measured on.

    For a masked LM those of `masked_blocks`; for another encoder whole tokens between the special ones that its
    tokenizer has; else plain blocks.

    Returns:
        int64 (blocks, length).

    Raises:
        InputError: when the text is too short, or has a token that the model lacks.
    """
    if not spec.is_encoder or _is_masked(model):
        return _known(_blocks(spec, tokenizer, text, length, count, seed), spec).inputs
    if tokenizer.mask_token_id is None:
        return known_tokens(token_blocks(tokenizer, text, length, count), spec)
    inputs = _surrounded(_inner(tokenizer, text, length, count), *special_ends(tokenizer))
    return known_tokens(inputs, spec)


def next_tokens(inputs: torch.Tensor) -> Blocks:
    """Each of int64 (blocks, length) tokens asks for the one after it; the last for none."""
    targets = torch.full_like(inputs, IGNORED)
    targets[:, :-1] = inputs[:, 1:]
    return Blocks(kind="causal", inputs=inputs, targets=targets)


def hidden_tokens(tokens: torch.Tensor, mask: int, seed: int) -> Blocks:
    """15 % of each of int64 (blocks, length) tokens, at least one, hidden behind the token `mask` and asked for."""
    chosen = torch.zeros(tokens.shape, dtype=torch.bool)
    masked = max(1, round(MASKED_SHARE * tokens.shape[1]))
    order = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(seed)).argsort(1)[:, :masked]
    chosen.scatter_(1, order, True)
    return Blocks(kind="masked", inputs=tokens.masked_fill(chosen, mask), targets=tokens.masked_fill(~chosen, IGNORED))


def special_ends(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts before and after a text: BERT's [CLS] and [SEP]."""
    probe: list[int] = tokenizer(tokenizer.mask_token)["input_ids"]
    place = probe.index(tokenizer.mask_token_id)
    return probe[:place], probe[place + 1 :]


def _blocks(spec: ModelSpec, tokenizer: Any, text: str, length: int, count: int | None, seed: int) -> Blocks:
    if spec.is_encoder:
        return masked_blocks(tokenizer, text, length, count, seed=seed)
    return causal_blocks(tokenizer, text, length, count)


def _known(blocks: Blocks, spec: ModelSpec) -> Blocks:
    for tokens in (blocks.inputs, blocks.targets):
        known_tokens(tokens, spec)
    return blocks


def _is_masked(model: Any) -> bool:
    return type(model).__name__.endswith(("ForMaskedLM", "ForPreTraining"))


def _is_causal(model: Any) -> bool:
    return type(model).__name__.endswith(("ForCausalLM", "LMHeadModel"))


def _inner(tokenizer: Any, text: str, length: int, count: int | None) -> torch.Tensor:
    """Blocks that leave room for the special tokens around them."""
    extra = sum(map(len, special_ends(tokenizer)))
    if length <= extra:
        raise InputError("--length is too small", value=length, allowed=f"above {extra}, the special tokens of a block")
    return token_blocks(tokenizer, text, length - extra, count)


def _surrounded(tokens: torch.Tensor, before: list[int], after: list[int]) -> torch.Tensor:
    ends = [torch.tensor(ids, dtype=torch.int64).expand(len(tokens), -1) for ids in (before, after)]
    return torch.cat([ends[0], tokens, ends[1]], dim=1)
