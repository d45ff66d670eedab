"""What counting alone makes of held-out text, on the very tokens that a model is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from studies.models.batches import IGNORED
from studies.models.neighbours import Neighbours
from studies.models.ngram import KneserNey, contexts_of

ORDERS = (3, 4, 5)


def causal_baseline(tokens: torch.Tensor, blocks: torch.Tensor, vocabulary: int) -> dict[str, Any]:
    """Kneser-Ney n-grams of several orders, scored on every token of a block but the first; the best counts.

    Args:
        tokens: of the training part (tokens,).
        blocks: of the held-out part (blocks, length).
    """
    rows, by_order = blocks.numpy(), {}
    for order in ORDERS:
        model = KneserNey(tokens.numpy(), order, vocabulary)
        contexts = contexts_of(rows, order, vocabulary)[:, 1:].reshape(-1, order - 1)
        by_order[order] = float(model.losses(contexts, rows[:, 1:].ravel()).mean())
    best = min(by_order, key=by_order.__getitem__)
    return {
        "name": "interpolated modified Kneser-Ney",
        "order": best,
        "nats_per_token": by_order[best],
        "by_order": {str(order): loss for order, loss in by_order.items()},
    }


def masked_baseline(
    tokens: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor, vocabulary: int, *, hidden: int
) -> dict[str, Any]:
    """Neighbours on both sides, scored on the masked positions; the best of several lengths and weights counts.

    Args:
        tokens: of the training part (tokens,).
        inputs, targets: (blocks, length), as the model sees them, the special tokens at both ends included.
        hidden: the token that stands in for what is asked.
    """
    seen, asked = inputs.numpy(), targets.numpy()
    rows, columns = np.nonzero(asked != IGNORED)
    where = (rows, columns)
    unknown = np.where(seen == hidden, vocabulary, seen)
    unknown[:, [0, -1]] = vocabulary  # in a block the ends stand for nothing that was counted
    model = Neighbours(tokens.numpy(), vocabulary)
    by_setting = model.losses(unknown, where, asked[where])
    best = min(by_setting, key=by_setting.__getitem__)
    return {
        "name": "both neighbours, interpolated",
        "setting": best,
        "nats_per_token": by_setting[best],
        "by_setting": by_setting,
    }
