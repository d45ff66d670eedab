"""Factors fitted layer by layer: each layer to the dense model's outputs, on what the factored layers before it give.

With x the dense model's input of a weight W and x' its input behind the factored layers, M' = E[x' x'^T] and
C = E[x x'^T], the weight that gives W x from x' best is Z = W C M'^-1, and the rank-r weight that does is Z whitened by
M' and truncated (reduced-rank regression, Izenman 1975): its last factor is the least-squares fit of the dense outputs
to what the first one leaves. Z is taken as W + W (C - M') (M' + ridge)^-1, which is W where x' = x, whatever the rank
of M', and changes no direction that the text has not shown.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from costmodel.decomposition.factors import Decomposition, Factor, Site, Tucker
from costmodel.errors import InputError
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor
from validate.errors import MeasurementError
from validate.factors.moments import single_weights
from validate.factors.replace import StageMaker
from validate.factors.whitening import factorize_whitened
from validate.hf.modules import FactoredLinear
from validate.models.stream import LayerStream
from validate.models.weights import dense_weight

RIDGE = 1e-2
"""Of the mean eigenvalue of M': below it, errors of the layers before are not corrected but left."""

Stages = list[torch.Tensor]


def corrected_weight(weight: torch.Tensor, moment: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
    """Z of the module's first lines, float64 (out, in).

    Args:
        weight: W, (out, in), any float type.
        moment: M' = E[x' x'^T], float64 (in, in).
        cross: C = E[x x'^T], float64 (in, in).

    Raises:
        MeasurementError: when a moment is not finite.
    """
    for name, matrix in (("moment", moment), ("cross moment", cross)):
        if not bool(torch.isfinite(matrix).all()):
            raise MeasurementError("non-finite", f"input {name} of shape {tuple(matrix.shape)} holds NaN or infinity")
    wide = weight.detach().to(torch.float64)
    if torch.equal(moment, cross):
        return wide
    ridge = RIDGE * float(moment.diagonal().mean())
    damped = moment + ridge * torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
    error = wide @ (cross - moment)
    corrected: torch.Tensor = wide + torch.linalg.solve(damped, error.T).T
    return corrected


class SequentialPass:
    """One pass of the calibration text through a checkpoint, dense and factored side by side.

    Weights of a layer are fitted in the order they run, each behind those before it; those of one input (q, k and v)
    together. In memory are one layer, the dense model's inputs of its weights, moments, and the hidden states of the
    text, twice.

    Args:
        stream: the dense model.
        blocks: calibration text, int64 (blocks, length).
        decomposition: what is factored and dropped.

    Raises:
        InputError: when a stack of experts is to be factored.
    """

    def __init__(self, stream: LayerStream, blocks: torch.Tensor, decomposition: Decomposition) -> None:
        require_single(stream.spec, decomposition)
        self._stream, self._decomposition = stream, decomposition
        self._dense = stream.start(blocks)
        self._own = self._dense
        self._next = 0

    @torch.no_grad()
    def stages(self, index: int) -> dict[str, Stages]:
        """Weights of the factors of a layer's sites by tensor, in the order they run, float32 on the CPU; layers are
        asked for from the first on.

        Raises:
            MeasurementError: when an activation is not finite or a factorisation fails.
        """
        while self._next < index:
            self._advance(self._next)
        return self._advance(index)

    def _advance(self, index: int) -> dict[str, Stages]:
        self._next = index + 1
        factors = {site.tensor: each for site, each in self._decomposition.factors.items() if site.layer == index}
        wanted = [tensor for tensor in self._stream.spec.kind_of(index).tensors if tensor.name in factors]
        found: dict[str, Stages] = {}
        with self._stream.layer(index) as layer:
            inputs, groups, after = self._run_dense(index, layer, wanted)
            for group in groups:
                with _factored(layer, wanted, found):
                    moment, cross = self._moments(index, layer, group[0], inputs)
                for tensor in group:
                    found[tensor.name] = _fit(layer, tensor, factors[tensor.name], moment, cross)
                inputs.pop(group[0].name)
            untouched = not found and self._own is self._dense
            if index in self._decomposition.dropped:
                self._dense = after
            elif untouched:
                self._own = self._dense = after
            else:
                with _factored(layer, wanted, found):
                    self._own = self._stream.run_all(index, layer, self._own)
                self._dense = after
        return found

    def _run_dense(
        self, index: int, layer: nn.Module, wanted: list[WeightTensor]
    ) -> tuple[dict[str, list[torch.Tensor]], list[list[WeightTensor]], torch.Tensor]:
        """The dense inputs of weights, a batch each, by the first weight of those that share them; these groups in the
        order they run; and the hidden states after the layer."""
        inputs: dict[str, list[torch.Tensor]] = {}
        shared: dict[str, list[str]] = {}
        after = []
        for part in self._stream.parts(self._dense):
            with _inputs(layer, wanted) as seen:
                after.append(self._stream.run(index, layer, part).cpu())
            shared = _shared(seen)
            for name in shared:
                inputs.setdefault(name, []).append(seen[name].cpu())
        named = {tensor.name: tensor for tensor in wanted}
        return inputs, [[named[name] for name in names] for names in shared.values()], torch.cat(after)

    def _moments(
        self, index: int, layer: nn.Module, tensor: WeightTensor, inputs: Mapping[str, list[torch.Tensor]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """M' and C of a weight in a layer whose weights before it are factored."""
        moment = torch.zeros(tensor.in_features, tensor.in_features, dtype=torch.float64, device=self._stream.device)
        cross = torch.zeros_like(moment)
        tokens = 0
        for part, known in zip(self._stream.parts(self._own), inputs[tensor.name], strict=True):
            own = self._input(index, layer, tensor, part).reshape(-1, tensor.in_features).to(torch.float64)
            dense = known.reshape(own.shape).to(own)
            moment.addmm_(own.T, own)
            cross.addmm_(dense.T, own)
            tokens += len(own)
        return moment / tokens, cross / tokens

    def _input(self, index: int, layer: nn.Module, tensor: WeightTensor, part: torch.Tensor) -> torch.Tensor:
        """What goes into a weight; the layer runs as far as that."""
        with _inputs(layer, [tensor], stop=True) as seen, contextlib.suppress(_EnoughError):
            self._stream.run(index, layer, part)
        return seen[tensor.name]


def _fit(layer: nn.Module, tensor: WeightTensor, factor: Factor, moment: torch.Tensor, cross: torch.Tensor) -> Stages:
    weight = corrected_weight(dense_weight(layer.get_submodule(tensor.path)), moment, cross)
    full = factorize_whitened(weight, moment, tucker=isinstance(factor, Tucker))
    return [stage.to(torch.float32).cpu() for stage in full.stages(factor)]


class SequentialFactors:
    """Factors of whole configurations: those of a layer depend on the layers before it.

    Args:
        stream: the dense model.
        blocks: calibration text, int64 (blocks, length).
    """

    def __init__(self, stream: LayerStream, blocks: torch.Tensor) -> None:
        self._stream, self._blocks = stream, blocks

    def fitted(self, decomposition: Decomposition) -> StageMaker:
        """What gives the factors of one configuration, computed here."""
        found: dict[Site, Stages] = {}
        if decomposition.factors:
            work = SequentialPass(self._stream, self._blocks, decomposition)
            for layer in sorted({site.layer for site in decomposition.factors}):
                found |= {Site(layer, name): stages for name, stages in work.stages(layer).items()}
        return partial(_stored, found)


def require_single(spec: ModelSpec, decomposition: Decomposition) -> None:
    """Refuse what is fitted to no input of its own: stacks of experts.

    Raises:
        InputError: naming the first such site.
    """
    for site in decomposition.factors:
        kind = spec.kind_of(site.layer)
        if site.tensor not in {tensor.name for tensor in single_weights(kind)}:
            raise InputError("experts have plain and whitened factors alone", value=str(site))


def _stored(found: Mapping[Site, Stages], site: Site, tensor: WeightTensor, factor: Factor, dense: nn.Module) -> Stages:
    weight = dense_weight(dense)
    return [stage.to(device=weight.device, dtype=weight.dtype) for stage in found[site]]


class _EnoughError(Exception):
    """Ends a pass whose rest nobody needs."""


@contextlib.contextmanager
def _inputs(layer: nn.Module, wanted: list[WeightTensor], *, stop: bool = False) -> Iterator[dict[str, torch.Tensor]]:
    """What goes into each weight while the layer runs, by tensor, in the order they run.

    Args:
        stop: end the pass at the first with `_EnoughError`.
    """
    found: dict[str, torch.Tensor] = {}

    def keep(name: str, _: nn.Module, args: tuple[Any, ...]) -> None:
        found[name] = args[0]
        if stop:
            raise _EnoughError

    hooks = [layer.get_submodule(each.path).register_forward_pre_hook(partial(keep, each.name)) for each in wanted]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _shared(inputs: Mapping[str, torch.Tensor]) -> dict[str, list[str]]:
    """Names by the first whose input is the very same."""
    first: dict[int, str] = {}
    found: dict[str, list[str]] = {}
    for name, value in inputs.items():
        found.setdefault(first.setdefault(id(value), name), []).append(name)
    return found


@contextlib.contextmanager
def _factored(layer: nn.Module, wanted: list[WeightTensor], stages: Mapping[str, Stages]) -> Iterator[None]:
    """The layer with factors in place of its dense weights."""
    undo: list[tuple[nn.Module, str, nn.Module]] = []
    try:
        for tensor in (each for each in wanted if each.name in stages):
            path, _, child = tensor.path.rpartition(".")
            parent, dense = layer.get_submodule(path), layer.get_submodule(tensor.path)
            like = dense_weight(dense)
            own = [stage.to(device=like.device, dtype=like.dtype) for stage in stages[tensor.name]]
            setattr(parent, child, FactoredLinear(own, dense.bias))  # type: ignore[arg-type]
            undo.append((parent, child, dense))
        yield
    finally:
        for parent, child, dense in undo:
            setattr(parent, child, dense)
