"""Click's options from the fields of a settings dataclass: a command and the library share names and defaults.

A field of a frozen dataclass becomes an option: its name is the parameter's, with dashes the option's; without a
default it is required. Its type decides what is taken: `int`, `float`, `str` and `Path` as they are, a `Literal` or an
`Enum` a choice, `bool` a flag, `tuple[str, ...]` a repeatable option; `| None` adds nothing. `metadata` has `help`, and
where it differs from that: `option` (`--hw`, or several names), `metavar`, `low` and `high`, the least and the greatest
number, `unit`, in which the number is and with which it may be written (`s`, `%`, `nats`), and `type`, an own type of
click. A default that is words ends the help: `[default: physical cores]`.

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Size:
        batch: int = field(default=1, metadata={"help": "Sequences."})

    @click.command()
    @options_of(Size, "size")
    def command(size: Size) -> None: ...
"""

from __future__ import annotations

import enum
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click

from costmodel.errors import InputError
from costmodel.units import parse_amount

F = TypeVar("F", bound=Callable[..., Any])


def options_of(settings: type[Any], name: str, several: Sequence[str] = ()) -> Callable[[F], F]:
    """A decorator that adds an option for each field of `settings`; the command gets an instance as keyword `name`.

    Args:
        settings: a dataclass, all of whose fields are given by keyword.
        name: of the command's parameter.
        several: fields whose options repeat or take commas. With any, the command gets a tuple of instances: every
            combination once, in the order given, the last of these fields changing fastest.
    """
    types = {key: _plain(hint) for key, hint in get_type_hints(settings).items()}
    defaults = {field.name: field.default for field in fields(settings)}

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def command(*args: Any, **values: Any) -> Any:
            own = {field.name: _value(values.pop(field.name), types[field.name]) for field in fields(settings)}
            if not several:
                return function(*args, **values, **{name: settings(**own)})
            lists = [_each(own[key]) or [defaults[key]] for key in several]
            combined = [settings(**own | dict(zip(several, row, strict=True))) for row in itertools.product(*lists)]
            return function(*args, **values, **{name: tuple(combined)})

        decorated: Any = command
        for field in reversed(fields(settings)):
            decorated = _option(field, types[field.name], field.name in several)(decorated)
        result: F = decorated
        return result

    return decorate


def _plain(hint: Any) -> Any:
    """The type without `| None`."""
    parts = [part for part in get_args(hint) if part is not NoneType]
    return parts[0] if len(parts) == 1 and NoneType in get_args(hint) else hint


def _value(value: Any, kind: Any) -> Any:
    """What click read, as the field's type."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum) and value is not None:
        return kind(value)
    return value


class Amount(click.ParamType[float]):
    """A number with its unit or without one: `Amount("s")` takes 90, 90s and 1.5min, in seconds all."""

    name = "amount"

    def __init__(self, unit: str, low: float | None = None, high: float | None = None) -> None:
        self.unit = unit
        self.low, self.high = (-math.inf if low is None else low), (math.inf if high is None else high)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        what = param.opts[0] if param is not None and param.opts else "amount"
        amount = float(value) if isinstance(value, int | float) else parse_amount(str(value), self.unit, what)
        if not self.low <= amount <= self.high:
            most = "" if self.high == math.inf else f" to {self.high:g}"
            raise InputError(
                f"{what} out of range", value=value, allowed=f"{'' if most else 'from '}{self.low:g}{most} {self.unit}"
            )
        return amount


class _Commas(click.ParamType[tuple[Any, ...]]):
    """Values of one type with commas between them."""

    def __init__(self, item: Any) -> None:
        self.item = click.types.convert_type(item)
        self.name = self.item.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        if len(parts) > 1 and not all(parts):
            self.fail(f"{str(value)!r}: a name or number is missing beside a comma", param, ctx)
        return tuple(self.item.convert(part, param, ctx) for part in parts)


def _each(groups: tuple[tuple[Any, ...], ...]) -> list[Any]:
    """The values of an option that repeats, each once."""
    return list(dict.fromkeys(value for group in groups for value in group))


def _option(field: Field[Any], kind: Any, several: bool = False) -> Callable[[F], F]:
    declared = field.metadata.get("option", f"--{field.name.replace('_', '-')}")
    names = [declared] if isinstance(declared, str) else list(declared)
    taken = {key: field.metadata[key] for key in ("help", "metavar", "type") if key in field.metadata}
    if get_origin(kind) is Literal:
        taken.setdefault("type", click.Choice(get_args(kind)))
    elif isinstance(kind, type) and issubclass(kind, enum.Enum):
        taken.setdefault("type", click.Choice([member.value for member in kind]))
    elif kind is bool:
        taken["is_flag"] = True
    else:
        many = get_origin(kind) is tuple
        taken["multiple"] = many
        taken.setdefault("type", _number(field, get_args(kind)[0] if many else kind))
    if several:
        taken |= {"type": _Commas(taken["type"]), "multiple": True}
        taken["metavar"] = f"{taken.get('metavar', 'N')},..."
        if field.default is not MISSING and field.default is not None:
            taken["help"] += f"  [default: {field.default}]"
    if field.default is MISSING:
        taken["required"] = True
    elif several:
        pass
    elif field.default is not None and get_origin(kind) is not tuple:
        taken["default"] = field.default.value if isinstance(field.default, enum.Enum) else field.default
        taken["show_default"] = kind is not bool and "[default:" not in taken.get("help", "")
    return click.option(*names, field.name, **taken)


def _number(field: Field[Any], kind: Any) -> Any:
    """The type of one value, with its bounds."""
    if kind is Path:
        return click.Path(path_type=Path)
    low, high = field.metadata.get("low"), field.metadata.get("high")
    if unit := field.metadata.get("unit"):
        return Amount(unit, low, high)
    if low is None and high is None:
        return kind
    return click.IntRange(low, high) if kind is int else click.FloatRange(low, high)
