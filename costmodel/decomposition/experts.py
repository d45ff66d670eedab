"""Experts that are factored apart from the rest of their stack: `experts.3.up_proj` beside `experts.up_proj`."""

from __future__ import annotations

import functools
from dataclasses import replace

from costmodel.decomposition.factors import Decomposition
from costmodel.model import ModelSpec
from costmodel.tensors import expert_address


def with_own_experts(model: ModelSpec, decomposition: Decomposition) -> ModelSpec:
    """The model in which every expert that the decomposition addresses is a tensor of its own; the model itself where
    it addresses none."""
    addressed: list[tuple[int, tuple[str, int]]] = []
    for layer, name in decomposition.factors if model.experts is not None else ():
        address = expert_address(name)
        if address and 0 <= layer < model.num_layers and name not in (t.name for t in model.kind_of(layer).tensors):
            addressed.append((layer, address))
    return _split(model, tuple(sorted(addressed))) if addressed else model


@functools.lru_cache(maxsize=32)
def _split(model: ModelSpec, addressed: tuple[tuple[int, tuple[str, int]], ...]) -> ModelSpec:
    apart: dict[int, list[tuple[str, int]]] = {}
    for layer, address in addressed:
        apart.setdefault(layer, []).append(address)
    names = list(model.layer_kinds or ("all",) * model.num_layers)
    fields = {name: dict(model.kind_fields.get(name, {})) for name in names}
    for layer, own in apart.items():
        name = f"{names[layer]} with {len(own)} experts apart"
        while name in fields and fields[name].get("own_experts") != tuple(own):
            name += "'"
        fields[name] = {**fields[names[layer]], "own_experts": tuple(own)}
        names[layer] = name
    return replace(model, layer_kinds=tuple(names), kind_fields=fields)
