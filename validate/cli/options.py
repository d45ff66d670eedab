"""Options that every command has which leaves records in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

F = TypeVar("F", bound=Callable[..., Any])


STARTS = "where DIR holds none and other options say what to run, start one"
"""What `--resume` does without a run."""


def run_options(folder: str, noun: str, *, records: str = "Where records go.", more: str = "") -> Callable[[F], F]:
    """Add `--stop-after`, `--out` and `--resume` of a command that leaves records in a folder.

    Args:
        folder: the default of `--out`.
        noun: what a record is of.
        records: the line of `--out` in `--help`.
        more: on what `--resume` does.
    """

    def add(function: F) -> F:
        for option in (
            click.option(
                "--resume", is_flag=True, help=f"Continue the run in DIR with its own settings{more}; {STARTS}."
            ),
            click.option(
                "--out",
                type=click.Path(path_type=Path),
                default=folder,
                show_default=True,
                metavar="DIR",
                help=records,
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
