"""Lines of a comparison: what one method came out at, at one size; written as they are measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

DENSE = "dense"


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """What every comparison says of one configuration.

    Attributes:
        method: by name, or dense.
        asked, removed: shares of the model's parameters, asked for and really removed.
        text, calibration, weights: SHA-256 of what was measured with, and how much.
    """

    method: str
    asked: float
    removed: float
    text: str
    calibration: str
    weights: str
    config: dict[str, object]
    seconds: float


Line = TypeVar("Line", bound=Compared)


def read_lines(path: Path, kind: type[Line]) -> list[Line]:
    """Lines of a file; a last one that was cut off is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    found: list[Line] = []
    for place, line in enumerate(lines):
        try:
            found.append(msgspec.json.decode(line, type=kind))
        except msgspec.MsgspecError:
            if place != len(lines) - 1:
                raise
    return found


def append(path: Path, row: Line) -> None:
    """Add a line, after cutting off a part of one."""
    rows = [*read_lines(path, type(row)), row]
    kept = "".join(json.dumps(msgspec.to_builtins(each)) + "\n" for each in rows)
    temporary = path.with_suffix(".part")
    temporary.write_text(kept, encoding="utf-8")
    temporary.replace(path)


def dense_of(rows: Sequence[Line]) -> Line:
    """The dense model's row."""
    return next(row for row in rows if row.method == DENSE)
