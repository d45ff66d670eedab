"""JSON as typed records: read as strictly as `costmodel.files.read` does, and held to types and bounds. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from costmodel.errors import CostModelError
from costmodel.files.read import decode_json, read_text

T = TypeVar("T")
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e15)]
"""A time, an energy, a share: nothing of ours is larger."""
Positive = Annotated[float, msgspec.Meta(ge=1e-15, le=1e15)]
"""What something is divided by: no quotient of two is infinite."""
Signed = Annotated[float, msgspec.Meta(ge=-1e15, le=1e15)]
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
PositiveCount = Annotated[int, msgspec.Meta(gt=0, le=1 << 62)]


def read_as(path: Path, kind: type[T], what: str, error: type[CostModelError]) -> T:
    """A JSON file as a record.

    Args:
        kind: a msgspec type, or one that it converts to.
        what: the kind of file, for messages: "plan of a loop".
        error: the class to raise.

    Raises:
        CostModelError: of class `error`, when the file cannot be read, is not JSON or not of this type.
    """
    return decode_as(read_text(path, what, error), kind, str(path), what, error)


def decode_as(text: str, kind: type[T], where: str, what: str, error: type[CostModelError]) -> T:
    """As `read_as`, of a text that came from `where`."""
    return convert_to(decode_json(text, where, what, error), kind, where, what, error)


def convert_to(value: Any, kind: type[T], where: str, what: str, error: type[CostModelError]) -> T:
    """As `read_as`, of a value decoded already."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, OverflowError) as cause:
        raise error(f"{where}: not a {what}", hint=str(cause)) from cause
