"""What the calibration text asks a model to predict: the next token, or the tokens hidden from an encoder."""

from __future__ import annotations

from typing import Any

import torch

from costmodel.errors import InputError
from costmodel.model_spec import ModelSpec

IGNORED = -100
"""Target of a token at which nothing is predicted."""
_MASKED = 0.15
"""Share of an encoder's tokens that are hidden, as in BERT's training."""


def with_targets(blocks: torch.Tensor, spec: ModelSpec, model: Any, tokenizer: Any, seed: int) -> tuple[Any, Any]:
    """Inputs and what each is to predict, both int64 (blocks, length).

    A decoder's inputs are the blocks. An encoder's have the mask token in 15 % of places, at least one.

    Raises:
        InputError: when an encoder has no masked-LM head or its tokenizer no mask token.
    """
    targets = torch.full_like(blocks, IGNORED)
    if not spec.is_encoder:
        targets[:, :-1] = blocks[:, 1:]
        return blocks, targets
    if not type(model).__name__.endswith("ForMaskedLM"):
        raise InputError("gradients need a masked-LM head", value=type(model).__name__, allowed="...ForMaskedLM",
                         hint="leave --fisher out")  # fmt: skip
    mask_id = getattr(tokenizer, "mask_token_id", None)
    if mask_id is None:
        raise InputError("gradients of an encoder need a tokenizer with a mask token", hint="leave --fisher out")
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.rand(blocks.shape, generator=generator) < _MASKED
    if not bool(hidden.any()):
        hidden[0, 0] = True
    targets[hidden] = blocks[hidden]
    return blocks.masked_fill(hidden, mask_id), targets
