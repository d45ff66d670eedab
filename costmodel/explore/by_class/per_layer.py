"""Cost classes of the per-layer space: how many sites of each kind of weight are factored, and at which rank.

Sites of one rank that cost the same form a group; a configuration's sums depend on the number n_g that is chosen in
each group, C(F_g, n_g) ways each. The peak of live bytes is the highest among the chosen sites: the ways to stay at or
below a level, minus those to stay below it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Ints
from costmodel.explore.distribution import Counts
from costmodel.explore.tables import CostBatch, CostTables
from costmodel.space.kinds import PerLayerSpace

MAX_CLASSES = 3_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Groups:
    """Sites of one rank candidate.

    Attributes:
        candidate: position of the rank.
        group: int64 (sites,): group of each free site, -1 where the rank is impossible.
        excess: int64 (sites, parts): live bytes beyond the floor in the parts that count them.
        columns: for each part what a site of each group adds, int64 (groups, columns).
        quality: int64 (groups,).
    """

    candidate: int
    group: Ints
    excess: Ints
    columns: dict[str, Ints]
    quality: Ints

    @property
    def sizes(self) -> list[int]:
        """Sites of each group."""
        return np.bincount(self.group[self.group >= 0], minlength=len(self.quality)).tolist()  # type: ignore[no-any-return]


class PerLayerClasses:
    """The cost classes of a per-layer space; class 0 is the dense model.

    Args:
        tables: prices; a quality must be alike in all layers (`countable` says so).
        space: the space.
        memory: phases whose peak memory is asked for; the others' live bytes are not told apart.
    """

    def __init__(self, tables: CostTables, space: PerLayerSpace, memory: Collection[str]) -> None:
        self.space, self.memory = space, [name for name in tables.parts if name in memory]
        self.groups = [
            each for r in range(len(space.ranks[0])) if len((each := _group(tables, space, r, self.memory)).quality)
        ]
        columns = {name: [table.base[None]] for name, table in tables.parts.items()}
        excess = {name: [np.zeros(1, dtype=np.int64)] for name in tables.parts}
        quality, counts = [np.zeros(1, dtype=np.int64)], [np.array([1], dtype=object)]
        self._owner: list[tuple[int, Ints, tuple[int, ...]]] = []
        """(position in groups, int64 (classes, groups) of numbers chosen, level in each part of memory)."""
        for place, groups in enumerate(self.groups):
            for level, ways in _levels(groups):
                chosen = np.flatnonzero(ways.ravel() > 0)
                numbers = np.stack(np.unravel_index(chosen, ways.shape), axis=-1)
                nonzero = numbers.any(axis=1)
                numbers, chosen = numbers[nonzero], chosen[nonzero]
                if not len(chosen):
                    continue
                self._owner.append((place, numbers, level))
                counts.append(ways.ravel()[chosen])
                quality.append(numbers @ groups.quality)
                for name, table in tables.parts.items():
                    columns[name].append(table.base + numbers @ groups.columns[name])
                    value = level[self.memory.index(name)] if name in self.memory else 0
                    excess[name].append(np.full(len(chosen), value, dtype=np.int64))
        self.counts: Counts = np.concatenate(counts)
        self._starts = np.cumsum([1] + [len(numbers) for _, numbers, _ in self._owner])
        self.batch = CostBatch(
            tables,
            {name: np.concatenate(each) for name, each in columns.items()},
            {name: np.concatenate(each) for name, each in excess.items()},
            np.concatenate(quality) if tables.quality else None,
        )

    def members(self, position: int) -> Iterator[int]:
        """Numbers of a class's configurations in ascending order."""
        if position == 0:
            yield 0
            return
        block = int(np.searchsorted(self._starts, position, side="right")) - 1
        place, numbers, level = self._owner[block]
        groups = self.groups[place]
        for mask in site_masks(groups.group, groups.excess, numbers[position - self._starts[block]].tolist(), level):
            yield 1 + (mask - 1) * len(self.space.ranks[0]) + groups.candidate


def countable(tables: CostTables, space: PerLayerSpace, memory: Collection[str]) -> bool:
    """Whether the classes exist (quality alike in all layers) and are few enough to list."""
    if tables.quality is not None and (tables.quality.interactions.any() or not _alike(tables, space)):
        return False
    parts = [name for name in tables.parts if name in memory]
    total = 0
    for candidate in range(len(space.ranks[0])):
        groups = _group(tables, space, candidate, parts)
        total += math.prod(size + 1 for size in groups.sizes) * max(1, len(np.unique(groups.excess, axis=0)))
    return total <= MAX_CLASSES


def _alike(tables: CostTables, space: PerLayerSpace) -> bool:
    assert tables.quality is not None
    for column in range(space.free.shape[1]):
        rows = tables.quality.value[space.free[:, column], column]
        if len(rows) and not (rows == rows[0]).all():
            return False
    return True


