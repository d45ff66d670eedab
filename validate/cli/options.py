"""click's options made from the fields of a settings record: names, types, bounds, defaults, words."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import click
from click.core import ParameterSource

from validate.store.settings import Option

F = TypeVar("F", bound=Callable[..., Any])


def options_of(record: type) -> Callable[[F], F]:
    """Add an option for each field of a settings record, in their order.

    A field's type is `bool`, `int`, `float`, `str`, `Path` or a `Literal`, one of them `| None`, or a tuple of many.
    Its default stands at the end of its line of `--help`, unless words stand there, as `[default: physical cores]`.
    """
    hints = typing.get_type_hints(record)

    def add(function: F) -> F:
        for field in reversed(fields(record)):
            function = _option(field, hints[field.name])(function)
        return function

    return add


def run_options(folder: str, noun: str, more: str = "") -> Callable[[F], F]:
    """Add `--stop-after`, `--out` and `--resume` of a command that leaves records in a folder.

    Args:
        folder: the default of `--out`.
        noun: what a record is of.
        more: on what `--resume` does.
    """

    def add(function: F) -> F:
        for option in (
            click.option("--resume", is_flag=True, help=f"Continue the run in DIR with its own settings{more}."),
            click.option(
                "--out",
                type=click.Path(path_type=Path),
                default=folder,
                show_default=True,
                metavar="DIR",
                help="Where records go.",
            ),
            click.option(
                "--stop-after",
                type=click.FloatRange(1),
                metavar="SECONDS",
                help=f"Start no further {noun} after this long, and report; --resume continues.",
            ),
        ):
            function = option(function)
        return function

    return add


def given(ctx: click.Context) -> set[str]:
    """Names of the options that the command line has."""
    return {name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}


def _option(field: Field[Any], hint: Any) -> Callable[[F], F]:
    about: Option = field.metadata["option"]
    base, many = _one(hint)
    flag, required = base is bool, field.default is MISSING
    return click.option(
        f"--{field.name.replace('_', '-')}",
        type=None if flag else _click_type(base, about),
        is_flag=flag,
        multiple=many,
        required=required,
        default=None if required or field.default == () else field.default,
        show_default=not flag and not many and not required and "[default:" not in about.words,
        metavar=about.metavar,
        help=about.words,
    )


def _one(hint: Any) -> tuple[Any, bool]:
    """The type of one value, and whether there are many."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    many = typing.get_origin(hint) is tuple
    return (typing.get_args(hint)[0] if many else hint), many


def _click_type(kind: Any, about: Option) -> Any:
    if typing.get_origin(kind) is Literal:
        return click.Choice(typing.get_args(kind))
    if about.low is not None or about.high is not None:
        if kind is int:
            return click.IntRange(_whole(about.low), _whole(about.high))
        return click.FloatRange(about.low, about.high)
    return click.Path(path_type=Path) if kind is Path else kind


def _whole(end: float | None) -> int | None:
    return None if end is None else int(end)
