"""Recipes: a configuration as SPECs in a small TOML file, for whatever model.

schema = 1
decompose = ["layers=1-30 tensors=mlp rank=50%"]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.text import describe, parse_decomposition
from costmodel.errors import DecompositionError, InputError
from costmodel.files.node import Node
from costmodel.files.read import read_toml
from costmodel.model import ModelSpec

SCHEMA = 1
SUFFIX = ".toml"


def require_suffix(path: str | Path) -> None:
    """Raise InputError unless a file to write has a recipe's suffix."""
    if Path(path).suffix.lower() != SUFFIX:
        raise InputError("a recipe is written as TOML", value=str(path), allowed=SUFFIX)


def load_recipe(path: str | Path) -> tuple[str, ...]:
    """The SPECs of a recipe's file.

    Raises:
        DecompositionError: when it cannot be read or is no recipe.
    """
    return tuple(entry.text() for entry in _read(path)["decompose"].items())


def recipe_model(path: str | Path) -> str | None:
    """The name of the model that a recipe was written for, if it says one.

    Raises:
        DecompositionError: when it cannot be read or is no recipe.
    """
    part = _read(path)
    return part["model"].text() if "model" in part else None


def written_for_another(path: str | Path, model: ModelSpec) -> tuple[str, ...]:
    """What a user should know of a recipe that was written for another model than the one that it is applied to.

    Raises:
        DecompositionError: when it cannot be read or is no recipe.
    """
    other = recipe_model(path)
    if other is None or other.lower() == model.name.lower():
        return ()
    return (f"{path} was written for {other} and is applied to {model.name}",)


def _read(path: str | Path) -> Mapping[str, Node]:
    if Path(path).suffix.lower() == ".json":
        hint = "a configuration in JSON is read by --config"
        raise DecompositionError("a recipe is a TOML file", value=str(path), allowed=SUFFIX, hint=hint)
    node = Node(str(path), read_toml(path, "recipe", DecompositionError), DecompositionError)
    part = node.table(
        ["schema", "decompose"], ["model"], hint=f'a recipe says schema = {SCHEMA} and decompose = ["SPEC"]'
    )
    schema = part["schema"].value
    if type(schema) is not int or schema != SCHEMA:
        raise part["schema"].wrong(str(SCHEMA))
    return part


def recipe_text(decomposition: Decomposition, model: ModelSpec) -> str:
    """A configuration as the text of a recipe, which reads back as the same configuration.

    Raises:
        DecompositionError: when no SPEC can state it: Tucker factors of two different ranks.
    """
    specs = (
        [] if not decomposition.factors and not decomposition.dropped else describe(decomposition, model).split(" + ")
    )
    if any("x" in word for spec in specs for word in spec.split() if word.startswith("rank=")):
        raise DecompositionError(
            "a recipe cannot state two different ranks of a Tucker form", hint="save the JSON configuration instead"
        )
    if parse_decomposition(specs, model) != decomposition:
        raise DecompositionError("no SPECs state this configuration", hint="save the JSON configuration instead")
    lines = "".join(f'    "{spec}",\n' for spec in specs)
    return f'schema = {SCHEMA}\nmodel = "{model.name}"\ndecompose = [\n{lines}]\n'
