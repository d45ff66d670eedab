"""Texts of files: UTF-8, and not empty."""

from __future__ import annotations

from pathlib import Path

from costmodel.errors import InputError
from costmodel.files import read as files

MAX_BYTES = 4 * 10**9


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        InputError: when it cannot be read, is not UTF-8 or is empty.
    """
    text = files.read_text(path, "text", InputError, limit=MAX_BYTES).replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise InputError("empty text", value=str(path), allowed="a UTF-8 file with text in it")
    return text
