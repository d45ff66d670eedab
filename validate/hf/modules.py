"""Modules that stand where a linear was: its factors in a row, or its weight in int8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from validate.hf.names import STAGES

INT8_MAX = 127
"""Largest magnitude of a weight in int8; symmetric, so that 0 stays 0."""


class FactoredLinear(nn.Module):
    """y = W_out (W_core) W_in x + bias with the factors never multiplied together; replaces nn.Linear and Conv1D.

    Its submodules are `in`, `core` (three factors only) and `out`; the bias belongs to `out`.

    Args:
        stages: weights in the order they run, each (out, in) of its own linear; two or three.
        bias: of (out_features,), shared with the layer replaced, or None.
        transposed: whether the layer replaced keeps its weight as (in, out), as GPT-2's Conv1D does.
    """

    def __init__(self, stages: Sequence[torch.Tensor], bias: nn.Parameter | None, *, transposed: bool = False) -> None:
        super().__init__()
        self.in_features, self.out_features = stages[0].shape[1], stages[-1].shape[0]
        self.transposed = transposed
        for name, weight in zip(STAGES[len(stages)], stages, strict=True):
            linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta", dtype=weight.dtype)
            linear.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
            linear.bias = bias if name == "out" else None  # type: ignore[assignment]
            self.add_module(name, linear)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., in_features) -> (..., out_features)."""
        for stage in self._modules.values():
            hidden = stage(hidden)  # type: ignore[misc]
        return hidden

    @property
    def weight(self) -> torch.Tensor:
        """The last factor's weight: transformers asks a linear's for its type, and whether it has a value."""
        return self.get_submodule(next(reversed(self._modules))).weight  # type: ignore[return-value]

    def product(self) -> torch.Tensor:
        """The dense weight (out, in) that the factors stand for, in fp32 or fp64."""
        stages: list[Any] = list(self._modules.values())
        result: torch.Tensor | None = None
        for stage in stages:
            weight = stage.dense() if isinstance(stage, Int8Linear) else stage.weight.detach()
            weight = weight if weight.dtype is torch.float64 else weight.to(torch.float32)
            result = weight if result is None else weight @ result
        return cast(torch.Tensor, result)


class Int8Linear(nn.Module):
    """y = (scale * W) x + bias with W kept in int8 and widened when it runs; replaces nn.Linear and Conv1D.

    Args:
        weight: int8 (out, in).
        scale: (out,), of the type that is computed in.
        bias: of (out_features,), shared with the layer replaced, or None.
        transposed: whether the layer replaced keeps its weight as (in, out).
    """

    def __init__(
        self, weight: torch.Tensor, scale: torch.Tensor, bias: nn.Parameter | None, *, transposed: bool = False
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.transposed = transposed
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.weight_scale = nn.Parameter(scale, requires_grad=False)
        self.bias = bias

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., in_features) -> (..., out_features)."""
        return functional.linear(hidden, self.dense().to(hidden.dtype), self.bias)

    def dense(self) -> torch.Tensor:
        """The weight (out, in) that int8 and scale stand for, in the scale's type."""
        return self.weight.to(self.weight_scale.dtype) * self.weight_scale[:, None]


def to_int8(weight: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (out, in) -> int8 (out, in) and scale (out,) of `dtype`: the largest of each row becomes 127, and the rest
    is rounded to the nearest of what the rounded scale reaches."""
    wide = weight.detach().to(torch.float32)
    largest = wide.abs().amax(dim=1)
    scale = torch.where(largest > 0, largest / INT8_MAX, 1.0).to(dtype)
    scale = torch.where(scale > 0, scale, torch.finfo(dtype).tiny)
    whole = (wide / scale.to(torch.float32)[:, None]).round().clamp(-INT8_MAX, INT8_MAX)
    return whole.to(torch.int8), scale


class EmptyOnMeta(TorchFunctionMode):
    """Weights, which modules allocate with torch.empty, take no memory; buffers, which are computed, are real."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.empty:
            kwargs = {**(kwargs or {}), "device": "meta"}
        return func(*args, **(kwargs or {}))
