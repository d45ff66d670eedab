"""How the embedding answers to what factors leave out, to first order, sentence by sentence.

The loss of a change of the embedding e, at length 1, is 1 - cos = |de|^2 / 2. It is 0 with slope 0 at the dense model,
so that its curvature is that of Gauss and Newton: de = J dy, with J the Jacobian of e at a weight's output y.
Directions u of y beyond a rank are left out: dy = -sum u u^T y over them and over tokens. Of random v with
E[v v^T] = 1, v.de has the mean square |de|^2, and J^T v is a gradient. A response is v.de of one sentence, one v and
each rank: errors of a sentence's tokens are added up before they are squared, as pooling does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from costmodel.decomposition.factors import Decomposition, Site
from studies.minilm.sentences import BATCH, embedded
from validate.factors.moments import Moments, collect_moments
from validate.factors.replace import Replacement, WeightFactors
from validate.factors.whitening import factorize_whitened
from validate.models.pretrained import Pretrained
from validate.models.weights import dense_weight

PROBES = 2
"""Random v for each sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Responses:
    """Of a calibration text.

    Attributes:
        moments: E[x x^T] of each site.
        squares: E[g g^T] of each site, g the gradient of v.e at its output, float64 (out, out).
        sites: response of each site to each rank from 0 to k of whitened factors, float32 (sentences x v, k + 1).
        layers: response to each layer left out, as measured, float32 (sentences x v). Rows are batches of sentences,
            one v after the other in each.
    """

    moments: Moments
    squares: dict[Site, torch.Tensor] = field(default_factory=dict)
    sites: dict[Site, NDArray[np.float32]] = field(default_factory=dict)
    layers: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    def losses(self) -> dict[Site, NDArray[np.float64]]:
        """1 - cos of each site alone, of each rank from 0 to k, to second order."""
        return {site: (response.astype(np.float64) ** 2).mean(0) / 2 for site, response in self.sites.items()}

    def layer_losses(self) -> dict[int, float]:
        """1 - cos without each layer alone, as measured."""
        return {layer: float((response.astype(np.float64) ** 2).mean() / 2) for layer, response in self.layers.items()}


def collect_responses(pretrained: Pretrained, blocks: torch.Tensor) -> Responses:
    """Run blocks forward, and backward for each v; and forward once more without each layer.

    Args:
        blocks: int64 (blocks, length), as `Sentences.blocks` gives them.
    """
    spec, body = pretrained.spec, pretrained.body
    found = Responses(moments=collect_moments(pretrained, blocks, batch=BATCH))
    layers: Any = body.get_submodule(spec.layer_prefix)
    outputs: dict[Site, torch.Tensor] = {}
    bases: dict[Site, torch.Tensor] = {}
    biases: dict[Site, torch.Tensor | float] = {}
    hooks = []
    for index, layer in enumerate(layers):
        for tensor in spec.tensors:
            site, module = Site(index, tensor.name), layer.get_submodule(tensor.path)
            full = factorize_whitened(dense_weight(module), found.moments.of(site), tucker=False)
            bases[site], biases[site] = full.left.float(), 0.0 if module.bias is None else module.bias.detach()
            hooks.append(module.register_forward_hook(partial(_keep, outputs, site)))
    kept: dict[Site, list[torch.Tensor]] = {site: [] for site in bases}
    directions = torch.randn(len(blocks), PROBES, spec.hidden_size, generator=torch.Generator().manual_seed(0))
    dense = []
    embeddings = body.get_input_embeddings()  # type: ignore[operator]
    hooks.append(embeddings.register_forward_hook(lambda module, args, output: output.requires_grad_()))
    try:
        for part, probes in zip(torch.split(blocks, BATCH), torch.split(directions, BATCH), strict=True):
            embedding = embedded(body, part, torch.ones_like(part))
            dense.append(embedding.detach())
            sites = list(outputs)
            own = {site: (outputs[site].detach() - biases[site]) @ bases[site] for site in sites}
            for number in range(PROBES):
                value = (embedding * probes[:, number]).sum()
                gradients = torch.autograd.grad(value, [outputs[site] for site in sites], retain_graph=True)
                for site, gradient in zip(sites, gradients, strict=True):
                    if number == 0:
                        rows = gradient.flatten(0, 1)
                        square = (rows.T @ rows).double()
                        found.squares[site] = found.squares[site] + square if site in found.squares else square
                    kept[site].append((own[site] * (gradient @ bases[site])).sum(1))
            outputs.clear()
    finally:
        for hook in hooks:
            hook.remove()
    for site, parts in kept.items():
        left_out = torch.cat(parts).flip(1).cumsum(1).flip(1)
        found.sites[site] = -torch.nn.functional.pad(left_out, (0, 1)).numpy()
    with torch.inference_mode():
        for layer in range(spec.num_layers):
            with Replacement(body, spec, Decomposition(dropped=frozenset({layer})), WeightFactors()):
                parts = []
                for part, before, probes in zip(
                    torch.split(blocks, BATCH), dense, torch.split(directions, BATCH), strict=True
                ):
                    change = embedded(body, part, torch.ones_like(part)) - before
                    parts += [(probes[:, number] * change).sum(1) for number in range(PROBES)]
                found.layers[layer] = torch.cat(parts).numpy()
    return found


def _keep(outputs: dict[Site, torch.Tensor], site: Site, module: Any, args: Any, output: torch.Tensor) -> None:
    outputs[site] = output
