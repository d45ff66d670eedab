"""The structure of a folder that `validate apply` wrote: the dense model's with the layers kept. No torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from costmodel.errors import ModelError
from costmodel.families.load import load_model, read_config
from costmodel.families.registry import spec_from_config
from costmodel.model import ModelSpec

MANIFEST = "factored.json"
"""What such a folder has."""
_METHOD = "low_rank"


def is_factored(folder: Path) -> bool:
    """Whether a folder claims to be a factored checkpoint."""
    return (folder / MANIFEST).exists()


def kept_model(folder: Path) -> tuple[ModelSpec, Mapping[str, Any]]:
    """The dense structure with the layers that a factored folder keeps, and its configuration; a dense folder's own.

    Raises:
        ModelError: when config.json is damaged, or of an unsupported architecture.
    """
    if not is_factored(folder):
        return load_model(folder), read_config(folder)
    config = dict(read_config(folder))
    entry = config.pop("quantization_config", None)
    drop = entry.get("drop") if isinstance(entry, Mapping) and entry.get("quant_method") == _METHOD else None
    if not isinstance(drop, list) or not all(type(layer) is int for layer in drop):
        raise ModelError("config.json of a factored folder lacks its entry", value=str(folder))
    whole = spec_from_config(config, name=folder.resolve().name, source=str(folder))
    config |= kept_fields(config, whole, drop)
    return spec_from_config(config, name=whole.name, source=str(folder)), config


def kept_fields(config: Mapping[str, Any], spec: ModelSpec, dropped: Collection[int]) -> dict[str, Any]:
    """The fields of a configuration that count layers, or have an entry for each, for those that are kept."""
    generic = "num_hidden_layers"
    names = (generic, spec.family.aliases.get(generic, generic))
    fields: dict[str, Any] = {name: config[name] - len(dropped) for name in names if name in config}
    if isinstance(types := config.get("layer_types"), list):
        fields["layer_types"] = [kind for layer, kind in enumerate(types) if layer not in dropped]
    return fields
