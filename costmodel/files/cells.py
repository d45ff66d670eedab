"""Texts of files as they may be shown: nothing that a terminal obeys, nothing that a spreadsheet computes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udc7f\udd00-\udfff]")
"""Control characters but for line feeds and tabs, marks that turn the direction of text, halves of surrogate pairs
but for those that stand for bytes of a path."""
_COMPUTED = re.compile(r"^\s*[=+\-@\uff0b\uff0d\uff1d\uff20]", re.MULTILINE)
"""How a formula begins, in ASCII or in full width (OWASP, "CSV injection")."""
_SIGNED = re.compile(r"\s*[+-]?(inf|infinity|(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)\s*%?\s*", re.ASCII | re.IGNORECASE)
_NOT_FINITE = re.compile(r"^\s*[+-]?(nan|inf|infinity)\s*$", re.MULTILINE | re.IGNORECASE)


def shown(text: str) -> str:
    r"""The text with what a terminal would obey written out, as `\x1b`."""
    return _OBEYED.sub(lambda match: ascii(match[0])[1:-1], text)


def cell(value: object) -> object:
    """A value of a CSV file: a text is `shown`, and has an apostrophe before it where it would be a formula.

    A signed number is no formula.
    """
    if not isinstance(value, str):
        return value if value is None or isinstance(value, int | float) else cell(str(value))
    text = shown(value)
    return f"'{text}" if _COMPUTED.match(text) and not _SIGNED.fullmatch(text) else text


def cells(values: Sequence[object]) -> Sequence[object]:
    """`cell` of each; the same object where nothing needs to change, which is found fast."""
    kinds = set(map(type, values))
    if kinds <= {str}:
        text = "\n".join(values)  # type: ignore[arg-type]
        if not _OBEYED.search(text) and not _COMPUTED.search(text):
            return values
    return values if kinds <= {int, float, type(None)} else [cell(value) for value in values]


def not_finite(values: Sequence[object]) -> int:
    """How many of a column's values are NaN or infinite, as numbers or as texts."""
    texts = "\n".join(value for value in values if isinstance(value, str))
    numbers = sum(isinstance(value, float) and not math.isfinite(value) for value in values)
    return numbers + len(_NOT_FINITE.findall(texts))


def plain(value: object) -> object:
    """A value as JSON has it: None for NaN and the infinities, at any depth; a text for what JSON lacks."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [plain(child) for child in value]
    return value if value is None or isinstance(value, int | str) else str(value)
