"""Every check of a factored folder, before memory is taken for its weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError

from validate.hf.config import LowRankConfig
from validate.hf.errors import FactoredCheckpointError, one_line, refuse
from validate.hf.meta import on_meta
from validate.hf.names import CONFIG, DTYPES, GENERATION, INDEX, MANIFEST, shard_names
from validate.hf.reading import inside, read_headers, read_json, read_manifest
from validate.hf.structure import build_factored, generation_config, settings_class, tensor_places

_MAX_LAYERS, _MAX_LABELS = 10_000, 100_000


class Checked(NamedTuple):
    """A folder that passed every check: the content of its JSON files, and the weight file of each tensor."""

    manifest: dict[str, Any]
    config: dict[str, Any]
    tensors: dict[str, Path]


def is_factored(folder: str | Path) -> bool:
    """Whether a folder claims to be a factored checkpoint."""
    return (Path(folder) / MANIFEST).exists()


def check_factored(folder: str | Path, *, verify: bool = True) -> Checked:
    """Every check of loading: manifest, files, names, shapes and types of tensors; takes no memory for weights.

    Args:
        verify: compare the SHA-256 of files too, which reads them once more.

    Raises:
        FactoredCheckpointError: naming the first thing that does not fit.
    """
    try:
        return _check(Path(folder), verify)
    except FactoredCheckpointError as error:
        raise FactoredCheckpointError(f"{folder}: {error}") from None
    except (SafetensorError, OSError, RecursionError) as error:
        raise FactoredCheckpointError(f"{folder}: damaged; {one_line(error, 300)}") from error


def _check(folder: Path, verify: bool) -> Checked:
    manifest = read_manifest(folder)
    for entry in manifest["files"]:
        path = inside(folder, entry["name"])
        if path.stat().st_size != entry["bytes"]:
            refuse(f"{path.name}: size", path.stat().st_size, f"{entry['bytes']} bytes")
        if verify:
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            if digest != entry["sha256"]:
                refuse(f"{path.name}: SHA-256", digest, str(entry["sha256"]))
    listed = [entry["name"] for entry in manifest["files"]]
    shards = sorted(name for name in listed if name.endswith(".safetensors"))
    for name in (CONFIG, *([INDEX] if len(shards) != 1 else [])):
        if name not in listed:
            refuse(f"{MANIFEST}: files lacks {name}")
    if stray := sorted({path.name for path in folder.glob("*.safetensors")} - set(shards)):
        refuse(f"{MANIFEST}: files lacks a weight file of the folder", stray[0])
    if shards != shard_names(len(shards)):
        refuse(f"{MANIFEST}: names of weight files", shards, ", ".join(shard_names(len(shards))))
    config, stored = read_json(folder, CONFIG), read_headers(folder, shards)
    held = {name: shard for name, (shard, _, _) in stored.items()}
    if len(shards) > 1 and read_json(folder, INDEX).get("weight_map") != held:
        refuse(f"{INDEX}: weight_map is not what the weight files hold")
    _check_sizes(config, len(stored) + len(manifest["drop"]))
    with on_meta():
        model: Any = build_factored(manifest, config, stored)
    if GENERATION in listed and model.can_generate():
        generation_config(model, read_json(folder, GENERATION))
    _check_tensors(model, stored, DTYPES[manifest["dtype"]][1])
    if config.get("quantization_config") != LowRankConfig.of_manifest(manifest).to_dict():
        refuse(f"{CONFIG}: quantization_config is not what {MANIFEST} says")
    return Checked(manifest, config, {name: folder / shard for name, shard in held.items()})


def _check_sizes(config: dict[str, Any], most_layers: int) -> None:
    """Fields that transformers makes something for each of, before anything is made."""
    names = ("num_hidden_layers", settings_class(config).attribute_map.get("num_hidden_layers"))
    for layers in [config[key] for key in names if key in config] or [None]:
        if type(layers) is not int or not 0 < layers <= min(most_layers, _MAX_LAYERS):
            refuse(f"{CONFIG}: number of layers", layers, "at most as many as there are tensors")
    labels = config.get("num_labels", 0)
    if type(labels) is not int or not 0 <= labels <= _MAX_LABELS:  # transformers gives each a name
        refuse(f"{CONFIG}: num_labels", labels, f"0 to {_MAX_LABELS}")


def _check_tensors(model: Any, stored: dict[str, tuple[str, list[int], str]], wanted: str) -> None:
    """Names, shapes and types of what the weight files hold."""
    places = tensor_places(model)
    if missing := [name for name in places if name not in stored]:
        refuse("missing tensor", missing[0])
    for name, (shard, shape, kind) in stored.items():
        if name not in places:
            refuse(f"{shard}: extra tensor", name)
        owner, key = places[name][0]
        if shape != list(owner[key].shape):
            refuse(f"{shard}: shape of {name}", shape, str(list(owner[key].shape)))
        right = "I8" if owner[key].dtype is torch.int8 else wanted
        if kind != right:
            refuse(f"{shard}: type of {name}", kind, right)
