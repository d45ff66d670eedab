"""The settings of a run, kept beside its records so that a resumed run is the same run. No torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from costmodel.cli.common import write_file
from costmodel.errors import InputError
from validate.errors import RunError

SCHEMA = 1
NAME = "run.json"
FIXED = ("model", "num_layers", "weights", "dtype", "device", "device_name", "threads", "hardware", "seed", "configs",
         "attention")  # fmt: skip
"""Settings that records of one timing run share; times of unlike runs are not pooled."""


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
    """Raise RunError, naming the first setting in which a resumed run differs from the one it continues."""
    for name in fixed:
        if earlier.get(name) != now.get(name):
            raise RunError(f"cannot resume with another {name.replace('_', ' ')}", value=now.get(name),
                           allowed=str(earlier.get(name)), hint="choose another --out")  # fmt: skip
