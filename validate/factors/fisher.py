"""Factors that change the loss least, to second order: outputs weighted by the loss's curvature.

With g the gradient of the loss at y = W x, the loss changes by about E[(g^T (W - W_r) x)^2] / 2, which independent g
and x make tr(G (W - W_r) M (W - W_r)^T) / 2, with G = E[g g^T] and M = E[x x^T] (the Kronecker-factored Fisher, Martens
and Grosse 2015). The truncation of G^1/2 W whitened by M minimises it, and G^-1/2 leads back to W.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from costmodel.decomposition.factors import Decomposition, Factor, Site, Tucker
from costmodel.errors import InputError
from costmodel.tensors import WeightTensor
from validate.errors import MeasurementError
from validate.factors.factorize import Factorization
from validate.factors.moments import LayerMoments, single_weights
from validate.factors.whitening import factorize_whitened
from validate.models.stream import LayerStream
from validate.models.weights import dense_weight
from validate.store.tensors import load_tensors, save_tensors

DAMPING = 1e-1
"""Of the mean eigenvalue of G, added to each: directions without gradients on the text count too."""


def factorize_fisher(
    weight: torch.Tensor, moment: torch.Tensor, curvature: torch.Tensor, *, tucker: bool
) -> Factorization:
    """W as `left @ core @ right`, ordered so that every truncation is the best of its rank for the module's criterion.

    Columns of `left` are not orthonormal, as they are of other factorisations.

    Args:
        weight: (out, in), any float type.
        moment: float64 (in, in), M.
        curvature: float64 (out, out), G, on any scale; zeros count as none.
        tucker: for three factors rather than two.

    Raises:
        MeasurementError: when something is not finite or the decomposition fails.
    """
    if not bool(torch.isfinite(curvature).all()):
        raise MeasurementError("non-finite", f"curvature of shape {tuple(curvature.shape)} holds NaN or infinity")
    mean = float(curvature.diagonal().mean())
    if mean <= 0:
        return factorize_whitened(weight, moment, tucker=tucker)
    values, vectors = torch.linalg.eigh(curvature)
    roots = (values.clamp_min(0) / mean + DAMPING).sqrt()
    wide = weight.detach().to(torch.float64)
    full = factorize_whitened((vectors * roots) @ vectors.T @ wide, moment, tucker=tucker)
    left = (vectors / roots) @ vectors.T @ full.left
    dtype = torch.float64 if weight.dtype is torch.float64 else torch.float32
    parts = {"left": left, "core": full.core, "right": full.right}
    return Factorization(**{name: part.to(dtype) for name, part in parts.items()}, tucker=tucker)


def curvatures(
    stream: LayerStream, blocks: torch.Tensor, targets: torch.Tensor, layers: Collection[int], folder: Path
) -> Iterator[tuple[int, nn.Module, dict[str, tuple[torch.Tensor, torch.Tensor]]]]:
    """From the last layer to the first wanted one: the layer with its weights, and M and G of each by tensor.

    In memory are one layer, its moments and gradients; the hidden states before every layer are in `folder`.

    Args:
        blocks, targets: int64 (blocks, length), as of `Blocks`.
        layers: those wanted.

    Raises:
        MeasurementError: when an activation or a gradient is not finite.
        RunError: when the folder cannot be written to.
    """
    hidden = stream.start(blocks)
    for index in range(stream.spec.num_layers):
        save_tensors(folder / f"{index}.safetensors", {"hidden": hidden})
        with stream.layer(index) as layer:
            hidden = stream.run_all(index, layer, hidden)
    _, gradient = stream.loss_gradient(blocks, targets, hidden)
    for index in reversed(range(min(layers), stream.spec.num_layers)):
        path = folder / f"{index}.safetensors"
        before = load_tensors(path)[0]["hidden"]
        wanted = single_weights(stream.spec.kind_of(index)) if index in layers else ()
        with stream.layer(index) as layer:
            with LayerMoments(layer, wanted) as moments, _gradients(layer, wanted) as squares:
                gradient = stream.run_back(index, layer, before, gradient)
            means = moments.means()
            yield index, layer, {name: (means[name], square) for name, square in squares.items()}
        path.unlink()


class FisherFactors:
    """Factors weighted by curvature, all of them computed here; kept on the CPU, each for every rank.

    Args:
        stream: the dense model, with a head.
        blocks, targets: calibration text, as of `curvatures`.
        layers: those that will be factored; None for all.
    """

    def __init__(
        self,
        stream: LayerStream,
        blocks: torch.Tensor,
        targets: torch.Tensor,
        layers: Collection[int] | None = None,
    ) -> None:
        self._known: dict[Site, Factorization] = {}
        wanted = range(stream.spec.num_layers) if layers is None else layers
        if not wanted:
            return
        with tempfile.TemporaryDirectory(prefix="fisher-") as scratch:
            for index, layer, found in curvatures(stream, blocks, targets, wanted, Path(scratch)):
                for tensor in single_weights(stream.spec.kind_of(index)) if found else ():
                    weight = dense_weight(layer.get_submodule(tensor.path))
                    full = factorize_fisher(weight, *found[tensor.name], tucker=False)
                    self._known[Site(index, tensor.name)] = Factorization(
                        left=full.left.cpu(), core=full.core.cpu(), right=full.right.cpu(), tucker=False
                    )

    def __call__(self, site: Site, tensor: WeightTensor, factor: Factor, dense: nn.Module) -> list[torch.Tensor]:
        if site not in self._known:
            raise InputError("experts have plain and whitened factors alone", value=str(site))
        full, like = self._known[site], dense_weight(dense)
        if isinstance(factor, Tucker):
            full = Factorization(left=full.left, core=torch.diag(full.core), right=full.right, tucker=True)
        return [stage.to(device=like.device, dtype=like.dtype) for stage in full.stages(factor)]


class StoredFactors:
    """Factors of one configuration weighted by curvature, in files, a layer each, so that memory holds one of them.

    Args:
        stream, blocks, targets: as of `FisherFactors`.
        decomposition: what is factored.
        folder: an empty one; where files go.
    """

    def __init__(
        self,
        stream: LayerStream,
        blocks: torch.Tensor,
        targets: torch.Tensor,
        decomposition: Decomposition,
        folder: Path,
    ) -> None:
        self._folder = folder
        layers = {site.layer for site in decomposition.factors}
        for index, layer, found in curvatures(stream, blocks, targets, layers, folder) if layers else ():
            sites = {site.tensor: factor for site, factor in decomposition.factors.items() if site.layer == index}
            kept: dict[str, torch.Tensor] = {}
            for name, factor in sites.items():
                path = stream.spec.tensor(name, index).path
                weight = dense_weight(layer.get_submodule(path))
                full = factorize_fisher(weight, *found[name], tucker=isinstance(factor, Tucker))
                kept |= {f"{name} {place}": stage for place, stage in enumerate(full.stages(factor))}
            if kept:
                save_tensors(folder / f"factors-{index}.safetensors", kept)

    def __call__(self, site: Site, tensor: WeightTensor, factor: Factor, dense: nn.Module) -> list[torch.Tensor]:
        tensors, _ = load_tensors(self._folder / f"factors-{site.layer}.safetensors")
        like = dense_weight(dense)
        count = 3 if isinstance(factor, Tucker) else 2
        stages = [tensors[f"{site.tensor} {place}"] for place in range(count)]
        return [stage.to(device=like.device, dtype=like.dtype) for stage in stages]


@contextlib.contextmanager
def _gradients(layer: nn.Module, wanted: Collection[WeightTensor]) -> Iterator[Mapping[str, torch.Tensor]]:
    """Sums of g g^T at the outputs of weights while the layer runs backward, by tensor, float64 (out, out)."""
    sums: dict[str, torch.Tensor] = {}

    def hook(name: str) -> Any:
        def add(gradient: torch.Tensor) -> None:
            rows = gradient.reshape(-1, gradient.shape[-1]).to(torch.float32)
            square = (rows.T @ rows).to(torch.float64)
            sums[name] = sums[name] + square if name in sums else square

        def watch(module: nn.Module, args: Any, output: torch.Tensor) -> None:
            output.register_hook(add)

        return watch

    hooks = [layer.get_submodule(each.path).register_forward_hook(hook(each.name)) for each in wanted]
    try:
        yield sums
    finally:
        for each in hooks:
            each.remove()
