"""What is to be measured: a configuration under a workload, with the strata it belongs to. No torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from costmodel.decomposition.experts import with_own_experts
from costmodel.decomposition.factors import Decomposition, LowRank
from costmodel.forward.workload import Workload
from costmodel.model import ModelSpec
from validate.plans.strata import Strata

RANK_CLASSES = (64, 16, 8, 2, 1)
"""Alignments that kernels care about, strictest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One sample of a plan.

    Attributes:
        index: its place in the plan, from 0.
        repeat: measure it a second time, for the noise floor.
    """

    index: int
    spec: ModelSpec
    decomposition: Decomposition
    work: Workload
    repeat: bool = False

    @property
    def id(self) -> str:
        """Digest of model, configuration and workload."""
        parts = [self.spec.name, self.spec.num_layers, self.decomposition.to_json(), self.work.to_json()]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def strata(self) -> Strata:
        """The classes that it belongs to."""
        return strata_of(self.spec, self.decomposition)


def rank_class(ranks: list[int]) -> int:
    """Largest of 64, 16, 8, 2, 1 that divides every rank; 0 without ranks."""
    return next((size for size in RANK_CLASSES if all(rank % size == 0 for rank in ranks)), 0) if ranks else 0


def strata_of(spec: ModelSpec, decomposition: Decomposition) -> Strata:
    """Form, rank class, tensor group, number of layers touched and relative size of a configuration."""
    factors = decomposition.factors
    forms = {"svd" if isinstance(factor, LowRank) else "tucker" for factor in factors.values()}
    if decomposition.dropped:
        forms.add("drop")
    names = {site.tensor for site in factors}
    group = next((key for key, members in spec.groups.items() if set(members) == names), ",".join(sorted(names)))
    layers = {site.layer for site in factors} | decomposition.dropped
    return Strata(
        form="+".join(sorted(forms)) or "dense",
        rank_class=rank_class([rank for factor in factors.values() for rank in set(factor.ranks)]),
        tensors=group or ("layers" if decomposition.dropped else "none"),
        layers=len(layers),
        param_ratio=params_of(spec, decomposition) / spec.num_params,
    )


def params_of(spec: ModelSpec, decomposition: Decomposition) -> int:
    """Parameters of the configuration: dense ones, minus dropped layers, with factored weights exchanged."""
    count = spec.num_params - sum(spec.layer_params(layer) for layer in decomposition.dropped)
    model = with_own_experts(spec, decomposition)
    for site, factor in decomposition.factors.items():
        tensor = model.tensor(site.tensor, site.layer)
        factored = factor.weight_params(tensor.out_features, tensor.in_features)
        count += tensor.copies * factored - tensor.weight_params
    return count
