"""Writes a calibration file as people can read and compare it: a line per key, and per entry of the long ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from costmodel.timing.calibration.file import MAX_FILE_BYTES
from validate.errors import FitError

_LONG = ("forms", "streams", "errors", "provenance", "elsewhere")


def calibration_bytes(content: Mapping[str, Any]) -> bytes:
    """The file.

    Raises:
        FitError: when it would be larger than a calibration may be.
    """
    parts = {}
    for key, value in content.items():
        if key in _LONG and value:
            entries = value.items() if isinstance(value, dict) else [(None, each) for each in value]
            lines = [f"{json.dumps(name) + ': ' if name else ''}{_dump(entry)}" for name, entry in entries]
            inner = ",\n  ".join(lines)
            parts[key] = f"{{\n  {inner}\n }}" if isinstance(value, dict) else f"[\n  {inner}\n ]"
        else:
            parts[key] = _dump(value)
    text = ",\n ".join(f"{json.dumps(key)}: {value}" for key, value in parts.items())
    data = f"{{\n {text}\n}}\n".encode()
    if len(data) > MAX_FILE_BYTES:
        raise FitError("the calibration is too large", value=len(data), allowed=f"up to {MAX_FILE_BYTES} bytes")
    return data


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
