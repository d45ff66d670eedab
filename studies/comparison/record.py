"""Lines of a comparison: what one method came out at, at one size; written as they are measured."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from costmodel.cli.common import say
from validate.errors import RunError

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


class Comparison(Protocol[Line]):
    """A model and its texts, by the digests that its lines carry."""

    text: str
    calibration: str
    weights: str

    def measure(self, method: str, removed: float) -> Line:
        """One line."""


def measure_missing(
    path: Path,
    kind: type[Line],
    comparison: Comparison[Line],
    wanted: Sequence[tuple[str, float]],
    *,
    until: float | None,
    told: Callable[[Line], str],
) -> list[Line]:
    """Measure dense and what is wanted of the file's missing lines, each written when it is known; all lines.

    Args:
        wanted: method and share removed.
        until: `time.monotonic()` after which no further line is begun.
        told: what is said of a new line.

    Raises:
        RunError: when the file's lines are of other texts or weights.
    """
    rows = read_lines(path, kind)
    for row in rows[:1]:
        if (row.text, row.calibration, row.weights) != (comparison.text, comparison.calibration, comparison.weights):
            raise RunError("the records are of other texts or weights", value=str(path), hint="choose another --out")
    done = {(row.method, row.asked) for row in rows}
    for method, size in ((DENSE, 0.0), *wanted):
        if (method, size) in done:
            continue
        if until is not None and time.monotonic() > until:
            say("stopped; the same command continues")
            break
        row = comparison.measure(method, size)
        append(path, row)
        say(told(row))
    return read_lines(path, kind)
