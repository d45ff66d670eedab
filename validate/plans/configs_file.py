"""`--configs FILE`: configurations to measure, in any of the forms that the tools write. No torch."""

from __future__ import annotations

import json
from pathlib import Path

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.recipe import SUFFIX, load_recipe, written_for_another
from costmodel.decomposition.text import parse_decomposition
from costmodel.errors import DecompositionError
from costmodel.files.read import read_json
from costmodel.model import ModelSpec

_LISTS = ("frontier", "top", "configs", "rows")


def load_configs(path: str | Path, model: ModelSpec) -> list[Decomposition]:
    """Distinct configurations of a file, in its order.

    A file is a recipe (`.toml`), one configuration (the contract's FILE), a list of them, or an object with a
    `frontier`, `top`, `configs` or `rows` list whose entries are configurations or hold one under `config`, as
    `costmodel explore` and `recommend` write.

    Raises:
        DecompositionError: when the file cannot be read, is of another form, or a configuration does not fit `model`.
    """
    if str(path).endswith(SUFFIX):
        return [parse_decomposition(load_recipe(path), model)]
    data = read_json(path, "configurations", DecompositionError)
    found: dict[str, Decomposition] = {}
    for index, entry in enumerate(_entries(data, path)):
        config = entry["config"] if isinstance(entry, dict) and "config" in entry else entry
        decomposition = Decomposition.from_json(config, model, where=f"{path}[{index}]")
        found.setdefault(json.dumps(decomposition.to_json(), sort_keys=True), decomposition)
    return list(found.values())


def configs_warnings(path: str | Path | None, model: ModelSpec) -> tuple[str, ...]:
    """What a user should know of a file of configurations: a recipe that was written for another model.

    Raises:
        DecompositionError: when the recipe cannot be read.
    """
    return written_for_another(path, model) if path is not None and str(path).endswith(SUFFIX) else ()


def _entries(data: object, path: str | Path) -> list[object]:
    if isinstance(data, dict) and any(name in data for name in _LISTS):
        lists = [data.get(name, []) for name in _LISTS]
        if all(isinstance(each, list) for each in lists):
            data = [entry for each in lists for entry in each if not _without(entry)]
    elif isinstance(data, dict):
        data = [data]
    if not isinstance(data, list) or not data:
        allowed = "a configuration, a list of them, or the JSON of `costmodel explore`"
        raise DecompositionError(f"{path}: no configurations", allowed=allowed)
    return data


def _without(entry: object) -> bool:
    """Whether an entry says that there is no configuration, as a recommendation's `no` does."""
    return isinstance(entry, dict) and "config" in entry and entry["config"] is None
