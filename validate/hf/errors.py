"""The one error of a factored folder: one line that says what, what was there, and what is allowed."""

from __future__ import annotations

from typing import NoReturn


class FactoredCheckpointError(ValueError):
    """A folder that is not as `validate apply` writes them; its text is one line."""


def refuse(what: str, value: object = ..., allowed: str = "") -> NoReturn:
    """Raise FactoredCheckpointError."""
    got = "" if value is ... else f": got {value!r:.120}"
    raise FactoredCheckpointError(f"{what}{got}" + (f"; allowed: {allowed}" if allowed else ""))


def one_line(error: BaseException, longest: int = 200) -> str:
    """An error of another library in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:longest]
