"""Which sites a model has, as an array over (layers, tensors): a layer has the tensors of its kind alone."""

from __future__ import annotations

import functools

import numpy as np

from costmodel.arrays import Bools
from costmodel.model import ModelSpec


@functools.lru_cache(maxsize=64)
def site_mask(model: ModelSpec) -> Bools:
    """bool (layers, tensors): whether a layer has each of the model's tensors; all True where layers are alike."""
    mask = np.ones((model.num_layers, len(model.tensors)), dtype=np.bool_)
    if model.kinds:
        columns = {tensor: column for column, tensor in enumerate(model.tensors)}
        own = {name: [columns[tensor] for tensor in kind.tensors] for name, kind in model.kinds.items()}
        mask[:] = False
        for layer, name in enumerate(model.layer_kinds):
            mask[layer, own[name]] = True
    mask.setflags(write=False)
    return mask


@functools.lru_cache(maxsize=64)
def site_columns(model: ModelSpec) -> dict[tuple[int, str], int]:
    """(layer, name of a tensor) -> the tensor's place among the model's, for each site that there is."""
    names = [tensor.name for tensor in model.tensors]
    return {(layer, names[column]): column for layer, column in np.argwhere(site_mask(model)).tolist()}


@functools.lru_cache(maxsize=64)
def site_places(model: ModelSpec) -> dict[tuple[int, str], int]:
    """(layer, name of a tensor) -> the site's place in an array over (layers, tensors) made flat."""
    width = len(model.tensors)
    return {(layer, name): layer * width + column for (layer, name), column in site_columns(model).items()}


def column_labels(model: ModelSpec) -> list[str]:
    """A name for each of the model's tensors that no other has: with its shape where kinds differ in it, and with the
    kinds where they differ in its neighbours."""
    names = [tensor.name for tensor in model.tensors]
    shapes = [f"{tensor.name} ({tensor.out_features} x {tensor.in_features})" for tensor in model.tensors]
    labels = [name if names.count(name) == 1 else shape for name, shape in zip(names, shapes, strict=True)]
    return [
        label
        if labels.count(label) == 1
        else f"{shape[:-1]}, {'; '.join(name for name, kind in model.kinds.items() if tensor in kind.tensors)})"
        for tensor, label, shape in zip(model.tensors, labels, shapes, strict=True)
    ]
