"""Errors a user can act on: what was wrong, the value, what is allowed, what to do next."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 1600
"""Characters of a message; a longer one is cut in the middle."""

_KNOWN = "known: "


class CostModelError(Exception):
    """Base of every error that `costmodel` raises on purpose; its text is one line that any terminal can show.

    Args:
        what: what was wrong, naming the field, option or file.
        value: the offending value, shown with `repr` and shortened when long.
        allowed: what would have been accepted.
        hint: what to do next.
    """

    exit_code = 2

    def __init__(self, what: str, *, value: object = ..., allowed: str = "", hint: str = "") -> None:
        shown = "" if value is ... else f": got {shorten(value)}"
        parts = [what + shown]
        if allowed:
            parts.append(f"allowed: {allowed}")
        if hint and not (allowed and hint.startswith(_KNOWN)):  # the list was said
            parts.append(hint)
        line = " ".join("; ".join(parts).split())
        if len(line) > _LONGEST:  # other libraries quote whole files
            line = f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"
        super().__init__("".join(char if char.isprintable() else ascii(char)[1:-1] for char in line))


class InputError(CostModelError):
    """A bad argument, option, file or field."""


class ModelError(InputError):
    """A model that is unknown, malformed or of an architecture that is not supported."""


class HardwareError(InputError):
    """A hardware profile that is unknown or malformed, or lacks what was asked of it."""


class DecompositionError(InputError):
    """A SPEC or configuration file that does not fit the model."""


class CalibrationError(InputError):
    """A calibration file that is malformed or belongs to other hardware."""


def shorten(value: object, limit: int = 120) -> str:
    """`repr(value)` of at most `limit` characters, cut at its end; of a whole number too long to print, its size."""
    try:
        text = repr(value)
    except ValueError:  # more digits than int-to-text conversion allows
        text = "a number of thousands of digits"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """A hint that offers known names: those that begin with `name`, up to twice `count`, then the closest up to
    `count`; all of them when nothing is close."""
    import difflib  # on use: errors is imported by every command, and few fail

    names, wanted = sorted(known), name.lower()
    begun = [each for each in names if wanted and each.startswith(wanted)]
    alike = difflib.get_close_matches(wanted, names, n=count, cutoff=0.5)
    close = list(dict.fromkeys([*begun, *alike]))[: max(count, min(len(begun), 2 * count))]
    return f"did you mean {' or '.join(close)}?" if close else f"{_KNOWN}{', '.join(names)}"
