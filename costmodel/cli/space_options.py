"""Options that say which configurations there are: shared by `explore` and whatever samples a space."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from costmodel.decomposition.factors import FORMS, Site
from costmodel.decomposition.text import Rank, parse_decomposition
from costmodel.errors import InputError
from costmodel.model import ModelSpec
from costmodel.space.base import KINDS, MAX_RANKS, DesignSpace
from costmodel.space.make import design_space

F = TypeVar("F", bound=Callable[..., Any])
_RANGE = re.compile(r"(\d{1,9})-(\d{1,9})(?::(\d{1,9}))?", re.ASCII)

_OPTIONS = [
    click.option(
        "--space",
        "kind",
        type=click.Choice(KINDS),
        default="homogeneous",
        show_default=True,
        help="One set of tensors and one rank in all chosen layers; a set of tensors for each layer; or a "
        "rank for each (layer, tensor).",
    ),
    click.option(
        "--form",
        type=click.Choice(FORMS),
        default="svd",
        show_default=True,
        help="Two factors, or three as in the paper.",
    ),
    click.option(
        "--ranks",
        metavar="R1,R2,...",
        help="Candidates: numbers, ranges 64-512:64, shares of break-even "
        "50%.  [default: 1, or all multiples with --rank-multiple]",
    ),
    click.option(
        "--rank-multiple",
        type=int,
        default=1,
        show_default=True,
        metavar="N",
        help="Ranks are multiples of this; percentages are rounded down to one.",
    ),
    click.option(
        "--keep",
        multiple=True,
        metavar="SPEC",
        help='What stays dense, for example "layers=0,31" or "tensors=down_proj"; repeatable.',
    ),
]


def space_options(function: F) -> F:
    """Add the options; the command receives them as keywords that `read_space` takes."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def read_space(
    model: ModelSpec, *, kind: Any, form: Any, ranks: str | None, rank_multiple: int, keep: tuple[str, ...]
) -> DesignSpace:
    """The space that the options describe.

    Raises:
        InputError: when they are malformed or leave nothing to decompose.
    """
    return design_space(
        model,
        kind,
        ranks=parse_ranks(ranks) if ranks is not None else None,
        form=form,
        rank_multiple=rank_multiple,
        keep=[site for spec in keep for site in _kept(spec, model)],
    )


def parse_ranks(text: str) -> list[Rank]:
    """Read `1,8,64-512:64,50%`.

    Raises:
        InputError: on what is no rank, or too many of them.
    """
    ranks: list[Rank] = []
    for part in text.split(","):
        if match := _RANGE.fullmatch(part.strip()):
            first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
            if not 1 <= first <= last or step < 1 or (last - first) // step >= MAX_RANKS:
                raise InputError("not a range of ranks", value=part, allowed="FIRST-LAST:STEP with 1 <= FIRST <= LAST")
            ranks += [Rank.parse(str(number)) for number in range(first, last + 1, step)]
        elif not part.strip().rstrip("%").replace(".", "", 1).isdecimal():
            raise InputError(
                "not a rank",
                value=part,
                allowed="a number, a range such as 64-512:64, or a percentage of break-even such as 50%",
            )
        else:
            ranks.append(Rank.parse(part.strip()))
    return ranks


def _kept(spec: str, model: ModelSpec) -> list[Site]:
    """Sites that a SPEC without rank and form names."""
    words = [word.partition("=")[0] for word in spec.split()]
    if not words or not set(words) <= {"layers", "tensors"}:
        raise InputError(
            "--keep takes layers= and tensors= alone",
            value=spec,
            hint='for example --keep "layers=0,31" or --keep "tensors=down_proj"',
        )
    return list(parse_decomposition([f"{spec} rank=1"], model).factors)
