"""Recipes that are TOML and yet wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from costmodel.decomposition.recipe import load_recipe, recipe_model
from costmodel.errors import DecompositionError


def read(path: Path) -> None:
    load_recipe(path)
    recipe_model(path)


@pytest.mark.parametrize(
    "text",
    [
        *(f'schema = {version}\ndecompose = ["rank=1"]\n' for version in ("2", "0", '"1"', "true", "1.0", "[1]")),
        *(
            f"schema = 1\ndecompose = {specs}\n"
            for specs in ('"rank=1"', '["rank=1", 3]', '[""]', "{a = 1}", "2026-01-01")
        ),
        'schema = 1\ndecompose = ["rank=1"]\nmore = 1\n',
        'schema = 1\nmodel = "\\u001b[31m"\ndecompose = ["rank=1"]\n',
        'schema = 1\nmodel = 3\ndecompose = ["rank=1"]\n',
        "schema = 1\n",
        "[[decompose]]\nschema = 1\n",
    ],
)
def test_what_is_no_recipe_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(text)
    with pytest.raises(DecompositionError) as error:
        read(path)
    assert str(error.value).startswith(str(path))
    assert str(error.value).isprintable()
