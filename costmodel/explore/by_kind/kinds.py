"""What chosen layers of each kind add to sums, name by name: the parts of which homogeneous configurations are made.

Under one rank a configuration is a set of names and, for each kind of layer, how many of its layers are chosen: kinds
are layers with the same tensors that count alike in everything that is asked. A sum over sites is then the dense
model's and, for each kind, the number of layers times the sum over the names of what such a layer adds.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Bools, Choices, Floats, Ints
from costmodel.explore.by_site.problem import QUALITY, Coordinate, Functional
from costmodel.explore.tables import COLUMN, CostBatch, CostTables
from costmodel.space.kinds import HomogeneousSpace
from costmodel.space.mixed import MixedSpace

MAX_KINDS = 12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Kinds:
    """The kinds of layers of a space.

    Attributes:
        tables: prices.
        names: for each name that may be chosen its columns.
        layers: of each kind its layers.
        has: bool (kinds, names): whether such a layer has a tensor of this name that may be chosen.
        possible: bool (kinds, candidates, names): whether its rank is not above min(out, in); True where it has none.
    """

    tables: CostTables
    names: list[Ints]
    layers: list[Ints]
    has: Bools
    possible: Bools

    @classmethod
    def of(cls, tables: CostTables, peaks: Sequence[str], graded: bool) -> Kinds:
        """The kinds of a homogeneous space's layers.

        Args:
            tables: of the space.
            peaks: phases whose peak of live bytes is asked for.
            graded: whether quality is asked for.
        """
        space = tables.space
        assert isinstance(space, HomogeneousSpace | MixedSpace)
        free = space.free
        names = space.names if isinstance(space, MixedSpace) else [np.array([each]) for each in space.tensors.tolist()]
        rows = [free.astype(np.int64), *(tables.phases[part].excess.reshape(len(free), -1) for part in peaks)]
        if graded and tables.quality:
            rows.append((tables.quality.value * free[:, :, None]).reshape(len(free), -1))
        alike: dict[bytes, list[int]] = {}
        joined = np.concatenate(rows, axis=1)
        for layer in np.flatnonzero(free.any(axis=1)).tolist():
            alike.setdefault(joined[layer].tobytes(), []).append(layer)
        layers = [np.array(each) for each in alike.values()]
        firsts = [each[0] for each in layers]
        has = np.array([[free[first, columns].any() for columns in names] for first in firsts])
        able = space.possible[None] | ~free[firsts][:, :, None]
        possible = np.stack([able[:, columns].all(axis=1) for columns in names], axis=-1)
        return cls(tables=tables, names=names, layers=layers, has=has, possible=possible)

    @property
    def sizes(self) -> list[int]:
        """Layers of each kind."""
        return [len(each) for each in self.layers]

    def added(self, coordinate: Coordinate) -> Floats:
        """What one chosen layer adds to a coordinate, float64 (kinds, candidates, names), whole numbers."""
        return self._summed(self.ticks(coordinate)).astype(np.float64)

    def raised(self, part: str) -> Floats:
        """Live bytes of a chosen name beyond the floor of a phase, float64 (kinds, candidates, names)."""
        return self._summed(self.tables.phases[part].excess).astype(np.float64)

    def values(self, functional: Functional) -> Floats:
        """What one chosen layer adds to a functional, float64 (kinds, candidates, names)."""
        total = np.zeros(self.possible.shape)
        for coordinate, weight in functional.weights.items():
            total += weight * self.added(coordinate)
        return total

    def offset(self, functional: Functional) -> float:
        """The functional of the dense model."""
        return functional.constant + sum(weight * self.base(each) for each, weight in functional.weights.items())

    def base(self, coordinate: Coordinate) -> int:
        """A coordinate of the dense model."""
        if coordinate == QUALITY:
            return 0
        return int(self.tables.parts[coordinate[0]].base[COLUMN[coordinate[1]]])

    def least(self, functional: Functional) -> tuple[float, Choices]:
        """The least value of a functional over all possible configurations, and one that has it, (layers, tensors).

        It is linear in the number of layers of each kind, so all or none of a kind are chosen; given which, each name
        counts by itself.
        """
        values = self.values(functional)
        sets = np.array(list(itertools.product((0, 1), repeat=len(self.layers))), dtype=np.float64)
        weighed = np.einsum("sk,krn->srn", sets * self.sizes, values)
        barred = np.einsum("sk,krn->srn", sets, (~self.possible).astype(np.float64)) > 0
        chosen = (weighed < 0) & ~barred
        totals = (weighed * chosen).sum(axis=-1)
        best, candidate = np.unravel_index(int(totals.argmin()), totals.shape)
        numbers = (sets[best] * self.sizes).astype(np.int64)
        choices = self.choices(int(candidate), chosen[best, candidate][None], numbers[None])[0]
        return float(totals.min() + self.offset(functional)), choices

    def choices(self, candidate: int, names: Bools, numbers: Ints) -> Choices:
        """Configurations of one candidate rank, the first layers of each kind chosen, int64 (n, layers, tensors).

        Args:
            candidate: position of the rank.
            names: bool (n, names): which are chosen.
            numbers: int64 (n, kinds): how many layers of each kind.
        """
        free = self.tables.space.free
        rows: Bools = np.zeros((len(names), len(free)), dtype=np.bool_)
        for kind, layers in enumerate(self.layers):
            rows[:, layers] = np.arange(len(layers)) < numbers[:, kind, None]
        columns: Bools = np.zeros((len(names), free.shape[1]), dtype=np.bool_)
        for place, where in enumerate(self.names):
            columns[:, where] = names[:, place, None]
        chosen: Choices = (rows[:, :, None] & columns[:, None] & free) * np.int64(1 + candidate)
        return chosen

    def batch(self, candidate: Ints, names: Bools, numbers: Ints) -> CostBatch:
        """Costs of configurations: the position of each one's rank, int64 (n,), and as of `choices`."""
        firsts = [int(each[0]) for each in self.layers]
        tables, free = self.tables, self.tables.space.free[firsts]
        columns = {name: np.empty((len(names), len(table.base)), np.int64) for name, table in tables.parts.items()}
        excess = {name: np.zeros(len(names), dtype=np.int64) for name in tables.parts}
        quality = np.zeros(len(names), dtype=np.int64)
        where = np.zeros(free.shape[1], dtype=np.int64)
        for place, each in enumerate(self.names):
            where[each] = place
        for rank in np.unique(candidate).tolist():
            mine = np.flatnonzero(candidate == rank)
            chosen = names[mine][:, None, where] & (numbers[mine] > 0)[:, :, None] & free
            times = (chosen * numbers[mine][:, :, None]).sum(axis=1)
            for name, table in tables.parts.items():
                columns[name][mine] = table.base + times @ table.delta[:, 1 + rank]
                excess[name][mine] = (chosen * table.excess[firsts, :, 1 + rank]).max(axis=(1, 2))
            if tables.quality:
                own = tables.quality.value[firsts, :, 1 + rank]
                quality[mine] = (chosen * numbers[mine][:, :, None] * own).sum(axis=(1, 2))
        return CostBatch(tables, columns, excess, quality if tables.quality else None)

    def sample(self, count: int, seed: int) -> CostBatch:
        """Possible configurations drawn uniformly, priced, shape (count,)."""
        space = self.tables.space
        if isinstance(space, MixedSpace):
            rows, masks, candidate = space.drawn(count, seed)
        else:
            assert isinstance(space, HomogeneousSpace)
            choices = space.sample_choices(count, seed)[:, space.layers][:, :, space.tensors]
            rows = np.zeros((count, len(space.free)), dtype=np.bool_)
            rows[:, space.layers] = choices.any(axis=2)
            masks = choices.any(axis=1) @ (1 << np.arange(len(space.tensors)))
            candidate = np.maximum(choices.max(axis=(1, 2)) - 1, 0)
        names: Bools = masks[:, None] >> np.arange(len(self.names)) & 1 > 0
        numbers = np.stack([rows[:, layers].sum(axis=1) for layers in self.layers], axis=-1)
        return self.batch(candidate, names, numbers)

    def ticks(self, coordinate: Coordinate) -> Ints:
        """What each choice adds to a coordinate, int64 (layers, tensors, 1 + R)."""
        shape = (*self.tables.space.free.shape, 1 + len(self.tables.space.ranks[0]))
        if coordinate == QUALITY:
            assert self.tables.quality is not None
            return self.tables.quality.value
        return np.broadcast_to(self.tables.parts[coordinate[0]].delta[:, :, COLUMN[coordinate[1]]], shape)

    def _summed(self, ticks: Ints) -> Ints:
        """Over the tensors of a name that a layer of each kind has, int64 (kinds, candidates, names)."""
        firsts = [int(each[0]) for each in self.layers]
        own = ticks[firsts, :, 1:] * self.tables.space.free[firsts][:, :, None]
        return np.stack([own[:, columns].sum(axis=1) for columns in self.names], axis=-1)
