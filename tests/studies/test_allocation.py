"""Ranks and layers chosen together: against every combination of a model small enough to try them all."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from costmodel.decomposition.factors import Decomposition, LowRank, Site
from costmodel.errors import InputError
from costmodel.families.registry import spec_from_config
from studies.comparison.allocate import allocate
from validate.plans.case import params_of

SPEC = spec_from_config(
    {
        "model_type": "gpt2",
        "n_embd": 4,
        "n_head": 1,
        "n_layer": 2,
        "vocab_size": 11,
        "n_positions": 8,
        "activation_function": "gelu_new",
    },
    name="tiny",
    source="here",
)


def curves(seed: int) -> dict[Site, np.ndarray]:
    """A falling loss for each rank of each site."""
    rng = np.random.default_rng(seed)
    found = {}
    for layer in range(SPEC.num_layers):
        for tensor in SPEC.tensors:
            k = min(tensor.out_features, tensor.in_features)
            found[Site(layer, tensor.name)] = np.append(np.cumsum(rng.exponential(size=k) ** 3)[::-1], 0.0)
    return found


def loss_of(config: Decomposition, losses: dict[Site, np.ndarray], drops: dict[int, float]) -> float:
    kept = sum(float(losses[site][factor.rank]) for site, factor in config.factors.items())  # type: ignore[union-attr]
    return kept + sum(drops[layer] for layer in config.dropped)


@pytest.mark.parametrize("seed", range(4))
def test_nothing_as_small_loses_less(seed: int) -> None:
    losses, drops = curves(seed), {0: 2.0, 1: 9.0}
    options = []
    for layer in range(SPEC.num_layers):
        of_layer = [Decomposition(dropped=frozenset({layer}))]
        for ranks in product(*([None, 1, 2, 3] for _ in SPEC.tensors)):
            sites = zip(SPEC.tensors, ranks, strict=True)
            of_layer.append(Decomposition({Site(layer, t.name): LowRank(rank) for t, rank in sites if rank}))
        saved = [SPEC.num_params - params_of(SPEC, config) for config in of_layer]
        options.append((np.array(saved), np.array([loss_of(config, losses, drops) for config in of_layer])))
    (saved, lost), (others, more) = options
    sizes, values = SPEC.num_params - saved[:, None] - others, lost[:, None] + more
    seen = set()
    for removed in (0.01, 0.05, 0.15, 0.3, 0.45):
        config = allocate(SPEC, losses, removed, drops=drops)
        seen.add(config.dropped)
        size = params_of(SPEC, config)
        assert size <= (1 - removed) * SPEC.num_params
        assert loss_of(config, losses, drops) <= values[sizes <= size].min() + 1e-9
        assert not allocate(SPEC, losses, min(removed, 0.15)).dropped
    assert len(seen) > 1  # layers are left out where it pays, and kept where not


def test_more_than_ranks_can_remove_is_refused() -> None:
    with pytest.raises(InputError, match="more is to be removed"):
        allocate(SPEC, curves(0), 0.99)
