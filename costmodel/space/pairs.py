"""Pairs (set of names, rank) of a block of layers in ascending order, counted and numbered without a list of them.

Under each candidate rank the sets of names are those inside a universe that meet each of some targets: each pattern of
layers has one of the names, and some name tells the rank from an earlier candidate. Their number, and that of those
below a mask, is a signed sum over unions of targets (inclusion and exclusion) of subsets that avoid the union.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Bools, Ints


@dataclass(frozen=True, slots=True)
class NameSets:
    """Sets of names, as masks, within `universe` that meet every one of `targets`; of those none holds another."""

    universe: int
    targets: tuple[int, ...]

    @classmethod
    def of(cls, universe: int, targets: Iterable[int]) -> NameSets:
        """The sets within a universe that meet some targets, of which those that others imply are left out."""
        inside = {target & universe for target in targets}
        least = [one for one in inside if not any(other != one and other & one == other for other in inside)]
        return cls(universe, tuple(sorted(least)))

    def __contains__(self, mask: int) -> bool:
        return not mask & ~self.universe and all(mask & target for target in self.targets)

    def containing(self, name: int) -> int:
        """How many of the sets hold the name of this bit."""
        bit = 1 << name
        if not self.universe & bit:
            return 0
        rest = NameSets.of(self.universe & ~bit, [target for target in self.targets if not target & bit])
        return rest.terms.below(1 << self.universe.bit_length())

    @property
    def terms(self) -> _Terms:
        """What counts them."""
        found = {self.universe: 1}
        for target in self.targets:
            for allowed, sign in list(found.items()):
                found[allowed & ~target] = found.get(allowed & ~target, 0) - sign
        return _Terms({allowed: sign for allowed, sign in found.items() if sign})

    def inside(self, masks: Ints) -> Bools:
        """Which of some masks within 62 bits are among the sets."""
        found: Bools = (masks & ~self.universe) == 0
        for target in self.targets:
            found &= (masks & target) != 0
        return found


@dataclass(frozen=True, slots=True)
class _Terms:
    """A signed sum over universes of their subsets."""

    signs: dict[int, int]

    def below(self, mask: int) -> int:
        """The sum of the subsets less than a mask."""
        total = 0
        for allowed, sign in self.signs.items():
            for bit in range(mask.bit_length() - 1, -1, -1):
                if mask >> bit & 1:
                    total += sign << (allowed & ((1 << bit) - 1)).bit_count()
                    if not allowed >> bit & 1:
                        break
        return total


class Pairs:
    """Pairs (mask over names, candidate) numbered by mask, then by candidate.

    Args:
        candidates: the sets of names under each candidate rank.
    """

    def __init__(self, candidates: Sequence[NameSets]) -> None:
        self.candidates = tuple(candidates)
        signs: dict[int, int] = {}
        for sets in self.candidates:
            for allowed, sign in sets.terms.signs.items():
                signs[allowed] = signs.get(allowed, 0) + sign
        self._terms = _Terms({allowed: sign for allowed, sign in signs.items() if sign})
        self._bits = max((sets.universe.bit_length() for sets in self.candidates), default=0)

    @functools.cached_property
    def count(self) -> int:
        """How many there are."""
        return self._terms.below(1 << self._bits)

    def number(self, mask: int, candidate: int) -> int:
        """The number of a pair that is one of them."""
        return self._terms.below(mask) + sum(mask in sets for sets in self.candidates[:candidate])

    def at(self, number: int) -> tuple[int, int]:
        """The pair of a number; the inverse of `number`."""
        mask = 0
        for bit in range(self._bits - 1, -1, -1):
            if self._terms.below(mask | 1 << bit) <= number:
                mask |= 1 << bit
        left = number - self._terms.below(mask)
        here = [candidate for candidate, sets in enumerate(self.candidates) if mask in sets]
        return mask, here[left]

    def listed(self) -> Ints:
        """All of them, int64 (pairs, 2): mask, candidate. For few names."""
        masks = np.arange(1 << self._bits, dtype=np.int64)
        chosen = np.stack([sets.inside(masks) for sets in self.candidates], axis=1)
        place, candidate = np.nonzero(chosen)
        return np.stack([masks[place], candidate], axis=1)

    def drawn(self, count: int, generator: np.random.Generator) -> Ints:
        """So many of them drawn uniformly, int64 (count, 2)."""
        weights = [sets.terms.below(1 << self._bits) for sets in self.candidates]
        share = np.array([weight / self.count for weight in weights])
        candidate = generator.choice(len(share), size=count, p=share / share.sum())
        masks = np.zeros(count, dtype=np.int64)
        for place in np.unique(candidate).tolist():
            sets, left = self.candidates[place], np.flatnonzero(candidate == place)
            while len(left):
                masks[left] = generator.integers(0, 1 << self._bits, size=len(left)) & sets.universe
                left = left[~sets.inside(masks[left])]
        return np.stack([masks, candidate], axis=1)
