"""Homogeneous configurations whose sums nothing dominates, put together name by name and kind by kind.

Two parts of configurations that can be completed alike are compared in every sum and every maximum; who is no better in
any is dropped, since every cost grows with each. Names that only one kind's layers have are settled within the kind;
for each choice of the others the kinds add up one after another. What is left holds the best configuration for every
growing objective and every limit on the worse side. Where there is no room for all that is left, sums are compared on a
grid, and what that can lose is added up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Bools, Floats, Ints
from costmodel.explore.pareto import nondominated

WORK = {1: 40_000_000, 2: 40_000_000, 3: 20_000_000}
"""Pairs of labels that may be added up in all, by the number of sums; of more sums sets are small (`_MOST_HARD`)."""
_FEWEST, _MOST_PAIRS = 250_000, 4_000_000
"""Pairs of two sets that may be added up at least, and at most."""
_MOST, _MOST_HARD = 20_000, 2000
"""Labels of one set that are kept before sums are compared on a grid: of up to three sums, of more."""
_FINEST = 2.0**-13
"""Width of the finest grid as a share of how far a sum ranges."""
_FAR = 2.0**60
"""Above every sum."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """What a chosen layer adds under each name, of the kinds of a space.

    Attributes:
        added: float64 (kinds, candidates, names, sums).
        raised: float64 (kinds, candidates, names, maxima), at least 0.
        barred: bool (kinds, candidates, names): no layer of the kind can be chosen with the name.
        has: bool (kinds, names): whether the kind has the name.
        sizes: layers of each kind.
    """

    added: Floats
    raised: Floats
    barred: Bools
    has: Bools
    sizes: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labels:
    """Configurations, or parts of them.

    Attributes:
        sums: float64 (n, sums): beyond the dense model.
        highest: float64 (n, maxima).
        names: bool (n, names): which are chosen.
        numbers: int64 (n, kinds): chosen layers of each kind.
        candidate: int64 (n,): position of the rank.
        slack: float64 (sums,): how far what was dropped can be below what was kept.
    """

    sums: Floats
    highest: Floats
    names: Bools
    numbers: Ints
    candidate: Ints
    slack: Floats

    def __len__(self) -> int:
        return len(self.sums)

    def at(self, kept: Ints, slack: Floats) -> Labels:
        """Some of them, with more slack."""
        return Labels(
            sums=self.sums[kept],
            highest=self.highest[kept],
            names=self.names[kept],
            numbers=self.numbers[kept],
            candidate=self.candidate[kept],
            slack=self.slack + slack,
        )

    def pruned(self, room: int | None = None) -> Labels:
        """Those that no other dominates, or on a grid at most `room` of them, None for as many as can be kept."""
        return self.at(*_pruned(self.sums, self.highest, room))

    def plus(self, other: Labels, pairs: int) -> Labels:
        """Every one of these with every one of the others, of the same rank, pruned; on a grid where there are more
        than so many pairs."""
        if len(self) * len(other) > pairs:
            few, many = sorted((self.pruned(math.isqrt(pairs)), other), key=len)
            return few.plus(many.pruned(pairs // len(few)), pairs)
        sums = (self.sums[:, None] + other.sums).reshape(-1, self.sums.shape[1])
        highest = np.maximum(self.highest[:, None], other.highest).reshape(len(sums), -1)
        kept, slack = _pruned(sums, highest)
        one, two = np.divmod(kept, len(other))
        return Labels(
            sums=sums[kept],
            highest=highest[kept],
            names=self.names[one] | other.names[two],
            numbers=self.numbers[one] + other.numbers[two],
            candidate=self.candidate[one],
            slack=self.slack + other.slack + slack,
        )

    @classmethod
    def joined(cls, several: Sequence[Labels]) -> Labels:
        """Labels of different ranks or names side by side."""
        fields = {
            name: np.concatenate([getattr(each, name) for each in several])
            for name in ("sums", "highest", "names", "numbers", "candidate")
        }
        return cls(**fields, slack=np.max([each.slack for each in several], axis=0))


def labels(parts: Parts, pairs: int | None = None) -> Labels:
    """The configurations of all ranks that nothing dominates, the dense one among them.

    Args:
        parts: what a chosen layer adds.
        pairs: of two sets that may be added up; None for as many as there is time for.
    """
    ranks = [_Rank(parts, candidate) for candidate in _least_ranks(parts)]
    if pairs is None:
        work = WORK.get(parts.added.shape[-1])
        share = _MOST_PAIRS if work is None else work // sum(rank.ways for rank in ranks)
        pairs = min(_MOST_PAIRS, max(_FEWEST, share))
    found = [rank.combined(pairs) for rank in ranks]
    return Labels.joined(found).pruned(_MOST)


def _pruned(sums: Floats, highest: Floats, room: int | None = None) -> tuple[Ints, Floats]:
    """Positions of those that no other dominates, on a grid where they are more than `room`, and the grid's width."""
    kept = _nondominated(sums, highest)
    width = np.zeros(sums.shape[1])
    room = room or (_MOST if len(width) < 4 else _MOST_HARD)
    if len(kept) > room:
        few, share = sums[kept], _FINEST
        span = np.ptp(few, axis=0)
        while True:
            width = span * share
            cells = np.floor((few - few.min(axis=0)) / np.where(width > 0, width, 1.0))
            some = kept[_nondominated(cells, highest[kept])]
            if len(some) <= room:
                return some, width
            share *= 2
    return kept, width


