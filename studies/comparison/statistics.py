"""What the baselines know of a model beside its weights: activations, gradients, and how layers turn hidden states."""

from __future__ import annotations

from collections.abc import Callable
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


def causal_statistics(pretrained: Pretrained, blocks: Blocks) -> Statistics:
    """Of a causal model's negative log-likelihood.

    Args:
        blocks: run through the dense model, forward and backward, one after the other.
    """

    def loss(place: int, inputs: torch.Tensor) -> torch.Tensor:
        logits = pretrained.model(input_ids=inputs[None]).logits[0]
        return torch.nn.functional.cross_entropy(
            logits.float(), blocks.targets[place], ignore_index=IGNORED, reduction="sum"
        )

    return collect_statistics(pretrained, blocks.inputs, loss)


def collect_statistics(
    pretrained: Pretrained, inputs: torch.Tensor, loss: Callable[[int, torch.Tensor], torch.Tensor]
) -> Statistics:
    """Run each block forward and backward through the dense model.

    Args:
        inputs: int64 (blocks, length).
        loss: from a block's place and its tokens to a number, by running the model.
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
        for place, tokens in enumerate(inputs):
            loss(place, tokens).backward()  # type: ignore[no-untyped-call]
    finally:
        for hook in hooks:
            hook.remove()
    return Statistics(
        magnitudes={site: total / inputs.numel() for site, total in sums.magnitudes.items()},
        importances=sums.importances,
        similarities={index: total / len(inputs) for index, total in sums.similarities.items()},
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
