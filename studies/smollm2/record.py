"""One line for each method and size: sums over blocks, so that methods can be paired."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec

from validate.interval import Interval
from validate.quality.intervals import change


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What one configuration came out at.

    Attributes:
        method: of METHODS, or dense.
        asked, removed: shares of the model's parameters, asked for and really removed.
        nll, kl: sums over each block of the text, nats.
        tokens: predicted in each block.
        text, calibration, weights: SHA-256 of what was measured with, and how much: blocks and their length.
    """

    method: str
    asked: float
    removed: float
    nll: list[float]
    kl: list[float]
    tokens: list[int]
    text: str
    calibration: str
    weights: str
    config: dict[str, object]
    seconds: float

    @property
    def loss(self) -> float:
        """Nats per token."""
        return sum(self.nll) / sum(self.tokens)

    def above(self, other: Measured) -> Interval:
        """Loss above another's on the same blocks, nats per token, with its paired 95 % interval."""
        return change(self.nll, other.nll, self.tokens)


def read_measured(path: Path) -> list[Measured]:
    """Lines of a file; a last one that was cut off is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    found = []
    for place, line in enumerate(lines):
        try:
            found.append(msgspec.json.decode(line, type=Measured))
        except msgspec.MsgspecError:
            if place != len(lines) - 1:
                raise
    return found


def append(path: Path, row: Measured) -> None:
    """Add a line, after cutting off a part of one."""
    kept = "".join(json.dumps(msgspec.to_builtins(each)) + "\n" for each in [*read_measured(path), row])
    temporary = path.with_suffix(".part")
    temporary.write_text(kept, encoding="utf-8")
    temporary.replace(path)


def dense_of(rows: Sequence[Measured]) -> Measured:
    """The dense model's row."""
    return next(row for row in rows if row.method == "dense")
