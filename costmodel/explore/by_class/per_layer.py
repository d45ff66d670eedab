"""Cost classes of the per-layer space: how many sites of each kind of weight are factored, and at which rank.

Sites of one rank that cost the same form a group; a configuration's costs depend on the number n_g that is chosen in
each group, C(F_g, n_g) ways each: sums are n_g times a site's, the peak of live bytes is the highest of a chosen group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Ints
from costmodel.explore.by_class.subsets import grouped_subsets
from costmodel.explore.distribution import Counts
from costmodel.explore.tables import CostBatch, CostTables
from costmodel.space.kinds import PerLayerSpace

MAX_CLASSES = 3_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiteGroups:
    """Free sites of one rank candidate, grouped by what they cost.

    Attributes:
        candidate: position of the rank.
        group: int64 (sites,): group of each free site, -1 where the rank is impossible.
        columns: for each part what a site of each group adds, int64 (groups, columns).
        excess: for each part the live bytes of a site of each group beyond the floor, int64 (groups,).
        quality: int64 (groups,).
    """

    candidate: int
    group: Ints
    columns: dict[str, Ints]
    excess: dict[str, Ints]
    quality: Ints

    @classmethod
    def of(cls, tables: CostTables, space: PerLayerSpace, candidate: int) -> SiteGroups:
        """The groups of one rank; none where it fits no free site."""
        layer, tensor = np.divmod(space.sites, space.free.shape[1])
        choice = 1 + candidate
        columns = {name: table.delta[tensor, choice] for name, table in tables.parts.items()}
        excess = {name: table.excess[layer, tensor, choice] for name, table in tables.parts.items()}
        quality = np.zeros(len(layer), dtype=np.int64)
        if tables.quality:
            quality = tables.quality.value[layer, tensor, choice]
        possible = np.flatnonzero(space.possible[tensor, candidate])
        rows = [*columns.values(), *(added[:, None] for added in excess.values()), quality[:, None]]
        _, first, inverse = np.unique(
            np.concatenate(rows, axis=1)[possible], axis=0, return_index=True, return_inverse=True
        )
        group = np.full(len(layer), -1, dtype=np.int64)
        group[possible] = inverse.ravel()
        example = possible[first]
        return cls(
            candidate=candidate,
            group=group,
            columns={name: added[example] for name, added in columns.items()},
            excess={name: added[example] for name, added in excess.items()},
            quality=quality[example],
        )

    @property
    def sizes(self) -> list[int]:
        """Sites of each group."""
        return np.bincount(self.group[self.group >= 0], minlength=len(self.quality)).tolist()  # type: ignore[no-any-return]

    def ways(self) -> Counts:
        """Ways to choose n_1, n_2, ... sites of the groups: exact, object (1 + size of group 1, ...)."""
        ways: Counts = np.ones((), dtype=object)
        for size in self.sizes:
            ways = np.multiply.outer(ways, np.array([math.comb(size, n) for n in range(size + 1)], dtype=object))
        return ways

    def peaks(self, part: str, numbers: Ints) -> Ints:
        """Highest excess among the groups with a chosen site, `numbers` int64 (classes, groups)."""
        highest = np.zeros(len(numbers), dtype=np.int64)
        for group in np.flatnonzero(self.excess[part]).tolist():
            np.maximum(highest, (numbers[:, group] > 0) * self.excess[part][group], out=highest)
        return highest


class PerLayerClasses:
    """The cost classes of a per-layer space that is `countable`; class 0 is the dense model."""

    def __init__(self, tables: CostTables, space: PerLayerSpace) -> None:
        self.space = space
        candidates = [SiteGroups.of(tables, space, candidate) for candidate in range(len(space.ranks[0]))]
        self._groups = [groups for groups in candidates if len(groups.quality)]
        self._numbers: list[Ints] = []
        """For each rank int64 (classes, groups): sites chosen in each group."""
        columns = {name: [table.base[None]] for name, table in tables.parts.items()}
        excess = {name: [np.zeros(1, dtype=np.int64)] for name in tables.parts}
        quality, counts = [np.zeros(1, dtype=np.int64)], [np.array([1], dtype=object)]
        for groups in self._groups:
            ways = groups.ways()
            numbers = np.stack(np.unravel_index(np.arange(1, ways.size), ways.shape), axis=-1)
            self._numbers.append(numbers)
            counts.append(ways.ravel()[1:])
            quality.append(numbers @ groups.quality)
            for name, table in tables.parts.items():
                columns[name].append(table.base + numbers @ groups.columns[name])
                excess[name].append(groups.peaks(name, numbers))
        self._starts = np.cumsum([1] + [len(numbers) for numbers in self._numbers])
        self.counts: Counts = np.concatenate(counts)
        self.batch = CostBatch(
            tables,
            {name: np.concatenate(blocks) for name, blocks in columns.items()},
            {name: np.concatenate(blocks) for name, blocks in excess.items()},
            np.concatenate(quality) if tables.quality else None,
        )

    def members(self, position: int) -> Iterator[int]:
        """Numbers of a class's configurations in ascending order."""
        if position == 0:
            yield 0
            return
        block = int(np.searchsorted(self._starts, position, side="right")) - 1
        groups, numbers = self._groups[block], self._numbers[block][position - self._starts[block]]
        for mask in grouped_subsets(groups.group.tolist(), numbers.tolist()):
            yield 1 + (mask - 1) * len(self.space.ranks[0]) + groups.candidate


def countable(tables: CostTables, space: PerLayerSpace) -> bool:
    """Whether quality is alike in all layers and the classes are few enough to list."""
    if tables.quality is not None and not tables.quality.alike(space):
        return False
    candidates = range(len(space.ranks[0]))
    classes = (math.prod(n + 1 for n in SiteGroups.of(tables, space, each).sizes) for each in candidates)
    return sum(classes) <= MAX_CLASSES
