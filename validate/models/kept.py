"""The structure of a folder that `validate apply` wrote: the dense model's with the layers kept. No torch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from costmodel.errors import ModelError
from costmodel.families.load import load_model, read_config
from costmodel.families.registry import spec_from_config
from costmodel.model import ModelSpec

MANIFEST = "factored.json"
"""What such a folder has."""
_METHOD = "low_rank"
_BY_LAYER = ("layer_types", "mlp_layer_types", "no_rope_layers")
"""Fields with an entry for each layer."""
_PLACES = ("mlp_only_layers",)
"""Fields that are places of layers."""
_FIRST = "first_k_dense_replace"
"""How many layers are dense before those with experts begin."""


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
    """The fields of a configuration that count layers, or have an entry for each, for those that are kept.

    Raises:
        ModelError: when a configuration with these fields has layers of other kinds than those kept: its family tells a
            layer's kind by its place.
    """
    generic = "num_hidden_layers"
    kept = [layer for layer in range(spec.num_layers) if layer not in dropped]
    names = (generic, spec.family.aliases.get(generic, generic))
    fields: dict[str, Any] = {name: config[name] - len(dropped) for name in names if name in config}
    for name in _BY_LAYER:
        if isinstance(entries := config.get(name), list) and len(entries) == spec.num_layers:
            fields[name] = [entries[layer] for layer in kept]
    for name in _PLACES:
        if isinstance(places := config.get(name), list):
            fields[name] = [kept.index(layer) for layer in places if layer in kept]
    if type(first := config.get(_FIRST)) is int:
        fields[_FIRST] = sum(layer < first for layer in kept)
    if dropped and kept:
        left = spec_from_config({**config, **fields}, name=spec.name, source=spec.name)
        if _layers(left, range(len(kept))) != _layers(spec, kept):
            raise ModelError(
                "config.json cannot say which layers are left",
                value=f"without layers {', '.join(map(str, sorted(dropped)))}",
                hint="its family tells a layer's kind by its place: drop layers so that the order of kinds stays",
            )
    return fields


def _layers(spec: ModelSpec, layers: Iterable[int]) -> list[tuple[str, int, int | None]]:
    """Kind, parameters and window of each layer."""
    kinds = spec.layer_kinds or ("",) * spec.num_layers
    return [(kinds[layer], spec.layer_params(layer), spec.sliding_windows[layer]) for layer in layers]
