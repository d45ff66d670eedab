"""The steps of writing a checkpoint: a tensor that is read, and what is written of it. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from costmodel.decomposition.factors import Factor, Site
from validate.factors.experts import ExpertFactor


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One tensor to write, and the number of its file.

    Attributes:
        kind: float, or int8 with an output of its own for its scale.
    """

    name: str
    shape: tuple[int, ...]
    shard: int = 0
    kind: Literal["float", "int8", "scale"] = "float"

    def bytes(self, element_bytes: int) -> int:
        """Bytes of it, where a float has so many."""
        return prod(self.shape) * (1 if self.kind == "int8" else element_bytes)


def weight_outputs(name: str, shape: tuple[int, ...], *, int8: bool) -> list[Output]:
    """A weight (out, in) as it is written: itself, or in int8 with a scale for each output."""
    if not int8:
        return [Output(name=name, shape=shape)]
    scale = Output(name=f"{name}_scale", shape=shape[:1], kind="scale")
    return [Output(name=name, shape=shape, kind="int8"), scale]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One linear of one expert out of a stack of them; `given` is None where it stays dense."""

    linear: str
    expert: int
    given: ExpertFactor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One tensor to read, and what becomes of it: itself, or the factors of a site in the order they run.

    Attributes:
        parts: of a stack of experts, what is taken out of it, in the order of the outputs.
    """

    source: str
    outputs: tuple[Output, ...]
    site: Site | None = None
    factor: Factor | None = None
    parts: tuple[Part, ...] = ()

    def factored(self, shape: Sequence[int]) -> list[tuple[Factor, tuple[int, ...]]]:
        """The weights that are factored in it, and their shapes; `shape` is the source's."""
        if self.parts:
            given = [part.given for part in self.parts if part.given is not None]
            return [(each.factor, (each.tensor.out_features, each.tensor.in_features)) for each in given]
        return [] if self.factor is None else [(self.factor, tuple(shape))]
