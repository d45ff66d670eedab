"""What is compared of homogeneous configurations: the sums that the costs asked for grow with, none of them twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from costmodel.arrays import Floats
from costmodel.explore.by_kind.kinds import Kinds
from costmodel.explore.by_kind.labels import Parts
from costmodel.explore.by_site.problem import Coordinate, Functional, coordinates
from costmodel.explore.by_site.tangents import tangents
from costmodel.explore.objectives import Objective

_SMALL = 1 << 20
"""Largest numerator and denominator of a ratio of two sums that is recognised."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Metrics:
    """The sums that some plain costs are made of.

    Attributes:
        kinds: of the space.
        tangents: for each cost sums that never exceed it and whose maximum it is, those that matter.
        sums: coordinates that are compared.
        same: for each coordinate the place in `sums` of one that it is a multiple of, and the factor; none where no
            choice changes it.
        peaks: phases in which choices can raise the peak of live bytes.
    """

    kinds: Kinds
    tangents: dict[Objective, list[Functional]]
    sums: list[Coordinate]
    same: dict[Coordinate, tuple[int, float]]
    peaks: list[str]

    @classmethod
    def of(cls, kinds: Kinds, costs: Sequence[Objective], peaks: Sequence[str]) -> Metrics:
        """The sums of some costs.

        Args:
            kinds: of the space.
            costs: plain, as of `metric_of`.
            peaks: phases whose peak of live bytes is asked for.
        """
        reduced = {cost: _leading(kinds, cost) for cost in costs}
        needed: dict[Coordinate, None] = {}
        for cost, functionals in reduced.items():
            if cost.part == "request" and len(functionals) > 1:
                needed.update(dict.fromkeys(coordinates(kinds.tables, cost)))
            for functional in functionals:
                needed.update(dict.fromkeys(key for key, weight in functional.weights.items() if weight))
        sums: list[Coordinate] = []
        values: list[Floats] = []
        same: dict[Coordinate, tuple[int, float]] = {}
        for coordinate in needed:
            own = np.where(kinds.possible, kinds.added(coordinate), 0.0)
            if not own.any():
                continue
            place, factor = next(
                ((place, ratio) for place, other in enumerate(values) if (ratio := _ratio(own, other))), (-1, 0.0)
            )
            if place < 0:
                place, factor = len(sums), 1.0
                sums.append(coordinate)
                values.append(own)
            same[coordinate] = place, factor
        raising = [part for part in peaks if kinds.tables.phases[part].raises_peak]
        return cls(kinds=kinds, tangents=reduced, sums=sums, same=same, peaks=raising)

    def parts(self) -> Parts:
        """What a chosen layer adds, as `labels` takes it."""
        kinds = self.kinds
        nothing = np.zeros((*kinds.possible.shape, 0))
        return Parts(
            added=np.stack([kinds.added(each) for each in self.sums], axis=-1) if self.sums else nothing,
            raised=np.stack([kinds.raised(each) for each in self.peaks], axis=-1) if self.peaks else nothing,
            barred=~kinds.possible,
            has=kinds.has,
            sizes=kinds.sizes,
        )

    def slack(self, cost: Objective, slack: Floats) -> float:
        """How far a cost can be below that of a configuration whose sums are at most this far above."""
        own = {key: factor * float(slack[place]) for key, (place, factor) in self.same.items()}
        return max(
            sum(abs(weight) * own.get(key, 0.0) for key, weight in functional.weights.items())
            for functional in self.tangents[cost]
        )


def _leading(kinds: Kinds, cost: Objective) -> list[Functional]:
    """The tangents of a cost, or the one of them that no other is above in any configuration."""
    functionals = tangents(kinds.tables, cost)
    if cost.part == "request" and cost.metric != "ttft_s":
        return functionals
    for place in (-1, 0) if len(functionals) > 1 else ():
        others = [each for each in functionals if each is not functionals[place]]
        if all(kinds.least(functionals[place].plus(each, -1.0))[0] >= 0 for each in others):
            return [functionals[place]]
    return functionals


def _ratio(one: Floats, other: Floats) -> float:
    """What `one` is of `other`, both whole numbers, exactly and above 0; else 0."""
    place = np.unravel_index(int(np.abs(other).argmax()), other.shape)
    ratio = Fraction(int(one[place]), int(other[place]))
    if ratio <= 0 or ratio.numerator > _SMALL or ratio.denominator > _SMALL or np.abs([one, other]).max() > 2.0**42:
        return 0.0
    scaled = (one.astype(np.int64) * ratio.denominator == other.astype(np.int64) * ratio.numerator).all()
    return float(ratio) if scaled else 0.0
