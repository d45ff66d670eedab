"""Layers left out of a transformers model."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import nn


def without_layers(model: nn.Module, path: str, dropped: Collection[int]) -> list[tuple[Any, str, Any]]:
    """What to set, as (owner, attribute, value), so that a transformers model skips layers of the list at `path`.

    The rest is renumbered, since a layer's number is its place in the KV cache.
    """
    parent, _, child = path.rpartition(".")
    layers: Any = model.get_submodule(path)
    kept = [index for index in range(len(layers)) if index not in dropped]
    changes: list[tuple[Any, str, Any]] = [
        (model.get_submodule(parent), child, nn.ModuleList([layers[index] for index in kept]))
    ]
    for position, index in enumerate(kept):
        numbered = [each for each in layers[index].modules() if isinstance(getattr(each, "layer_idx", None), int)]
        changes += [(module, "layer_idx", position) for module in numbered]
    config: Any = model.config
    changes.append((config, "num_hidden_layers", len(kept)))
    if isinstance(getattr(config, "layer_types", None), list):
        changes.append((config, "layer_types", [config.layer_types[index] for index in kept]))
    return changes