def _group(tables: CostTables, space: PerLayerSpace, candidate: int, memory: Sequence[str]) -> _Groups:
    """Group the free sites of one rank by what they cost."""
    layer, column = np.divmod(space.sites, space.free.shape[1])
    choice = 1 + candidate
    added = {name: table.delta[column, choice] for name, table in tables.parts.items()}
    value = (
        tables.quality.value[layer, column, choice] if tables.quality else np.zeros(len(space.sites), dtype=np.int64)
    )
    excess = (
        np.stack([tables.parts[name].excess[layer, column, choice] for name in memory], axis=-1)
        if memory
        else (np.zeros((len(space.sites), 0), dtype=np.int64))
    )
    possible = space.possible[column, candidate]
    rows = np.concatenate([*added.values(), value[:, None]], axis=1)[possible]
    unique, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    group = np.full(len(space.sites), -1, dtype=np.int64)
    group[possible] = inverse.ravel()
    at = np.flatnonzero(possible)[first]
    return _Groups(
        candidate=candidate,
        group=group,
        excess=excess,
        columns={name: each[at] for name, each in added.items()},
        quality=unique[:, -1],
    )


def _levels(groups: _Groups) -> Iterator[tuple[tuple[int, ...], Counts]]:
    """For each combination of peak levels the ways to choose n_1, n_2, ... sites that reach exactly these levels."""
    possible = groups.group >= 0
    thresholds = [sorted({0, *groups.excess[possible, part].tolist()}) for part in range(groups.excess.shape[1])]
    below: dict[tuple[int, ...], Counts] = {}
    for place in itertools.product(*(range(len(each)) for each in thresholds)):
        level = np.array([each[at] for each, at in zip(thresholds, place, strict=True)], dtype=np.int64)
        within = possible & (groups.excess <= level).all(axis=1)
        ways: Counts = np.ones((), dtype=object)
        for number, size in enumerate(groups.sizes):
            free = int((within & (groups.group == number)).sum())
            ways = np.multiply.outer(ways, np.array([math.comb(free, n) for n in range(size + 1)], dtype=object))
        below[place] = ways
    for place, ways in below.items():
        exact = ways
        for steps in itertools.product((0, 1), repeat=len(place)):
            lower = tuple(at - step for at, step in zip(place, steps, strict=True))
            if any(steps) and min(lower, default=0) >= 0:
                exact = exact + (-1) ** sum(steps) * below[lower]
        yield tuple(each[at] for each, at in zip(thresholds, place, strict=True)), exact


def site_masks(group: Ints, excess: Ints, numbers: Sequence[int], level: Sequence[int]) -> Iterator[int]:
    """Masks of sites with `numbers` of each group, none above `level` and some at it in each part, ascending."""
    kinds: dict[tuple[int, ...], int] = {}
    kind_of = []
    for site in range(len(group)):
        inside = group[site] >= 0 and all(a <= b for a, b in zip(excess[site].tolist(), level, strict=True))
        key = (int(group[site]), *(int(a == b and b > 0) for a, b in zip(excess[site].tolist(), level, strict=True)))
        kind_of.append(kinds.setdefault(key, len(kinds)) if inside else -1)
    keys = list(kinds)
    available = [[0] * len(keys)]
    for kind in kind_of:
        available.append([count + (place == kind) for place, count in enumerate(available[-1])])

    def feasible(below: int, need: Sequence[int], missing: frozenset[int]) -> bool:
        """Whether sites 0 to `below` - 1 can supply what is needed and reach the missing parts' levels."""
        there = available[below]
        for number, wanted in enumerate(need):
            if not 0 <= wanted <= sum(count for key, count in zip(keys, there, strict=True) if key[0] == number):
                return False
        reaching = [[key for key, count in zip(keys, there, strict=True) if count and key[1 + p]] for p in missing]
        for picked in itertools.product(*reaching):
            taken = [key[0] for key in set(picked)]
            if all(taken.count(number) <= need[number] for number in set(taken)):
                return True
        return not missing

    def complete(below: int, need: list[int], missing: frozenset[int]) -> int:
        """The least mask of sites 0 to `below` - 1 that supplies what is needed."""
        mask = 0
        for site in range(below - 1, -1, -1):
            if not feasible(site, need, missing):
                mask |= 1 << site
                need, missing = take(site, need, missing)
        return mask

    def take(site: int, need: list[int], missing: frozenset[int]) -> tuple[list[int], frozenset[int]]:
        key = keys[kind_of[site]]
        left = [wanted - (number == key[0]) for number, wanted in enumerate(need)]
        return left, frozenset(part for part in missing if not key[1 + part])

    start = list(numbers), frozenset(part for part, value in enumerate(level) if value > 0)
    if not feasible(len(group), *start):
        return
    mask: int | None = complete(len(group), *start)
    while mask is not None:
        yield mask
        states = [start]
        for site in range(len(group) - 1, -1, -1):
            states.append(take(site, *states[-1]) if mask >> site & 1 else states[-1])
        following = None
        for site in range(len(group)):
            need, missing = states[len(group) - 1 - site]
            if not mask >> site & 1 and kind_of[site] >= 0:
                need, missing = take(site, need, missing)
                if feasible(site, need, missing):
                    following = mask >> (site + 1) << (site + 1) | 1 << site | complete(site, need, missing)
                    break
        mask = following
