"""Cost classes of the homogeneous space over different layers: layers of each pattern, names, rank.

Under one pair (names, rank) a configuration's costs depend on the number of chosen layers of each pattern alone, a
product of binomials of ways; pairs that cost the same in every pattern of a block are one group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Ints
from costmodel.explore.by_class.subsets import grouped_subsets
from costmodel.explore.distribution import Counts
from costmodel.explore.tables import CostBatch, CostTables
from costmodel.space.mixed import Block, MixedSpace

MAX_CLASSES = 6_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Patterns:
    """Classes of one block.

    Attributes:
        sizes: int64 (numbers, patterns): layers chosen of each pattern, at least one.
        ways: object (numbers,): sets of layers of these sizes.
        pairs_of: for each group of pairs that cost the same those pairs, int64 (members, 2).
        columns, excess, quality: of each group, by part: what a chosen layer of each pattern adds, int64 (groups,
            patterns, columns); the most live bytes beyond the floor, int64 (groups, patterns); int64 (groups,
            patterns).
    """

    sizes: Ints
    ways: Counts
    pairs_of: list[Ints]
    columns: dict[str, Ints]
    excess: dict[str, Ints]
    quality: Ints

    @classmethod
    def of(cls, tables: CostTables, space: MixedSpace, block: Block) -> _Patterns:
        """Sums over the tensors that each pattern's layers have of each possible pair's names."""
        firsts = [int(layers[0]) for layers in block.layers]
        listed = block.valid.listed()
        mask, candidate = listed.T
        shape = (len(mask), len(firsts))
        columns = {name: np.zeros((*shape, len(table.base)), dtype=np.int64) for name, table in tables.parts.items()}
        excess = {name: np.zeros(shape, dtype=np.int64) for name in tables.parts}
        quality = np.zeros(shape, dtype=np.int64)
        for place, layer in enumerate(firsts):
            for bit, names in enumerate(space.names):
                for tensor in names[space.free[layer, names]].tolist():
                    chosen, choice = mask >> bit & 1, 1 + candidate
                    for name, table in tables.parts.items():
                        columns[name][:, place] += table.delta[tensor, choice] * chosen[:, None]
                        most = excess[name][:, place]
                        np.maximum(most, table.excess[layer, tensor, choice] * chosen, out=most)
                    if tables.quality:
                        quality[:, place] += tables.quality.value[layer, tensor, choice] * chosen
        rows = [*(each.reshape(len(mask), -1) for each in columns.values()), *excess.values(), quality]
        _, first, inverse = np.unique(np.concatenate(rows, axis=1), axis=0, return_index=True, return_inverse=True)
        order = np.argsort(inverse.ravel(), kind="stable")
        starts = np.searchsorted(inverse.ravel()[order], np.arange(1, len(first)))
        sizes, ways = _numbers([len(layers) for layers in block.layers])
        return cls(
            sizes=sizes,
            ways=ways,
            pairs_of=[listed[members] for members in np.split(order, starts)],
            columns={name: each[first] for name, each in columns.items()},
            excess={name: each[first] for name, each in excess.items()},
            quality=quality[first],
        )

    def totals(self, added: Ints) -> Ints:
        """Sums over patterns of the sizes x what a layer adds, int64 (numbers x groups, ...)."""
        summed: Ints = np.einsum("ns,gs...->ng...", self.sizes, added)
        return summed.reshape(-1, *summed.shape[2:])

    def peaks(self, excess: Ints) -> Ints:
        """The most over the patterns, of which each has a chosen layer, int64 (numbers x groups,)."""
        return np.tile(excess.max(axis=-1), len(self.sizes))

    @property
    def counts(self) -> Counts:
        """Configurations of each class, object (numbers x groups,)."""
        pairs = np.array([len(members) for members in self.pairs_of], dtype=object)
        return np.outer(self.ways, pairs).ravel()


class MixedClasses:
    """The cost classes of a mixed homogeneous space that is `classable`; class 0 is the dense model."""

    def __init__(self, tables: CostTables, space: MixedSpace) -> None:
        self.space = space
        self._blocks = [_Patterns.of(tables, space, block) for block in space.blocks]
        self._starts = np.cumsum([1, *(len(each.sizes) * len(each.pairs_of) for each in self._blocks)])
        graded = tables.quality is not None and tables.quality.alike(space)
        columns = {
            name: np.concatenate(
                [table.base[None], *(table.base + each.totals(each.columns[name]) for each in self._blocks)]
            )
            for name, table in tables.parts.items()
        }
        excess = {
            name: np.concatenate(
                [np.zeros(1, dtype=np.int64), *(each.peaks(each.excess[name]) for each in self._blocks)]
            )
            for name in tables.parts
        }
        quality = [np.zeros(1, dtype=np.int64), *(each.totals(each.quality) for each in self._blocks)]
        self.batch = CostBatch(tables, columns, excess, np.concatenate(quality) if graded else None)
        self.counts: Counts = np.concatenate([np.array([1], dtype=object), *(each.counts for each in self._blocks)])

    def members(self, position: int) -> Iterator[int]:
        """Numbers of a class's configurations in ascending order."""
        if position == 0:
            yield 0
            return
        place = int(np.searchsorted(self._starts, position, side="right")) - 1
        block, layers = self._blocks[place], [len(each) for each in self.space.blocks[place].layers]
        number, group = divmod(position - int(self._starts[place]), len(block.pairs_of))
        numbered = self.space.blocks[place].pairs
        pairs = [numbered.number(mask, candidate) for mask, candidate in block.pairs_of[group].tolist()]
        for masks in _masks(layers, block.sizes[number].tolist()):
            for pair in pairs:
                yield self.space.number(place, masks, pair)


def classable(space: MixedSpace) -> bool:
    """Whether the classes are few enough to list."""
    return sum(math.prod(map(len, block.layers)) * block.valid.count for block in space.blocks) <= MAX_CLASSES


def _numbers(layers: Sequence[int]) -> tuple[Ints, Counts]:
    """All numbers of layers of each pattern, at least one, int64 (numbers, patterns), and how many sets have them."""
    sizes = 1 + np.indices(layers).reshape(len(layers), -1).T
    ways: Counts = np.ones(len(sizes), dtype=object)
    for place, count in enumerate(layers):
        ways = ways * np.array([math.comb(count, number) for number in range(count + 1)], dtype=object)[sizes[:, place]]
    return sizes, ways


def _masks(layers: Sequence[int], sizes: Sequence[int]) -> Iterator[list[int]]:
    """Masks over the layers of each pattern with so many chosen, in ascending order, the first the most significant."""
    if not layers:
        yield []
        return
    for mask in grouped_subsets([0] * layers[0], [sizes[0]]):
        for rest in _masks(layers[1:], sizes[1:]):
            yield [mask, *rest]
