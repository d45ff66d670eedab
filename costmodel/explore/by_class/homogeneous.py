"""Cost classes of the homogeneous space: configurations that cost the same, counted instead of listed.

All layers cost alike, so the costs of (layers S, tensors T, rank r) depend on the number of layers, on T and on r.
Pairs (T, r) with the same costs are one group: L x (groups) classes with binomial counts stand for all
(2^L - 1)(2^K - 1) R + 1 configurations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Ints
from costmodel.errors import InputError
from costmodel.explore.by_class.subsets import grouped_subsets
from costmodel.explore.distribution import Counts
from costmodel.explore.tables import CostBatch, CostTables
from costmodel.space.kinds import HomogeneousSpace

MAX_CLASSES = 6_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairCosts:
    """What one chosen layer adds under each possible pair (mask of tensors, rank) of a homogeneous space.

    Attributes:
        tables: prices; peaks of live bytes that are asked for must be alike in all layers (`CostTables.peaks_alike`).
        columns: for each part the sums, int64 (pairs, columns).
        excess: for each part the live bytes beyond the floor, int64 (pairs,).
        quality: int64 (pairs,), that of the first free layer; zeros without a quality.
    """

    tables: CostTables
    columns: dict[str, Ints]
    excess: dict[str, Ints]
    quality: Ints

    @classmethod
    def of(cls, tables: CostTables, space: HomogeneousSpace) -> PairCosts:
        """Sums and maxima over the tensors of each pair."""
        mask, candidate = space.pairs[space.valid_pairs].T
        choice = 1 + candidate
        columns = {name: np.zeros((len(mask), len(table.base)), dtype=np.int64) for name, table in tables.parts.items()}
        excess = {name: np.zeros(len(mask), dtype=np.int64) for name in tables.parts}
        quality, layer = np.zeros(len(mask), dtype=np.int64), space.layers[0]
        for bit, tensor in enumerate(space.tensors.tolist()):
            chosen = mask >> bit & 1
            for name, table in tables.parts.items():
                columns[name] += table.delta[tensor, choice] * chosen[:, None]
                np.maximum(excess[name], table.excess[layer, tensor, choice] * chosen, out=excess[name])
            if tables.quality:
                quality += tables.quality.value[layer, tensor, choice] * chosen
        return cls(tables=tables, columns=columns, excess=excess, quality=quality)

    def batch(self, size: Ints, pair: Ints, quality_ticks: Ints | None) -> CostBatch:
        """Costs of the dense model and, after it, of classes of `size` layers under `pair`, int64 (classes,) each."""
        columns = {
            name: np.concatenate([table.base[None], table.base + size[:, None] * self.columns[name][pair]])
            for name, table in self.tables.parts.items()
        }
        excess = {name: np.append(0, added[pair]) for name, added in self.excess.items()}
        return CostBatch(self.tables, columns, excess, quality_ticks)


class HomogeneousClasses:
    """The cost classes of a homogeneous space; class 0 is the dense model.

    Attributes:
        size, group: int64 (classes - 1,): number of layers, group of pairs.
        pairs_of: for each group the positions in `space.pairs`.
    """

    def __init__(self, tables: CostTables, space: HomogeneousSpace) -> None:
        self.space = space
        costs = PairCosts.of(tables, space)
        graded = tables.quality is not None and tables.quality.alike(space)
        rows = [*costs.columns.values(), *(added[:, None] for added in costs.excess.values())]
        rows += [costs.quality[:, None]] if graded else []
        _, first, inverse = np.unique(np.concatenate(rows, axis=1), axis=0, return_index=True, return_inverse=True)
        order, layers = np.argsort(inverse.ravel(), kind="stable"), len(space.layers)
        starts = np.searchsorted(inverse.ravel()[order], np.arange(1, len(first)))
        self.pairs_of = np.split(space.valid_pairs[order], starts)
        if layers * len(first) > MAX_CLASSES:
            raise InputError(
                "too many cost classes to list",
                value=layers * len(first),
                allowed=str(MAX_CLASSES),
                hint="give fewer --ranks",
            )
        self.size = np.repeat(np.arange(1, layers + 1), len(first))
        self.group = np.tile(np.arange(len(first)), layers)
        ways = np.array([math.comb(layers, size) for size in range(1, layers + 1)], dtype=object)
        pairs = np.array([len(members) for members in self.pairs_of], dtype=object)
        self.counts: Counts = np.concatenate([np.array([1], dtype=object), np.outer(ways, pairs).ravel()])
        pair = first[self.group]
        self.batch = costs.batch(self.size, pair, np.append(0, self.size * costs.quality[pair]) if graded else None)

    def members(self, position: int) -> Iterator[int]:
        """Numbers of a class's configurations in ascending order."""
        if position == 0:
            yield 0
            return
        pairs = self.pairs_of[self.group[position - 1]].tolist()
        for mask in grouped_subsets([0] * len(self.space.layers), [int(self.size[position - 1])]):
            for pair in pairs:
                yield self.space.number(mask, pair)
