"""The settings of a run, kept beside its records so that a resumed run is the same run. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from costmodel.errors import InputError, shorten
from costmodel.files.read import read_json
from costmodel.files.write import write_file
from validate.errors import RunError
from validate.store.decode import convert_to

SCHEMA = 1
NAME = "run.json"
DIGEST = "_sha256"
"""Ends the name of the digest that a setting which names files may have beside it: content counts, not the path."""

_HOW = frozenset({"out", "resume", "stop_after", "fail_above", "fmt", "ray"})
"""Options that say where and how to run, not what."""

S = TypeVar("S")
DeviceChoice = Literal["auto", "cpu", "cuda"]
WeightChoice = Literal["fp32", "bf16", "fp16"]
ComputeChoice = Literal["auto", "fp32", "tf32", "fp16", "bf16"]
MAX_SEED = 2**63 - 1


def option(
    default: Any,
    words: str,
    *,
    metavar: str | None = None,
    low: float | None = None,
    high: float | None = None,
    unit: str | None = None,
) -> Any:
    """A field of a settings record, a dataclass, that the command line has an option for.

    Args:
        default: `...` where the option must be given.
        words: its line of `--help`.
        metavar: what a value is called there.
        low, high: the least and the greatest value.
        unit: of a number that may be written with it: `s`, `%` or `nats`.
    """
    about = {"help": words, "metavar": metavar, "low": low, "high": high, "unit": unit}
    known = {key: value for key, value in about.items() if value is not None}
    return field(metadata=known) if default is ... else field(default=default, metadata=known)


def shared(settings: type[Any], name: str, words: str | None = None, *, default: Any = MISSING) -> Any:
    """A field that another settings record has too: its bounds and the like, and unless given here its words and its
    default."""
    (own,) = [each for each in fields(settings) if each.name == name]
    known = {**own.metadata} if words is None else {**own.metadata, "help": words}
    return field(default=own.default if default is MISSING else default, metadata=known)


def resumed(settings: S, earlier: Mapping[str, Any] | None, given: Collection[str]) -> S:
    """Settings of the run that is continued, except for those that are given anew.

    Args:
        settings: of this call.
        earlier: what `load_settings` found, which has those of the earlier call as `options`.
        given: names of settings that the user gave.

    Raises:
        RunError: when the earlier ones are malformed.
    """
    if earlier is None:
        return settings
    names = [each.name for each in fields(settings)]  # type: ignore[arg-type]
    now = {name: getattr(settings, name) for name in names}
    kept = {name: value for name, value in section(earlier, "options").items() if name in now and name not in given}
    return settings_of(type(settings), {**now, **kept}, "settings of the run to resume")


def settings_of(kind: type[S], values: Mapping[str, Any], where: str) -> S:
    """A settings record, its values within the bounds that its options have.

    Raises:
        RunError: naming the first that is of another type or out of them.
    """
    found = convert_to(dict(values), kind, where, "settings record", RunError)
    for each in fields(found):  # type: ignore[arg-type]
        value = getattr(found, each.name)
        low, high = each.metadata.get("low", -math.inf), each.metadata.get("high", math.inf)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, int | float) and not low <= part <= high:
                raise RunError(f"{where}: {each.name}", value=part, allowed=f"{low:g} to {high:g}")
    return found


def section(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object within settings.

    Raises:
        RunError: when there is none.
    """
    value = settings.get(name)
    if not isinstance(value, dict):
        raise RunError(f"settings of the run to resume: {name}", value=value, allowed="an object")
    return value


def load_settings(folder: Path, name: str = NAME) -> dict[str, Any] | None:
    """The settings of an earlier run in this folder, None where there are none.

    Raises:
        RunError: when the file is malformed or of another version.
    """
    path = folder / name
    if not path.exists():
        return None
    data = read_json(path, "settings of a run", RunError)
    version = data.get("schema") if isinstance(data, dict) else data
    if not isinstance(data, dict) or type(version) is not int or version != SCHEMA:
        raise RunError(f"{path}: schema", value=version, allowed=str(SCHEMA), hint="written by another version")
    return data


def earlier_settings(folder: Path, given: Collection[str], name: str = NAME) -> dict[str, Any] | None:
    """The settings of the run to resume; None where there is none yet and other options say what to run.

    Args:
        given: names of the options that the user gave.

    Raises:
        InputError: when there is none, and nothing says what to run instead.
        RunError: when the file is malformed or of another version.
    """
    earlier = load_settings(folder, name)
    if earlier is None and not set(given) - _HOW:
        raise InputError("nothing to resume", value=str(folder), allowed=f"a folder with {name} of an earlier run")
    return earlier


def save_settings(folder: Path, settings: Mapping[str, Any], name: str = NAME) -> None:
    """Write the settings whole or not at all.

    Raises:
        RunError: when the folder cannot be written to.
    """
    try:
        write_file(
            folder / name, json.dumps({"schema": SCHEMA, **settings}, indent=2, allow_nan=False).encode() + b"\n"
        )
    except InputError as error:
        raise RunError(str(error)) from error


def keep_settings(
    folder: Path,
    settings: Mapping[str, Any],
    name: str = NAME,
    *,
    same: Collection[str] | None = None,
    continued: bool = True,
) -> None:
    """Write the settings of a run, after making sure that it is the run that is in the folder, if one is.

    Args:
        same: the settings that both must share; None for all.
        continued: whether something was made with those that are there; else they bind nobody.

    Raises:
        RunError: naming the first setting that differs; or when the folder cannot be written to.
    """
    earlier = load_settings(folder, name)
    if earlier is not None and continued:
        require_same(earlier, settings, settings if same is None else same)
    save_settings(folder, settings, name)


def require_same(earlier: Mapping[str, Any], now: Mapping[str, Any], fixed: Iterable[str]) -> None:
    """Raise RunError, naming the first setting in which a resumed run differs from the one it continues.

    Where both have a digest of what a setting names, the digests are compared, so that files may have moved.
    """
    for name in fixed:
        digest = name + DIGEST
        hashed = digest in earlier and digest in now
        if not _same(*(each.get(digest if hashed else name) for each in (earlier, now))):
            value, allowed = (_shown(each, name) if hashed else each.get(name) for each in (now, earlier))
            raise RunError(
                f"cannot resume with another {name.replace('_', ' ')}",
                value=value,
                allowed=shorten(allowed),
                hint="choose another --out",
            )


def _same(one: object, other: object) -> bool:
    """Whether two values are one in JSON, where true is not 1."""
    return one == other and (isinstance(one, bool) == isinstance(other, bool))


def _shown(settings: Mapping[str, Any], name: str) -> str:
    digest = settings[name + DIGEST]
    return f"{settings.get(name)}" + (f" (SHA-256 {str(digest)[:12]}...)" if digest else "")
