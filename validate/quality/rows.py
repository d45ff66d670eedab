"""Rows of local data: JSON lines, plain or compressed."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from costmodel.errors import InputError
from costmodel.files.read import decode_json, read_text

MAX_BYTES = 10**9
_OPENERS: Mapping[str, Any] = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}


def read_rows(path: str | Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each object of a file of JSON lines, with its place for messages; empty lines are skipped.

    Args:
        path: `.xz`, `.gz` and `.bz2` are unpacked.

    Raises:
        InputError: when the file cannot be read or unpacked, or a line is no JSON object.
    """
    for number, text in enumerate(_content(path).split("\n"), start=1):
        if not text.strip():
            continue
        where = f"{path}:{number}"
        row = decode_json(text, where, "item", InputError)
        if not isinstance(row, dict):
            raise InputError(f"{where}: not an object", value=row, allowed="an item as a JSON object")
        yield where, row


def _content(path: str | Path) -> str:
    opener = _OPENERS.get(Path(path).suffix)
    if opener is None:
        return read_text(path, "task", InputError, limit=MAX_BYTES)
    try:
        with opener(path, "rb") as stream:
            content: bytes = stream.read(MAX_BYTES + 1)
        text = content.decode("utf-8-sig") if len(content) <= MAX_BYTES else ""
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        hint = getattr(error, "strerror", None) or str(error)
        raise InputError("cannot read task", value=str(path), allowed="compressed JSON lines", hint=hint) from error
    if len(content) > MAX_BYTES:
        raise InputError(f"{path}: too large for a task", allowed=f"up to {MAX_BYTES:,} bytes")
    return text
