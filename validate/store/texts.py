"""Texts of files: UTF-8, and not empty."""

from __future__ import annotations

from pathlib import Path

from costmodel.errors import InputError


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        InputError: when it cannot be read, is not UTF-8 or is empty.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError("cannot read text", value=str(path), allowed="a UTF-8 file", hint=str(error)) from error
    if not text.strip():
        raise InputError("empty text", value=str(path), allowed="a UTF-8 file with text in it")
    return text
