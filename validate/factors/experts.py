"""Which factors the experts of a layer get: those of their stack, or of an expert that is addressed alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from costmodel.decomposition.factors import Decomposition, Factor, Site
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor, expert_address


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertFactor:
    """One expert's factor.

    Attributes:
        given: the site that the decomposition names: a stack's, or the expert's own.
        own: the expert's site, `experts.3.up_proj`.
        tensor: of the site that was given.
    """

    given: Site
    own: Site
    tensor: WeightTensor
    factor: Factor


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerExperts:
    """The experts of a layer.

    Attributes:
        path: of the experts' module inside the layer.
        factors: (linear, number) -> factor; what is given of one expert wins over its stack's. The others stay dense.
    """

    path: str
    factors: Mapping[tuple[str, int], ExpertFactor]

    def sites(self) -> tuple[Site, ...]:
        """The sites given that an expert takes after, in the order of their first expert."""
        return tuple(dict.fromkeys(each.given for each in self.factors.values()))


def layer_experts(spec: ModelSpec, decomposition: Decomposition, layer: int) -> LayerExperts | None:
    """The factored experts of one layer, None where it has none."""
    path = ""
    found: dict[tuple[str, int], ExpertFactor] = {}
    chosen = {site: factor for site, factor in decomposition.factors.items() if site.layer == layer}
    for site, factor in sorted(chosen.items(), key=lambda each: (expert_address(each[0].tensor) is not None, each[0])):
        tensor = spec.tensor(site.tensor, layer)
        if not tensor.experts:
            continue
        stack, own = expert_address(site.tensor) or (site.tensor, None)
        before, _, linear = stack.rpartition(".")
        path = tensor.path.rpartition(".")[0] if own is None else tensor.path.rsplit(".", 2)[0]
        for number in range(tensor.experts) if own is None else (own,):
            one = Site(layer, f"{before}.{number}.{linear}")
            found[linear, number] = ExpertFactor(given=site, own=one, tensor=tensor, factor=factor)
    return LayerExperts(path=path, factors=found) if found else None


def all_experts(spec: ModelSpec, decomposition: Decomposition) -> list[LayerExperts | None]:
    """The experts of every layer that has some, factored or not."""
    paths = [
        next((each.path.rpartition(".")[0] for each in spec.kind_of(layer).tensors if each.experts), None)
        for layer in range(spec.num_layers)
    ]
    plain = [None if path is None else LayerExperts(path=path, factors={}) for path in paths]
    return [own or other for own, other in zip(factored_layers(spec, decomposition), plain, strict=True)]


def factored_layers(spec: ModelSpec, decomposition: Decomposition) -> list[LayerExperts | None]:
    """`layer_experts` of every layer."""
    if spec.experts is None:
        return [None] * spec.num_layers
    return [layer_experts(spec, decomposition, layer) for layer in range(spec.num_layers)]
