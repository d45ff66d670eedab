"""The configuration that a model's folder holds already, where `validate apply` wrote it."""

from __future__ import annotations

import functools

from costmodel.decomposition.factors import Decomposition, Factor, LowRank, Site, Tucker
from costmodel.model import ModelSpec


@functools.lru_cache(maxsize=16)
def held(model: ModelSpec) -> Decomposition | None:
    """What the folder of a model holds: the configuration of the dense model that it was made of; None where it holds
    the dense model."""
    if model.factored is None:
        return None
    factors: dict[Site, Factor] = {
        Site(layer, name): LowRank(first) if form == "svd" else Tucker(first, last)
        for layer, name, form, (first, last) in model.factored.sites
    }
    return Decomposition(factors, frozenset(model.factored.dropped))


def other_than_held(named: Decomposition, model: ModelSpec) -> tuple[str, ...]:
    """What a user should know where another configuration is named than the one that the folder holds."""
    if held(model) in (None, named):
        return ()
    return (
        f"the folder of {model.name} holds factors already; the configuration that is named here counts, on the dense "
        "model that they were made of",
    )


def searched_dense(model: ModelSpec) -> tuple[str, ...]:
    """What a user should know where configurations are sought of a model whose folder holds one."""
    if model.factored is None:
        return ()
    return (
        f"the folder of {model.name} holds factors already; what is found is of the dense model that they were made of",
    )