def _nondominated(sums: Floats, highest: Floats) -> Ints:
    """As of all columns together; of one maximum, which has few values, one value after the other."""
    highest = highest[:, (highest != highest[:1]).any(axis=0)]
    if highest.shape[1] != 1:
        return nondominated(np.concatenate([sums, highest], axis=1))
    order = np.argsort(highest[:, 0], kind="stable")
    front = np.zeros(0, dtype=np.int64)
    found = []
    for members in np.split(order, np.flatnonzero(np.diff(highest[order, 0])) + 1):
        front = np.concatenate([front, members])
        front = front[nondominated(sums[front])]
        found.append(np.intersect1d(members, front, assume_unique=True))
    return np.concatenate(found)


def _least_ranks(parts: Parts) -> list[int]:
    """Positions of the ranks that no other is better than, whatever names and layers are chosen."""
    count, barred = parts.added.shape[1], parts.barred[..., None]
    rows = [np.where(barred, _FAR, parts.added), np.where(barred, _FAR, parts.raised)]
    return np.sort(nondominated(np.concatenate([_by_candidate(row, count) for row in rows], axis=1))).tolist()  # type: ignore[no-any-return]


def _by_candidate(values: Floats, count: int) -> Floats:
    rows = values.swapaxes(0, 1).reshape(count, -1)
    return rows[:, (rows != rows[:1]).any(axis=0)]


_Group = tuple[int, ...]
"""Names that the same patterns have: the places of these patterns."""


@dataclass(frozen=True, slots=True, eq=False)
class _Factor:
    """Labels of some patterns for each choice of the names that they have in common with others.

    Attributes:
        scope: groups of names.
        table: for a set of names of each of the groups, by place.
    """

    scope: tuple[_Group, ...]
    table: dict[tuple[int, ...], Labels]


def _scope(factors: Sequence[_Factor], group: _Group) -> list[_Group]:
    """Groups that come with one of the group's factors."""
    return list(dict.fromkeys(each for factor in factors if group in factor.scope for each in factor.scope))


def _added(parts: Sequence[Labels], pairs: int) -> Labels:
    """Every one of some labels with every one of the others."""
    first, *others = sorted(parts, key=len)
    for each in others:
        first = first.plus(each, pairs)
    return first


