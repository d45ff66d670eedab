"""Cost classes of the homogeneous space over different layers: how many layers of each stratum, which names, what rank.

Layers with the same tensors are a stratum. Under one pair (names, rank) a configuration's costs depend on the number of
chosen layers of each stratum alone, the product of binomials ways each; pairs that cost the same in every stratum of a
block are one group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Ints
from costmodel.errors import InputError
from costmodel.explore.by_class.subsets import grouped_subsets
from costmodel.explore.distribution import Counts
from costmodel.explore.tables import CostBatch, CostTables
from costmodel.space.mixed import Block, MixedSpace

MAX_CLASSES = 6_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Strata:
    """Classes of one block.

    Attributes:
        of_layer: for each pattern of the block the stratum of each of its layers.
        sizes: int64 (numbers, strata): layers chosen of each stratum, all ways that choose some of every pattern.
        ways: object (numbers,): sets of layers of these sizes.
        pairs_of: for each group of pairs that cost the same the positions in the block's `pairs`.
        columns, excess, quality: of each group, by part: what a chosen layer of each stratum adds, int64 (groups,
            strata, columns); the most live bytes beyond the floor, int64 (groups, strata); int64 (groups, strata).
    """

    of_layer: tuple[tuple[int, ...], ...]
    sizes: Ints
    ways: Counts
    pairs_of: list[Ints]
    columns: dict[str, Ints]
    excess: dict[str, Ints]
    quality: Ints

    @classmethod
    def of(cls, tables: CostTables, space: MixedSpace, block: Block) -> _Strata:
        """Sums over the tensors that each stratum's layers have of each possible pair's names."""
        places: dict[bytes, int] = {}
        of_layer = tuple(
            tuple(places.setdefault(space.free[layer].tobytes(), len(places)) for layer in layers.tolist())
            for layers in block.layers
        )
        firsts = [
            next(layers[at] for layers, row in zip(block.layers, of_layer, strict=True) for at in _at(row, place))
            for place in range(len(places))
        ]
        mask, candidate = block.pairs[block.valid].T
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
        sizes, ways = _numbers(of_layer, len(firsts))
        return cls(
            of_layer=of_layer,
            sizes=sizes,
            ways=ways,
            pairs_of=np.split(block.valid[order], starts),
            columns={name: each[first] for name, each in columns.items()},
            excess={name: each[first] for name, each in excess.items()},
            quality=quality[first],
        )

    def totals(self, added: Ints) -> Ints:
        """Sums over strata of the sizes x what a layer adds, int64 (numbers x groups, ...)."""
        summed: Ints = np.einsum("ns,gs...->ng...", self.sizes, added)
        return summed.reshape(-1, *summed.shape[2:])

    def peaks(self, excess: Ints) -> Ints:
        """The most over the strata with a chosen layer, int64 (numbers x groups,)."""
        most: Ints = ((self.sizes > 0)[:, None] * excess).max(axis=-1)
        return most.ravel()

    @property
    def counts(self) -> Counts:
        """Configurations of each class, object (numbers x groups,)."""
        pairs = np.array([len(members) for members in self.pairs_of], dtype=object)
        return np.outer(self.ways, pairs).ravel()


class MixedClasses:
    """The cost classes of a mixed homogeneous space; class 0 is the dense model.

    Raises:
        InputError: when there are too many.
    """

    def __init__(self, tables: CostTables, space: MixedSpace) -> None:
        self.space = space
        needed = sum(_classes(space, block) for block in space.blocks)
        if needed > MAX_CLASSES:
            raise InputError(
                "too many cost classes to list",
                value=needed,
                allowed=str(MAX_CLASSES),
                hint="give fewer --ranks, keep some tensors dense, or use --space per-layer or per-site",
            )
        self._strata = [_Strata.of(tables, space, block) for block in space.blocks]
        self._starts = np.cumsum([1, *(len(each.sizes) * len(each.pairs_of) for each in self._strata)])
        graded = tables.quality is not None and tables.quality.alike(space)
        columns = {
            name: np.concatenate(
                [table.base[None], *(table.base + each.totals(each.columns[name]) for each in self._strata)]
            )
            for name, table in tables.parts.items()
        }
        excess = {
            name: np.concatenate(
                [np.zeros(1, dtype=np.int64), *(each.peaks(each.excess[name]) for each in self._strata)]
            )
            for name in tables.parts
        }
        quality = [np.zeros(1, dtype=np.int64), *(each.totals(each.quality) for each in self._strata)]
        self.batch = CostBatch(tables, columns, excess, np.concatenate(quality) if graded else None)
        self.counts: Counts = np.concatenate([np.array([1], dtype=object), *(each.counts for each in self._strata)])

    def members(self, position: int) -> Iterator[int]:
        """Numbers of a class's configurations in ascending order."""
        if position == 0:
            yield 0
            return
        place = int(np.searchsorted(self._starts, position, side="right")) - 1
        strata = self._strata[place]
        number, group = divmod(position - int(self._starts[place]), len(strata.pairs_of))
        pairs = strata.pairs_of[group].tolist()
        for masks in _masks(strata.of_layer, strata.sizes[number].tolist()):
            for pair in pairs:
                yield self.space.number(place, masks, pair)


def _at(row: Sequence[int], place: int) -> Iterator[int]:
    return (at for at, stratum in enumerate(row) if stratum == place)


def _classes(space: MixedSpace, block: Block) -> int:
    """Classes of a block at most, before pairs are grouped."""
    numbers = 1
    for layers in block.layers:
        _, sizes = np.unique(space.free[layers], axis=0, return_counts=True)
        numbers *= math.prod(size + 1 for size in sizes.tolist()) - 1
    return numbers * len(block.valid)


def _numbers(of_layer: Sequence[Sequence[int]], strata: int) -> tuple[Ints, Counts]:
    """All numbers of layers of each stratum that choose some layer of every pattern, int64 (numbers, strata), and how
    many sets of layers have them."""
    most = [sum(row.count(place) for row in of_layer) for place in range(strata)]
    grid = np.indices([size + 1 for size in most]).reshape(strata, -1)
    kept = np.ones(grid.shape[1], dtype=np.bool_)
    for row in of_layer:
        kept &= grid[sorted(set(row))].any(axis=0)
    sizes = np.ascontiguousarray(grid[:, kept].T)
    ways: Counts = np.ones(len(sizes), dtype=object)
    for place, size in enumerate(most):
        ways = ways * np.array([math.comb(size, number) for number in range(size + 1)], dtype=object)[sizes[:, place]]
    return sizes, ways


def _masks(of_layer: Sequence[Sequence[int]], sizes: Sequence[int]) -> Iterator[list[int]]:
    """Masks over the layers of each pattern with these sizes in each stratum, in ascending order, the first pattern the
    most significant."""
    if not of_layer:
        yield []
        return
    row = of_layer[0]
    own = [size if place in row else 0 for place, size in enumerate(sizes)]
    for mask in grouped_subsets(row, own):
        for rest in _masks(of_layer[1:], sizes):
            yield [mask, *rest]
