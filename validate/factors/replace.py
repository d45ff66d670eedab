"""A decomposition applied to a transformers model in place, and taken back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from costmodel.decomposition.factors import Decomposition, Factor, Site, Tucker
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor
from validate.factors.experts import LayerExperts, factored_layers
from validate.factors.factorize import Factorization, factorize, random_stages
from validate.hf.experts import FactoredExperts, expert_linear
from validate.hf.layers import without_layers
from validate.hf.modules import FactoredLinear
from validate.models.weights import dense_weight

StageMaker = Callable[[Site, WeightTensor, Factor, nn.Module], list[torch.Tensor]]
"""From a site and its dense module to the weights of its factors, in the order they run."""


class Replacement:
    """The factored linears and dropped layers of one model; a context manager that restores on leaving.

    Args:
        model: a transformers model of `spec`; its modules are exchanged, its other weights shared.
        spec: its structure.
        decomposition: what to replace; checked against `spec`.
        make: where factors come from: `RandomFactors` or `WeightFactors`.

    Raises:
        DecompositionError: when the decomposition does not fit.
        MeasurementError: when a factorisation fails; the model is as before then.
    """

    def __init__(self, model: nn.Module, spec: ModelSpec, decomposition: Decomposition, make: StageMaker) -> None:
        decomposition.check(spec)
        self._model, self._spec = model, spec
        self._undo: list[Callable[[], None]] = []
        try:
            for site, factor in sorted(decomposition.factors.items()):
                if not spec.tensor(site.tensor, site.layer).experts:
                    self._factor(site, factor, make)
            for layer, experts in enumerate(factored_layers(spec, decomposition)):
                if experts is not None:
                    self._factor_experts(layer, experts, make)
            if decomposition.dropped:
                self._drop(decomposition.dropped)
        except BaseException:
            self.restore()
            raise

    def restore(self) -> None:
        """Put every module back; the model is exactly what it was."""
        while self._undo:
            self._undo.pop()()

    def __enter__(self) -> Replacement:
        return self

    def __exit__(self, *error: object) -> None:
        self.restore()

    def _factor(self, site: Site, factor: Factor, make: StageMaker) -> None:
        tensor = self._spec.tensor(site.tensor, site.layer)
        path = f"{self._spec.layer_prefix}.{site.layer}.{tensor.path}"
        parent_path, _, child = path.rpartition(".")
        parent, dense = self._model.get_submodule(parent_path), self._model.get_submodule(path)
        factored = FactoredLinear(make(site, tensor, factor, dense), dense.bias)  # type: ignore[arg-type]
        factored.train(dense.training)
        setattr(parent, child, factored)
        self._undo.append(lambda: setattr(parent, child, dense))

    def _factor_experts(self, layer: int, experts: LayerExperts, make: StageMaker) -> None:
        """Exchange the experts of a layer."""
        path = f"{self._spec.layer_prefix}.{layer}.{experts.path}"
        parent_path, _, child = path.rpartition(".")
        parent, dense = self._model.get_submodule(parent_path), self._model.get_submodule(path)
        stages = {
            place: make(each.own, each.tensor, each.factor, expert_linear(dense, *place))
            for place, each in experts.factors.items()
        }
        setattr(parent, child, FactoredExperts(dense, stages).train(dense.training))
        self._undo.append(lambda: setattr(parent, child, dense))

    def _drop(self, dropped: frozenset[int]) -> None:
        """Leave layers out and renumber the rest."""
        for owner, name, value in without_layers(self._model, self._spec.layer_prefix, dropped):
            self._set(owner, name, value)

    def _set(self, owner: Any, name: str, value: Any) -> None:
        before = getattr(owner, name)
        setattr(owner, name, value)
        self._undo.append(lambda: setattr(owner, name, before))


class RandomFactors:
    """Random factors of the right shapes, the same for the same seed; for timing random weights."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, site: Site, tensor: WeightTensor, factor: Factor, dense: nn.Module) -> list[torch.Tensor]:
        weight: torch.Tensor = dense.weight  # type: ignore[assignment]
        return random_stages(
            tensor.out_features,
            tensor.in_features,
            factor,
            dtype=weight.dtype,
            device=weight.device,
            scale=0.02,
            generator=self._generator,
        )


class WeightFactors:
    """Factors computed from the weights, one factorisation per tensor and form for all ranks; kept on the CPU.

    Args:
        weight: gives the weight (out, in) of a linear to factor; factors are rounded to the type of the one it has.
    """

    def __init__(self, weight: Callable[[nn.Module], torch.Tensor] = dense_weight) -> None:
        self._weight = weight
        self._known: dict[tuple[Site, bool], Factorization] = {}

    def __call__(self, site: Site, tensor: WeightTensor, factor: Factor, dense: nn.Module) -> list[torch.Tensor]:
        weight = dense_weight(dense)
        key = (site, isinstance(factor, Tucker))
        if key not in self._known:
            full = self.factorize(site, self._weight(dense), tucker=key[1])
            self._known[key] = Factorization(
                left=full.left.cpu(), core=full.core.cpu(), right=full.right.cpu(), tucker=full.tucker
            )
        return [stage.to(device=weight.device, dtype=weight.dtype) for stage in self._known[key].stages(factor)]

    def factorize(self, site: Site, weight: torch.Tensor, *, tucker: bool) -> Factorization:
        """All that is known of a weight, to be truncated to any rank."""
        return factorize(weight, tucker=tucker)


def clone(model: nn.Module, tensor: Callable[[torch.Tensor], torch.Tensor] | None = None) -> nn.Module:
    """A second tree of modules with a configuration of its own.

    Args:
        model: what to copy.
        tensor: applied once to each parameter and buffer; None shares them with `model`.
    """
    memo: dict[int, Any] = {}
    for each in [*model.parameters(), *model.buffers()]:
        if tensor is None:
            memo[id(each)] = each
        elif isinstance(each, nn.Parameter):
            memo[id(each)] = nn.Parameter(tensor(each.detach()), requires_grad=each.requires_grad)
        else:
            memo[id(each)] = tensor(each)
    return copy.deepcopy(model, memo)
