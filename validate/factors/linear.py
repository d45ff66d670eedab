"""A linear layer that runs as its factors, one linear after the other, and the dense weights on either side of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from validate.checkpoint.loader import STAGES, FactoredLinear  # there, since a checkpoint's loader stands alone

__all__ = ["STAGES", "FactoredLinear", "dense_weight", "product"]


def product(stages: Sequence[torch.Tensor]) -> torch.Tensor:
    """The dense weight that factors stand for, (out, in), in fp32 or fp64: for checking, never for running.

    Args:
        stages: weights in the order they run, each (out, in) of its own linear.
    """
    wide = [each.detach() if each.dtype is torch.float64 else each.detach().to(torch.float32) for each in stages]
    result = wide[0]
    for each in wide[1:]:
        result = each @ result
    return result


def dense_weight(module: nn.Module) -> torch.Tensor:
    """The weight of a linear as (out_features, in_features): a view for nn.Linear, transposed for GPT-2's Conv1D."""
    weight = cast(torch.Tensor, module.weight).detach()
    return weight if isinstance(module, nn.Linear) else weight.T
