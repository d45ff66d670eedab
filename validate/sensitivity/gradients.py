"""Second moments of the loss's gradients at the outputs of one layer's weights, gathered while it runs backward."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from costmodel.tensors import WeightTensor
from validate.errors import MeasurementError
from validate.models.weights import dense_weight


class SiteGradients:
    """Sums over tokens of g g^T and g y^T, with g the gradient of the summed loss at y = W x, per prediction.

    A tall W (out > in) is W = Q R first, so that both matrices are in the basis of Q: g that no y can meet is left out.

    Args:
        weight: (out, in), any float type.
        predictions: how many terms the summed loss has.

    Attributes:
        reduced: float64 (k, in), W or R, k = min(out, in).
        squares: float64 (k, k), sum of g g^T / predictions.
        crosses: float64 (k, k), sum of g y^T / predictions.
        mean_square: sum of |g|^2 / (out x predictions), all of g.
    """

    def __init__(self, weight: torch.Tensor, predictions: int) -> None:
        wide = weight.detach().to(torch.float64)
        self._basis: torch.Tensor | None = None
        self.reduced = wide
        if wide.shape[0] > wide.shape[1]:
            basis, self.reduced = torch.linalg.qr(wide)
            self._basis = basis.to(torch.float32)
        size = len(self.reduced)
        self.squares = torch.zeros(size, size, dtype=torch.float64, device=wide.device)
        self.crosses = torch.zeros_like(self.squares)
        self.mean_square = 0.0
        self._predictions = predictions

    def add(self, outputs: torch.Tensor, gradients: torch.Tensor) -> None:
        """Add tokens: y and g, each (..., out). Products are of fp32, sums of fp64.

        Raises:
            MeasurementError: when one is not finite.
        """
        width = outputs.shape[-1]
        y, g = (each.reshape(-1, width).to(torch.float32) for each in (outputs, gradients))
        self.mean_square += float(g.square().sum(dtype=torch.float64)) / (width * self._predictions)
        if self._basis is not None:
            y, g = y @ self._basis, g @ self._basis
        self.squares += (g.T @ g).to(torch.float64) / self._predictions
        self.crosses += (g.T @ y).to(torch.float64) / self._predictions
        if not bool(torch.isfinite(self.crosses.sum() + self.squares.sum())):
            raise MeasurementError("non-finite", "a gradient of the loss holds NaN or infinity")

    def to(self, device: torch.device | str) -> SiteGradients:
        """The same sums on a device, complete: no tokens are added to them."""
        moved = copy.copy(self)
        moved._basis = None
        moved.reduced, moved.squares, moved.crosses = (
            each.to(device) for each in (self.reduced, self.squares, self.crosses)
        )
        return moved


class LayerGradients:
    """Gathers gradients behind each weight of one layer; a context manager that takes its hooks away.

    Args:
        layer: a layer with dense weights.
        tensors: its weights.
        predictions: how many terms the summed loss has.
    """

    def __init__(self, layer: nn.Module, tensors: Iterable[WeightTensor], predictions: int) -> None:
        modules = {tensor.name: layer.get_submodule(tensor.path) for tensor in tensors}
        self.sites = {name: SiteGradients(dense_weight(module), predictions) for name, module in modules.items()}
        self._hooks = [module.register_forward_hook(self._hook(name)) for name, module in modules.items()]

    def __enter__(self) -> LayerGradients:
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _hook(self, name: str) -> Any:
        def watch(module: nn.Module, args: Any, output: torch.Tensor) -> None:
            bias: Any = module.bias
            product = output.detach() if bias is None else output.detach() - bias
            output.register_hook(lambda gradient: self.sites[name].add(product, gradient))

        return watch
