"""A design space as options name it, shared by whatever explores or samples one."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from costmodel.decomposition.factors import Form, Site
from costmodel.decomposition.text import Rank, parse_decomposition
from costmodel.errors import InputError
from costmodel.model import ModelSpec
from costmodel.space.base import MAX_RANKS, DesignSpace
from costmodel.space.make import design_space

_RANGE = re.compile(r"(\d{1,9})-(\d{1,9})(?::(\d{1,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceSettings:
    """Which configurations there are; metadata is what `--help` says of each."""

    space: Literal["homogeneous", "per-layer", "per-site"] = field(
        default="homogeneous",
        metadata={
            "help": "One set of tensors and one rank in all chosen layers; a set of tensors for each layer; or a rank "
            "for each (layer, tensor)."
        },
    )
    form: Form = field(default="svd", metadata={"help": "Two factors, or three as in the paper."})
    ranks: str | None = field(
        default=None,
        metadata={
            "metavar": "R1,R2,...",
            "help": "Candidates: numbers, ranges 64-512:64, shares of break-even 50%.  [default: 1, or all multiples "
            "with --rank-multiple]",
        },
    )
    rank_multiple: int = field(
        default=1,
        metadata={"metavar": "N", "help": "Ranks are multiples of this; percentages are rounded down to one."},
    )
    keep: tuple[str, ...] = field(
        default=(),
        metadata={
            "metavar": "SPEC",
            "help": 'What stays dense, for example "layers=0,31" or "tensors=down_proj"; repeatable.',
        },
    )

    def of(self, model: ModelSpec) -> DesignSpace:
        """The space of a model.

        Raises:
            InputError: when the settings are malformed or leave nothing to decompose.
        """
        return design_space(
            model,
            self.space,
            ranks=parse_ranks(self.ranks) if self.ranks is not None else None,
            form=self.form,
            rank_multiple=self.rank_multiple,
            keep=[site for spec in self.keep for site in _kept(spec, model)],
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
