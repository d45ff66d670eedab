"""What is read of a factored folder before it is believed: plain files, strict JSON, headers of weight files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from safetensors import safe_open

from validate.hf.errors import refuse
from validate.hf.names import DTYPES, FORMAT, FORMS, MANIFEST, SCHEMA

_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}", re.ASCII)
_MAX_JSON = 64 * 10**6


def read_manifest(folder: Path) -> dict[str, Any]:
    """The content of factored.json, with the types that the rest relies on.

    Raises:
        FactoredCheckpointError: when it is damaged, of another schema or no manifest.
    """
    data = read_json(folder, MANIFEST)
    if data.get("format") != FORMAT or type(data.get("schema")) is not int or data["schema"] != SCHEMA:
        allowed = f"{FORMAT}, {SCHEMA}; write an older folder anew with `validate apply`"
        refuse(f"{MANIFEST}: format and schema", [data.get("format"), data.get("schema")], allowed)
    fields = {"architecture": str, "layers": str, "num_layers": int, "dtype": str}
    _typed(data, {**fields, "sites": list, "drop": list, "int8": list, "files": list}, MANIFEST)
    if data["dtype"] not in DTYPES:
        refuse(f"{MANIFEST}: dtype", data["dtype"], ", ".join(DTYPES))
    for site in data["sites"]:
        _typed(site, {"layer": int, "module": str, "form": str, "rank": list}, f"{MANIFEST}: sites")
        if site["form"] not in FORMS or [type(rank) for rank in site["rank"]] != [int, int]:
            refuse(f"{MANIFEST}: site", site, f"form {' or '.join(FORMS)} and two whole numbers as rank")
    paths = [(site["layer"], site["module"]) for site in data["sites"]]
    if any(type(layer) is not int for layer in data["drop"]):
        refuse(f"{MANIFEST}: drop", data["drop"], "whole numbers")
    seen: set[tuple[int, str]] = set()
    for layer, module in paths:
        if layer < 0 or (layer, module) in seen:
            path = f"{data['layers']}.{layer}.{module}"
            refuse(f"{MANIFEST}: site", path, "different linear layers of the model, none of them dropped")
        seen.add((layer, module))
    for entry in data["files"]:
        _typed(entry, {"name": str, "bytes": int, "sha256": str}, f"{MANIFEST}: files")
    if len({entry["name"] for entry in data["files"]}) < len(data["files"]):
        refuse(f"{MANIFEST}: a file twice")
    return data


def read_headers(folder: Path, shards: list[str]) -> dict[str, tuple[str, list[int], str]]:
    """Tensor name -> file, shape and safetensors' name of its type; what the format itself forbids is refused too."""
    stored: dict[str, tuple[str, list[int], str]] = {}
    for shard in shards:
        with (folder / shard).open("rb") as stream:  # safetensors reads one of two tensors of a name
            length = int.from_bytes(stream.read(8), "little")
            _parse(stream.read(length) if length <= _MAX_JSON else b"", shard)
        with safe_open(folder / shard, framework="pt", device="cpu") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                if name in stored:
                    refuse(f"a tensor in both {stored[name][0]} and {shard}", name)
                part = file.get_slice(name)
                stored[name] = shard, part.get_shape(), part.get_dtype()
    return stored


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object of a plain file of the folder.

    Raises:
        FactoredCheckpointError: when it is missing, leads elsewhere, or is none.
    """
    with inside(folder, name).open("rb") as stream:
        return _parse(stream.read(_MAX_JSON + 1), name)


def _parse(content: bytes, name: str) -> dict[str, Any]:
    """A JSON object, with no key twice and no NaN in it."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) < len(pairs):
            raise ValueError("a key twice in one object")
        return found

    def number(text: str) -> NoReturn:
        raise ValueError(f"{text} is not a JSON number")

    try:
        data = json.loads(content.decode(), object_pairs_hook=unique, parse_constant=number)
    except (ValueError, RecursionError) as error:
        refuse(f"{name}: not JSON ({error})")
    if len(content) > _MAX_JSON or not isinstance(data, dict):
        refuse(f"{name}: not a JSON object of at most {_MAX_JSON} bytes")
    return data


def inside(folder: Path, name: str) -> Path:
    """The path of a plain file of the folder, not one that its name or a link leads to elsewhere.

    Raises:
        FactoredCheckpointError: when it is none.
    """
    path = folder / name
    try:
        is_inside = bool(_FILE_NAME.fullmatch(name)) and path.resolve().parent == folder.resolve()
    except (OSError, RuntimeError):  # links in a circle: RuntimeError until Python 3.13
        is_inside = False
    if not is_inside:
        refuse("a file outside the folder", name, "plain names, and no links to other folders")
    if not path.is_file():
        refuse("missing file", name)
    return path


def _typed(data: Any, fields: Mapping[str, type], where: str) -> None:
    for key, kind in fields.items():
        if not isinstance(data, dict) or type(data.get(key)) is not kind:
            got = data.get(key) if isinstance(data, dict) else data
            refuse(f"{where}: {key}", got, f"a JSON {kind.__name__}")
