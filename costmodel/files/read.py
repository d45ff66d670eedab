"""JSON and TOML as users hand them in, read with one strictness.

Refused in one line that names the file: what is not UTF-8 (a byte order mark is skipped), is larger or nested deeper
than it can be, has a key twice in one object, a number that no float holds, or half a surrogate pair.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from costmodel.errors import CostModelError, shorten
from costmodel.files.open import open_file

MAX_BYTES = 64 * 10**6
"""Larger files are refused unread; a configuration of the largest models takes a megabyte."""
MAX_DEPTH = 64
"""Levels of objects and lists; no format here has more than ten."""
_MAX_DIGITS = 4000
"""Digits that Python turns into a whole number; it stops at 4,300, unless a command has lifted that bound."""
_LARGEST = 10**308
_NESTED = (dict, list)
_SURROGATE = re.compile("[\ud800-\udfff]")

T = TypeVar("T")


def read_json(
    path: str | Path,
    what: str,
    error: type[CostModelError],
    *,
    constants: bool = False,
) -> object:
    """The decoded content of a JSON file.

    Args:
        path: of the file.
        what: the kind of file, for messages: "configuration file".
        error: the class to raise.
        constants: let NaN and the infinities pass, which JSON lacks and some writers of config.json use.

    Raises:
        CostModelError: of class `error`, when the file cannot be read or is refused for what this module's first lines
            say.
    """
    return decode_json(read_text(path, what, error), str(path), what, error, constants=constants)


def decode_json(text: str, where: str, what: str, error: type[CostModelError], *, constants: bool = False) -> object:
    """As `read_json`, of a text that came from `where`."""

    def decode() -> object:
        return json.loads(text, parse_int=_whole, object_pairs_hook=_unique)

    if not text.strip():
        raise error(f"{where}: {what} is not JSON: it is empty")
    value = _decoded(decode, where, f"{what} is not JSON", f"{what} is nested too deeply", error)
    _check(value, where, what, error, constants=constants, escapes="\\ud" in text.lower())
    return value


def read_toml(path: str | Path, what: str, error: type[CostModelError], *, limit: int = MAX_BYTES) -> dict[str, object]:
    """The tables of a TOML file of up to `limit` bytes; other arguments and errors as of `read_json`."""
    return decode_toml(read_text(path, what, error, limit=limit), str(path), what, error)


def decode_toml(text: str, where: str, what: str, error: type[CostModelError]) -> dict[str, object]:
    """As `read_toml`, of a text that came from `where`."""

    def decode() -> dict[str, object]:
        return tomllib.loads(text)

    value = _decoded(decode, where, f"{what} is not TOML", f"{what} is nested too deeply", error)
    _check(value, where, what, error)
    return value


def read_text(path: str | Path, what: str, error: type[CostModelError], *, limit: int = MAX_BYTES) -> str:
    """The text of a file in UTF-8; arguments as of `read_json`.

    Raises:
        CostModelError: of class `error`, when the file cannot be read, is too large or is not UTF-8.
    """
    try:
        with open_file(path, limit + 1) as stream:
            content = stream.read(limit + 1)
    except (OSError, ValueError) as cause:  # ValueError: a NUL byte in the name
        reason = getattr(cause, "strerror", None) or str(cause)
        raise error(f"cannot read {what}", value=str(path), hint=reason) from cause
    if len(content) > limit:
        raise error(f"{path}: too large for a {what}", allowed=f"up to {limit:,} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise error(f"{path}: {what} is not UTF-8 text, from byte {cause.start} on") from cause


def _decoded(decode: Callable[[], T], where: str, malformed: str, deep: str, error: type[CostModelError]) -> T:
    try:
        return decode()
    except RecursionError as cause:
        raise error(f"{where}: {deep}", allowed=f"up to {MAX_DEPTH} levels") from cause
    except tomllib.TOMLDecodeError as cause:
        raise error(f"{where}: {malformed}: {cause}") from cause
    except ValueError as cause:  # of tomllib: more digits than Python turns into a number
        reason = "a number of thousands of digits" if malformed.endswith("TOML") else str(cause)
        raise error(f"{where}: {malformed}: {reason}") from cause


def _whole(digits: str) -> int | float:
    """The number; infinite where it is too long to be one, so that the check names its key."""
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"key {shorten(name)} twice in one object")
            seen.add(name)
    return table


def _check(
    value: object,
    where: str,
    what: str,
    error: type[CostModelError],
    *,
    constants: bool = False,
    escapes: bool = False,
) -> None:
    """Raise unless nesting, numbers and, with `escapes`, texts are of ordinary kind."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        keys = [key for part in level if isinstance(part, dict) for key in part] if escapes else []
        if not _ordinary([*level, *keys], constants, escapes):
            key, part = next(place for place in _places(value) if not _ordinary([place[1]], constants, escapes))
            allowed = "text without half a surrogate pair" if isinstance(part, str) else "a finite number below 1e308"
            raise error(f"{where}: {key or 'content'}", value=part, allowed=allowed)
        inner = [part for part in level if isinstance(part, _NESTED)] if _has(level, _NESTED) else []
        if not inner:
            return
        level = [child for part in inner for child in (part.values() if isinstance(part, dict) else part)]
    raise error(f"{where}: {what} is nested too deeply", allowed=f"up to {MAX_DEPTH} levels")


def _ordinary(parts: list[object], constants: bool, escapes: bool) -> bool:
    """Whether all numbers are finite floats or fit one, and with `escapes` all texts can be written."""
    floats = [part for part in parts if isinstance(part, float)] if _has(parts, (float,)) and not constants else []
    if not all(map(math.isfinite, floats)):
        return False
    if _has(parts, (int,)):
        whole = [part for part in parts if isinstance(part, int)]
        if not -_LARGEST <= min(whole) <= max(whole) <= _LARGEST:
            return False
    return not escapes or not any(_SURROGATE.search(part) for part in parts if isinstance(part, str))


def _has(parts: list[object], kinds: tuple[type, ...]) -> bool:
    """Whether some part is exactly of one of these types, as all decoders give them; found faster than such parts."""
    return not set(kinds).isdisjoint(map(type, parts))


def _places(value: object) -> Iterator[tuple[str, object]]:
    """Every value with its dotted key, and every key as a value of its own; in no order that matters."""
    waiting = [("", value)]
    while waiting:
        key, part = waiting.pop()
        yield key, part
        if isinstance(part, dict):
            for name, child in part.items():
                yield key, name
                waiting.append((f"{key}.{name}".lstrip("."), child))
        elif isinstance(part, list):
            waiting += [(f"{key}[{index}]", child) for index, child in enumerate(part)]
