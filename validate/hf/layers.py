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
    fields = kept_fields(
        {"num_hidden_layers": len(layers), "layer_types": getattr(config, "layer_types", None)}, dropped
    )
    return [*changes, *((config, name, value) for name, value in fields.items() if value is not None)]


def kept_fields(fields: dict[str, Any], dropped: Collection[int]) -> dict[str, Any]:
    """Fields of a configuration that have an entry for each layer, or count them, without the layers dropped."""
    kept = {}
    for name, value in fields.items():
        if isinstance(value, list):
            kept[name] = [each for index, each in enumerate(value) if index not in dropped]
        else:
            kept[name] = value - len(dropped) if isinstance(value, int) else value
    return kept
