"""Which weights of a layer read the same input, so that an engine makes one product of them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor

MERGED = (("q_proj", "k_proj", "v_proj"), ("query", "key", "value"), ("gate_proj", "up_proj"))
"""Groups of tensors' names."""


def merged_widths(model: ModelSpec) -> Mapping[WeightTensor, int]:
    """Columns of the product that each tensor would be part of, of the tensors that have such neighbours."""
    found: dict[WeightTensor, int] = {}
    for kind in {id(kind): kind for kind, _ in model.variants}.values():
        tensors = {tensor.name: tensor for tensor in kind.tensors}
        for group in MERGED:
            members = [tensors[name] for name in group if name in tensors]
            if len(members) > 1:
                found |= dict.fromkeys(members, sum(tensor.out_features for tensor in members))
    return MappingProxyType(found)
