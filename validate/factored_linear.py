"""A linear layer that runs as its factors, one linear after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

STAGES = {2: ("in", "out"), 3: ("in", "core", "out")}
"""Names of the factors, as the cost model's operations end."""


class FactoredLinear(nn.Module):
    """y = W_out (W_core) W_in x + bias with the factors never multiplied together; replaces nn.Linear and Conv1D.

    Its submodules are `in`, `core` (three factors only) and `out`; the bias belongs to `out`.

    Args:
        stages: weights in the order they run, each (out, in) of its own linear; two or three.
        bias: of (out_features,), shared with the layer replaced, or None.
    """

    def __init__(self, stages: Sequence[torch.Tensor], bias: nn.Parameter | None) -> None:
        super().__init__()
        for name, weight in zip(STAGES[len(stages)], stages, strict=True):
            self.add_module(name, _linear(weight, bias if name == "out" else None))

    @property
    def in_features(self) -> int:
        """Width of the input."""
        return int(self.get_submodule("in").in_features)  # type: ignore[arg-type]

    @property
    def out_features(self) -> int:
        """Width of the output."""
        return int(self.get_submodule("out").out_features)  # type: ignore[arg-type]

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., in_features) -> (..., out_features)."""
        for stage in self._modules.values():
            hidden = stage(hidden)  # type: ignore[misc]
        return hidden

    def dense_weight(self) -> torch.Tensor:
        """The product of the factors, (out_features, in_features), in fp32 or fp64: for checking, never for running."""
        weights = [cast(nn.Linear, stage).weight for stage in self._modules.values()]
        product = _widened(weights[0])
        for weight in weights[1:]:
            product = _widened(weight) @ product
        return product


def dense_weight(module: nn.Module) -> torch.Tensor:
    """The weight of a linear as (out_features, in_features): a view for nn.Linear, transposed for GPT-2's Conv1D."""
    weight = cast(torch.Tensor, module.weight).detach()
    return weight if isinstance(module, nn.Linear) else weight.T


def _linear(weight: torch.Tensor, bias: nn.Parameter | None) -> nn.Linear:
    out_features, in_features = weight.shape
    linear = nn.Linear(in_features, out_features, bias=False, device="meta", dtype=weight.dtype)
    linear.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    linear.bias = bias  # type: ignore[assignment]
    return linear


def _widened(weight: torch.Tensor) -> torch.Tensor:
    return weight.detach() if weight.dtype is torch.float64 else weight.detach().to(torch.float32)
