"""The products of routed experts as one operator, so that torch.compile makes one graph of a layer of experts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional


@torch.library.custom_op("low_rank::expert_products", mutates_args=())
def expert_products(
    rows: torch.Tensor,
    ends: torch.Tensor,
    weights: Sequence[torch.Tensor],
    stages: Sequence[int],
    biases: Sequence[torch.Tensor],
) -> torch.Tensor:
    """Each expert's linear over the rows that are routed to it, one expert after the other; those without rows are
    left out.

    Args:
        rows: (rows, in) in the order of the experts.
        ends: (experts,), the row behind each expert's last one; what follows all of them belongs to no expert: zeros.
        weights: of all experts, one behind the other, each (out, in) of its own stage.
        stages: how many of them each expert has.
        biases: (out,) of each expert, or none.

    Returns:
        (rows, out).
    """
    result = rows.new_zeros(len(rows), weights[-1].shape[0])
    start, first = 0, 0
    for expert, (end, count) in enumerate(zip(ends.tolist(), stages, strict=True)):
        if end > start:
            own = rows[start:end]
            for place in range(first, first + count):
                last = place == first + count - 1
                own = functional.linear(own, weights[place], biases[expert] if biases and last else None)
            result[start:end] = own
        start, first = end, first + count
    return result


@expert_products.register_fake
def _(
    rows: torch.Tensor,
    ends: torch.Tensor,
    weights: Sequence[torch.Tensor],
    stages: Sequence[int],
    biases: Sequence[torch.Tensor],
) -> torch.Tensor:
    return rows.new_empty(rows.shape[0], weights[-1].shape[0])
