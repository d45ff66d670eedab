"""What a model makes of held-out tokens: the loss of each, and the choices it takes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from studies.models.batches import IGNORED
from studies.models.loop import masked_logits
from studies.models.place import place_of
from validate.errors import MeasurementError
from validate.interval import Interval
from validate.quality.intervals import change, share


@torch.no_grad()
def causal_losses(model: nn.Module, blocks: torch.Tensor, *, batch: int = 16) -> torch.Tensor:
    """Negative log-likelihood of each token but the first, given those before it in its block.

    Args:
        blocks: int64 (blocks, length).

    Returns:
        float64 (blocks, length - 1), nats.

    Raises:
        MeasurementError: when one is not finite.
    """
    parts, device = [], place_of(model)
    for part in (each.to(device) for each in torch.split(blocks, batch)):
        logits = model(input_ids=part, use_cache=False).logits[:, :-1].float()
        losses = functional.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="none")
        parts.append(losses.view(len(part), -1).double().cpu())
    return _finite(torch.cat(parts))


@torch.no_grad()
def masked_losses(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, *, batch: int = 16) -> torch.Tensor:
    """Negative log-likelihood of each token asked for, in the order of the rows.

    Args:
        inputs, targets: int64 (blocks, length); targets are IGNORED where nothing is asked.

    Returns:
        float64 (positions,), nats.

    Raises:
        MeasurementError: when one is not finite.
    """
    parts, device = [], place_of(model)
    for rows in zip(torch.split(inputs, batch), torch.split(targets, batch), strict=True):
        seen, asked = (each.to(device) for each in rows)
        logits = masked_logits(model, seen, asked)
        losses = functional.cross_entropy(logits, asked[asked != IGNORED], reduction="none")
        parts.append(losses.double().cpu())
    return _finite(torch.cat(parts))


@torch.no_grad()
def chosen(model: nn.Module, tokenizer: Any, items: Sequence[dict[str, Any]]) -> list[int]:
    """The choice that the model takes in each item: the likeliest as a whole, not per token or byte.

    A causal model continues the context by each choice; a masked one fills the mask, for which a choice is one token.

    Raises:
        MeasurementError: when a likelihood is not finite.
    """
    return [
        _fill(model, tokenizer, item) if tokenizer.mask_token else _continue(model, tokenizer, item) for item in items
    ]


def accuracy(answers: Sequence[int], items: Sequence[dict[str, Any]]) -> Interval:
    """Share of items whose answer is right, with Wilson's interval."""
    right = [bool(answer == item["answer"]) for answer, item in zip(answers, items, strict=True)]
    return share(sum(right), len(right))


def mean_loss(losses: torch.Tensor, counts: torch.Tensor) -> Interval:
    """Mean of held-out losses with its bootstrap interval over blocks, which stand for other text of the same kind.

    Args:
        losses: of all predicted tokens, block after block (predictions,).
        counts: predictions of each block (blocks,).
    """
    sums = [float(part.sum()) for part in torch.split(losses.flatten(), counts.tolist())]
    asked = [(total, count) for total, count in zip(sums, counts.tolist(), strict=True) if count]
    return change([total for total, _ in asked], [0.0] * len(asked), [count for _, count in asked])


def weights_digest(model: nn.Module) -> str:
    """SHA-256 over names and bytes of all parameters: equal for equal bits alone."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _continue(model: nn.Module, tokenizer: Any, item: dict[str, Any]) -> int:
    def tokens(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    rows = [tokens(item["context"] + choice) for choice in item["choices"]]
    width = max(map(len, rows))
    cut = max(0, width - tokenizer.model_max_length)  # of the context's beginning, the same for all choices
    start, width = len(tokens(item["context"])) - cut, width - cut
    rows = [row[cut:] for row in rows]
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])  # a causal model never looks at what follows
    ids = ids.to(place_of(model))
    logits = model(input_ids=ids, use_cache=False).logits.float()
    losses = functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    sums = [losses.view(len(rows), -1)[at, start - 1 : len(row) - 1].double().sum() for at, row in enumerate(rows)]
    return int(_finite(torch.stack(sums)).argmin())


def _fill(model: nn.Module, tokenizer: Any, item: dict[str, Any]) -> int:
    ids = torch.tensor([tokenizer(item["context"])["input_ids"]], device=place_of(model))
    asked = torch.where(ids == tokenizer.mask_token_id, 0, IGNORED)
    logits = masked_logits(model, ids, asked)[0].log_softmax(-1)
    tokens = [tokenizer(choice, add_special_tokens=False)["input_ids"][0] for choice in item["choices"]]
    return int(_finite(-logits[tokens]).argmin())


def _finite(losses: torch.Tensor) -> torch.Tensor:
    if not torch.isfinite(losses).all():
        raise MeasurementError("non-finite", "a loss is not finite", value=float(losses.sum()))
    return losses
