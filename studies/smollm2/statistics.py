"""What the baselines know of a model beside its weights: activations, gradients, and how layers turn hidden states."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from costmodel.decomposition.factors import Site
from validate.models.blocks import IGNORED, Blocks
from validate.models.pretrained import Pretrained


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Sums over a calibration text.

    Attributes:
        magnitudes: of each site, mean |x| of each input, float64 (in).
        importances: of each site, the Fisher information of each row of its weight, summed: over sequences, of the
            squared gradients of the summed loss, float64 (out).
        similarities: mean cosine of the hidden states before and after each layer.
    """

    magnitudes: dict[Site, torch.Tensor] = field(default_factory=dict)
    importances: dict[Site, torch.Tensor] = field(default_factory=dict)
    similarities: dict[int, float] = field(default_factory=dict)


def collect_statistics(pretrained: Pretrained, blocks: Blocks) -> Statistics:
    """Run each block forward and backward through the dense model.

    Args:
        blocks: of a causal model.
    """
    spec, model = pretrained.spec, pretrained.model
    layers: Any = pretrained.body.get_submodule(spec.layer_prefix)
    sums = Statistics()
    hooks = []
    for index, layer in enumerate(layers):
        hooks.append(layer.register_forward_hook(partial(_turn, sums, index)))
        for tensor in spec.tensors:
            module = layer.get_submodule(tensor.path)
            hooks.append(module.register_forward_hook(partial(_watch, sums, Site(index, tensor.name))))
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    hooks.append(embedding.register_forward_hook(lambda module, args, output: output.requires_grad_()))
    try:
        for inputs, targets in zip(blocks.inputs, blocks.targets, strict=True):
            logits = model(input_ids=inputs[None]).logits[0]
            torch.nn.functional.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum").backward()
    finally:
        for hook in hooks:
            hook.remove()
    tokens, count = blocks.inputs.numel(), len(blocks.inputs)
    return Statistics(
        magnitudes={site: total / tokens for site, total in sums.magnitudes.items()},
        importances=sums.importances,
        similarities={index: total / count for index, total in sums.similarities.items()},
    )


def _turn(sums: Statistics, index: int, module: Any, args: Any, output: Any) -> None:
    before, after = args[0].detach(), (output[0] if isinstance(output, tuple) else output).detach()
    cosine = float(torch.nn.functional.cosine_similarity(before.double(), after.double(), dim=-1).mean())
    sums.similarities[index] = sums.similarities.get(index, 0.0) + cosine


def _watch(sums: Statistics, site: Site, module: Any, args: Any, output: torch.Tensor) -> None:
    inputs = args[0].detach().flatten(0, -2)
    _add(sums.magnitudes, site, inputs.double().abs().sum(0))

    def add(gradient: torch.Tensor) -> None:
        of_weight = gradient.flatten(0, -2).double().T @ inputs.double()
        _add(sums.importances, site, of_weight.square().sum(1))

    output.register_hook(add)


def _add(sums: dict[Site, torch.Tensor], site: Site, value: torch.Tensor) -> None:
    sums[site] = sums[site] + value if site in sums else value
