"""JSON files that users hand in, read strictly: what Python's reader lets pass and JSON does not have is refused."""

from __future__ import annotations

import json
from pathlib import Path

from costmodel.errors import CostModelError

MAX_BYTES = 64 * 10**6
"""Larger files are refused unread; a configuration of the largest models takes a megabyte."""


def read_json(path: str | Path, what: str, error: type[CostModelError], *, limit: int = MAX_BYTES) -> object:
    """The decoded content of a file in UTF-8.

    Args:
        path: of the file.
        what: the kind of file, for messages: "configuration file".
        error: the class to raise.
        limit: bytes; a larger file is refused.

    Raises:
        CostModelError: of class `error`, when the file cannot be read, is too large, is not UTF-8 or not JSON, holds
            NaN or an infinity, or has a key twice in one object.
    """
    try:
        with Path(path).open("rb") as stream:
            content = stream.read(limit + 1)
    except (OSError, ValueError) as cause:  # ValueError: a NUL byte in the name
        reason = getattr(cause, "strerror", None) or str(cause)
        raise error(f"cannot read {what}", value=str(path), hint=reason) from cause
    if len(content) > limit:
        raise error(f"{path}: too large for a {what}", allowed=f"up to {limit:,} bytes")
    try:
        return json.loads(content.decode(), parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except UnicodeDecodeError as cause:
        raise error(f"{path}: {what} is not UTF-8 text, from byte {cause.start} on") from cause
    except RecursionError as cause:
        raise error(f"{path}: {what} is nested too deeply") from cause
    except ValueError as cause:
        raise error(f"{path}: {what} is not JSON: {cause}") from cause


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not a JSON number")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise ValueError(f"key {twice!r} twice in one object")
    return found
