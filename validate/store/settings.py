"""The settings of a run, kept beside its records so that a resumed run is the same run. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from costmodel.errors import InputError
from costmodel.files.write import write_file
from validate.errors import RunError

SCHEMA = 1
NAME = "run.json"
FIXED = (
    "model",
    "num_layers",
    "weights",
    "dtype",
    "device",
    "device_name",
    "threads",
    "hardware",
    "seed",
    "configs",
    "attention",
)
"""Settings that records of one timing run share; times of unlike runs are not pooled."""
DIGEST = "_sha256"
"""Ends the name of the digest that a setting which names files may have beside it: content counts, not the path."""


def load_settings(folder: Path, name: str = NAME) -> dict[str, Any] | None:
    """The settings of an earlier run in this folder, None where there are none.

    Raises:
        RunError: when the file is malformed or of another version.
    """
    path = folder / name
    if not path.exists():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot read settings", hint=str(error)) from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        version = data.get("schema") if isinstance(data, dict) else data
        raise RunError(f"{path}: schema", value=version, allowed=str(SCHEMA), hint="written by another version")
    return data


def save_settings(folder: Path, settings: dict[str, Any], name: str = NAME) -> None:
    """Write the settings whole or not at all.

    Raises:
        RunError: when the folder cannot be written to.
    """
    try:
        write_file(folder / name, json.dumps({"schema": SCHEMA, **settings}, indent=2).encode() + b"\n")
    except InputError as error:
        raise RunError(str(error)) from error


def require_same(earlier: dict[str, Any], now: dict[str, Any], fixed: Sequence[str] = FIXED) -> None:
    """Raise RunError, naming the first setting in which a resumed run differs from the one it continues.

    Where both have a digest of what a setting names, the digests are compared, so that files may have moved.
    """
    for name in fixed:
        digest = name + DIGEST
        hashed = digest in earlier and digest in now
        if earlier.get(digest if hashed else name) != now.get(digest if hashed else name):
            value, allowed = (_shown(each, name) if hashed else each.get(name) for each in (now, earlier))
            raise RunError(
                f"cannot resume with another {name.replace('_', ' ')}",
                value=value,
                allowed=str(allowed),
                hint="choose another --out",
            )


def _shown(settings: dict[str, Any], name: str) -> str:
    digest = settings[name + DIGEST]
    return f"{settings.get(name)}" + (f" (SHA-256 {digest[:12]}...)" if digest else "")