class _Rank:
    """The parts of one rank: for each pattern of layers its kinds, and the names by the patterns that have them."""

    def __init__(self, parts: Parts, candidate: int) -> None:
        self.parts, self.candidate = parts, candidate
        _, first, pattern = np.unique(parts.has, axis=0, return_index=True, return_inverse=True)
        self.patterns = [np.flatnonzero(pattern.ravel() == place) for place in range(len(first))]
        by_name = parts.has[first].T
        used = np.flatnonzero(by_name.any(axis=1))
        names: dict[_Group, list[int]] = {}
        for name in used.tolist():
            names.setdefault(tuple(np.flatnonzero(by_name[name]).tolist()), []).append(name)
        self.groups = {places: self._subsets(places, np.array(each)) for places, each in names.items()}
        """For each set of patterns the sets of the names that just these have, bool (sets, names)."""

    def _subsets(self, places: tuple[int, ...], names: Ints) -> Bools:
        """Sets of names that no other set of them is better than in any number of layers of any kind."""
        kinds = np.concatenate([self.patterns[place] for place in places])
        count = len(self.parts.has[0])
        rows = self.parts.added[kinds, self.candidate][:, names].swapaxes(0, 1).reshape(len(names), -1)
        tops = np.concatenate([self.parts.raised, self.parts.barred[..., None]], axis=-1)
        highs = tops[kinds, self.candidate][:, names].swapaxes(0, 1).reshape(len(names), -1)
        rows, highs = np.unique(rows, axis=1), np.unique(highs, axis=1)
        chosen: Bools = np.zeros((1, count), dtype=np.bool_)
        sums, most = np.zeros((1, rows.shape[1])), np.zeros((1, highs.shape[1]))
        for row, high, name in zip(rows, highs, names.tolist(), strict=True):
            taken = chosen.copy()
            taken[:, name] = True
            chosen = np.concatenate([chosen, taken])
            sums = np.concatenate([sums, sums + row])
            most = np.concatenate([most, np.maximum(most, high)])
            kept = nondominated(np.concatenate([sums, most], axis=1))
            chosen, sums, most = chosen[kept], sums[kept], most[kept]
        return chosen

    @property
    def ways(self) -> int:
        """Choices of the names that several patterns have."""
        return self._choices([group for group in self.groups if len(group) > 1])

    def combined(self, pairs: int) -> Labels:
        """Labels over all patterns.

        The sets of names that several patterns have are settled one group after the other: for each choice of the
        groups that are left, the parts that have the group are added up for each of its sets, and the best of all of
        its sets are kept.
        """
        factors = [self._factor(place) for place in range(len(self.patterns))]
        left = [places for places in self.groups if len(places) > 1]
        while left:
            group = min(left, key=lambda each: self._choices(_scope(factors, each)))
            left.remove(group)
            mine = [factor for factor in factors if group in factor.scope]
            factors = [factor for factor in factors if group not in factor.scope]
            factors.append(self._settled(mine, group, pairs))
        return _added([factor.table[()] for factor in factors], pairs)

    def _choices(self, scope: Sequence[_Group]) -> int:
        """Ways to choose the names of some groups."""
        return math.prod(len(self.groups[group]) for group in scope)

    def _settled(self, mine: Sequence[_Factor], group: _Group, pairs: int) -> _Factor:
        """The parts that have a group's names as one part that has not: the best of all sets of the names."""
        scope = [each for each in _scope(mine, group) if each != group]
        table = {}
        for which in itertools.product(*(range(len(self.groups[each])) for each in scope)):
            chosen = dict(zip(scope, which, strict=True))
            found = []
            for own in range(len(self.groups[group])):
                chosen[group] = own
                parts = [factor.table[tuple(chosen[each] for each in factor.scope)] for factor in mine]
                found.append(_added(parts, pairs))
            table[which] = Labels.joined(found).pruned()
        return _Factor(tuple(scope), table)

    def _factor(self, place: int) -> _Factor:
        """The labels of one pattern for each choice of the names that it has in common with others."""
        scope = tuple(group for group in self.groups if len(group) > 1 and place in group)
        table = {}
        for which in itertools.product(*(range(len(self.groups[group])) for group in scope)):
            shared = [self.groups[group][own] for group, own in zip(scope, which, strict=True)]
            table[which] = self._pattern(place, shared)
        return _Factor(scope, table)

    def _pattern(self, place: int, shared: Sequence[Bools]) -> Labels:
        """Labels of the layers of one pattern: any of its own names, any number of layers of each of its kinds."""
        parts, kinds = self.parts, self.patterns[place]
        own = self.groups.get((place,), np.zeros((1, parts.has.shape[1]), dtype=np.bool_))
        names: Bools = own | np.any(shared, axis=0) if shared else own
        weights = names.astype(np.float64)
        total = Labels(
            sums=np.zeros((len(names), parts.added.shape[-1])),
            highest=np.zeros((len(names), parts.raised.shape[-1])),
            names=names,
            numbers=np.zeros((len(names), len(parts.sizes)), dtype=np.int64),
            candidate=np.full(len(names), self.candidate),
            slack=np.zeros(parts.added.shape[-1]),
        )
        own_row = np.arange(len(names))
        for kind in kinds.tolist():
            each = weights @ parts.added[kind, self.candidate]
            high = np.where(names[..., None], parts.raised[kind, self.candidate], 0.0).max(axis=1)
            barred = (names & parts.barred[kind, self.candidate]).any(axis=1)
            number = np.arange(parts.sizes[kind] + 1)
            before, times = (axis.ravel() for axis in np.indices((len(total), len(number))))
            fits = ~(barred[own_row[before]] & (times > 0))
            before, times = before[fits], times[fits]
            set_of = own_row[before]
            numbers = total.numbers[before]
            numbers[:, kind] = times
            total = Labels(
                sums=total.sums[before] + times[:, None] * each[set_of],
                highest=np.maximum(total.highest[before], (times > 0)[:, None] * high[set_of]),
                names=total.names[before],
                numbers=numbers,
                candidate=total.candidate[before],
                slack=total.slack,
            )
            own_row = set_of
        return total.pruned()
