"""Baselines from their papers' formulas: one ratio in all weights, and layers dropped by three rules.

Each removes a share of the parameters of the whole model, embeddings counted; nothing is retrained.

- SVD: the truncated SVD of each weight.
- FWSVD (Hsu et al. 2022, arXiv 2207.00112): of diag(sqrt(I)) W, I the Fisher information of the weight's rows, summed.
- ASVD (Yuan et al. 2023, arXiv 2312.05821): of W diag(mean |x|^0.5), without its search of ratios by layer.
- SVD-LLM (Wang et al. 2024, arXiv 2403.07378): of W S, S S^T = E[x x^T]; `validate`'s whitened factors, at one ratio.
- Layers dropped by block influence (ShortGPT, arXiv 2403.03853), the deepest but the last (Gromov et al. 2024, arXiv
  2403.17887, the simple rule), and by the loss without each alone (Shortened LLaMA, arXiv 2402.02834).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from costmodel.decomposition.factors import Decomposition, LowRank, Site
from costmodel.model import ModelSpec
from studies.comparison.statistics import Statistics
from validate.factors.factorize import Factorization, factorize_svd
from validate.factors.replace import WeightFactors
from validate.plans.case import params_of

POWER = 0.5
"""ASVD's alpha."""


class FwsvdFactors(WeightFactors):
    """Rows weighted by their Fisher information."""

    def __init__(self, statistics: Statistics) -> None:
        super().__init__()
        self._importances = statistics.importances

    def factorize(self, site: Site, weight: torch.Tensor, *, tucker: bool) -> Factorization:
        scale = self._importances[site].sqrt()
        scale = (scale / scale.mean()).clamp_min(1e-6)
        full = factorize_svd(scale[:, None] * weight.double())
        return Factorization(left=full.left / scale[:, None], core=full.core, right=full.right, tucker=False)


class AsvdFactors(WeightFactors):
    """Inputs scaled by a power of their mean magnitude."""

    def __init__(self, statistics: Statistics) -> None:
        super().__init__()
        self._magnitudes = statistics.magnitudes

    def factorize(self, site: Site, weight: torch.Tensor, *, tucker: bool) -> Factorization:
        scale = self._magnitudes[site] ** POWER
        scale = (scale / scale.mean()).clamp_min(1e-6)
        full = factorize_svd(weight.double() * scale)
        return Factorization(left=full.left, core=full.core, right=full.right / scale, tucker=False)


def uniform(spec: ModelSpec, removed: float) -> Decomposition:
    """Every weight at the same ratio of its parameters, so that at least a share of the model's is removed.

    Args:
        removed: share of all parameters, 0 to 1.
    """
    weights = sum(t.out_features * t.in_features for t in spec.tensors) * spec.num_layers
    ratio = 1 - removed * spec.num_params / weights
    ranks = {
        tensor.name: int(ratio * tensor.out_features * tensor.in_features / (tensor.out_features + tensor.in_features))
        for tensor in spec.tensors
    }
    if min(ranks.values()) < 1:
        raise ValueError(f"more than the layers hold: {removed}")
    return Decomposition(
        {Site(layer, name): LowRank(rank) for layer in range(spec.num_layers) for name, rank in ranks.items()}
    )


def dropped(spec: ModelSpec, removed: float, rule: str, scores: Mapping[int, float]) -> Decomposition:
    """As many layers left out as come nearest to a share of the parameters, at least one.

    Args:
        rule: late, influence or alone.
        scores: of each layer, what its loss costs by the rule; lowest go first; unused for late.
    """
    count = max(1, round(removed * spec.num_params / spec.layer_params(0)))
    if rule == "late":
        return Decomposition(dropped=frozenset(range(spec.num_layers - 1 - count, spec.num_layers - 1)))
    order = sorted(range(spec.num_layers), key=scores.__getitem__)
    return Decomposition(dropped=frozenset(order[:count]))


def share_removed(spec: ModelSpec, decomposition: Decomposition) -> float:
    """Of all parameters, 0 to 1."""
    return 1 - params_of(spec, decomposition) / spec.num_params
