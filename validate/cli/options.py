"""Options that every command has which leaves records in a folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from costmodel.cli.options import Amount
from costmodel.errors import InputError
from validate.cluster.connection import Cluster, require_ray

F = TypeVar("F", bound=Callable[..., Any])

ranks_option = click.option(
    "--ranks",
    default="1,5%,10%,15%,20%,25%,30%,40%,50%,60%,70%,80%,90%,100%",
    metavar="R1,R2,...",
    help="Of the quality file: numbers, ranges 64-512:64, "
    "shares of break-even 50%, as in `explore`.  [default: 1 and shares from 5% to 100%]",
)
"""Ranks that a quality file has entries for."""
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
                type=Amount("s", 1),
                metavar="SECONDS",
                help=f"Start no further {noun} after this long, and report; --resume continues.",
            ),
        ):
            function = option(function)
        return function

    return add


def ray_option(work: str) -> Callable[[F], F]:
    """Add `--ray`, whose value is refused before anything is made where it cannot be.

    Args:
        work: what is done on the cluster, for `--help`.
    """
    return click.option(
        "--ray",
        metavar="auto|ADDRESS",
        callback=lambda ctx, parameter, value: require_ray(value),
        help=f"{work} on the workers of a Ray cluster: HOST:PORT of its head, or auto for the one that this machine is "
        "in, else for one on this machine alone.",
    )


def cluster_at(address: str | None) -> AbstractContextManager[Cluster | None]:
    """The cluster of `--ray`, joined when it is first used and left at the end; None without the option."""
    return nullcontext() if address is None else Cluster(address)


def given(ctx: click.Context) -> set[str]:
    """Names of the options that the command line has."""
    return {name for name in ctx.params if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}


def require_used(asked: Collection[str], needs: Mapping[str, tuple[str, bool]]) -> None:
    """Refuse an option that says nothing about what is asked for.

    Args:
        asked: names of the options that the user gave.
        needs: by name of an option the one that it is of, as it is written, and whether that is there.

    Raises:
        InputError: naming both.
    """
    for name, (other, there) in needs.items():
        if name in asked and not there:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} without {other} says nothing", hint=f"leave it out, or give {other}")
