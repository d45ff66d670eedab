"""training.json: what a finished training says of itself, and whether it is the one that is asked for. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from costmodel.errors import InputError
from validate.errors import RunError

NAME = "training.json"
"""A folder with this file holds a finished model; it is written last and removed before weights are replaced."""


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a finished training; None where there is none.

    Raises:
        RunError: when it cannot be read.
    """
    path = folder / NAME
    try:
        record = json.loads(path.read_bytes())
        _parts(record)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError("cannot read record", value=str(path), hint=f"{error}; --again trains anew") from error
    found: dict[str, Any] = record
    return found


def remove_record(folder: Path) -> None:
    """From here on the folder holds no finished model.

    Raises:
        RunError: when it cannot be removed.
    """
    try:
        (folder / NAME).unlink(missing_ok=True)
    except OSError as error:
        raise RunError("cannot remove", value=str(folder / NAME), hint=error.strerror or str(error)) from error


def require_same(folder: Path, record: Mapping[str, Any], recipe: Mapping[str, Any], corpus: str) -> None:
    """Refuse a finished model of another recipe or text than the one asked for.

    Args:
        recipe: as JSON; keys that only one side has, from another version, do not count.
        corpus: digest of the text.

    Raises:
        InputError: naming what differs.
    """
    trained, text = _parts(record)
    differences = [f"{name} {trained[name]}" for name in recipe if name in trained and trained[name] != recipe[name]]
    differences += ["another text"] if text != corpus else []
    if differences:
        asked = [f"{name} {recipe[name]}" for name in recipe if name in trained and trained[name] != recipe[name]]
        raise InputError(
            f"{folder} holds a model of another recipe or text",
            value=", ".join(differences),
            allowed=", ".join(asked) or "the same text",
            hint="choose another --out, or --again to replace it",
        )


def _parts(record: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    return dict(record["recipe"].items()), str(record["corpus"]["digest"])
