"""Cost classes of the homogeneous space: configurations that cost the same, counted instead of listed.

All layers cost alike, so the costs of (layers S, tensors T, rank r) depend on the number of layers, on T and on r; the
peak of live activations depends besides on whether S has a layer of each live type (layers of one sliding window; the
first layer is a type of its own, since its input is the embedding's result). Sets T with the same sums are one group.
L x (groups) x R x (sets of types) classes with binomial counts stand for all (2^L - 1)(2^K - 1) R + 1 configurations.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from costmodel.arrays import Ints
from costmodel.errors import InputError
from costmodel.explore.distribution import Counts
from costmodel.explore.tables import CostBatch, CostTables
from costmodel.space.kinds import HomogeneousSpace

MAX_CLASSES = 6_000_000


class CostClasses(Protocol):
    """A partition of a space's possible configurations into classes whose members cost exactly the same."""

    @property
    def batch(self) -> CostBatch:
        """Costs of the classes, shape (classes,)."""

    @property
    def counts(self) -> Counts:
        """Members of each class, object (classes,) of Python ints."""

    def members(self, position: int) -> Iterator[int]:
        """Numbers of a class's configurations in ascending order."""


class HomogeneousClasses:
    """The cost classes of a homogeneous space; class 0 is the dense model.

    Attributes:
        layer_types: int64 (layers,): the live type of each free layer.
        size, group, present: int64 (classes - 1,): number of layers, group of pairs, mask of the types present.
        pairs_of: for each group the positions in `space.pairs`.
    """

    def __init__(self, tables: CostTables, space: HomogeneousSpace) -> None:
        self.space = space
        quality = tables.quality if tables.quality and tables.quality.alike(space) else None
        self.layer_types, kinds = live_types(tables, space.layers)
        columns, excess, values = pair_costs(tables, space, kinds)
        rows = [*columns.values(), *(each.T for each in excess.values())]
        rows += [values[0][:, None]] if quality else []
        unique, inverse = np.unique(np.concatenate(rows, axis=1), axis=0, return_inverse=True)
        first = np.zeros(len(unique), dtype=np.int64)
        first[inverse[::-1]] = np.arange(len(inverse))[::-1]
        self.pairs_of = [space.valid_pairs[each] for each in _groups(inverse.ravel(), len(unique))]
        self.ways = subset_ways(self.layer_types)
        sizes, present = np.nonzero(np.array([[ways > 0 for ways in row] for row in self.ways], dtype=np.bool_))
        if len(sizes) * len(unique) > MAX_CLASSES:
            raise InputError(
                "too many cost classes to list",
                value=len(sizes) * len(unique),
                allowed=str(MAX_CLASSES),
                hint="give fewer --ranks",
            )
        self.size, self.present = (np.repeat(each, len(unique)) for each in (sizes, present))
        self.group = np.tile(np.arange(len(unique)), len(sizes))
        members = np.array([len(pairs) for pairs in self.pairs_of], dtype=object)
        ways = np.array([self.ways[s][x] for s, x in zip(sizes.tolist(), present.tolist(), strict=True)], dtype=object)
        self.counts: Counts = np.concatenate([np.array([1], dtype=object), np.outer(ways, members).ravel()])
        lookup = first[self.group]
        self.batch = CostBatch(
            tables,
            {
                name: np.concatenate([table.base[None], table.base + self.size[:, None] * columns[name][lookup]])
                for name, table in tables.parts.items()
            },
            {name: np.append(0, highest_present(excess[name])[self.present, lookup]) for name in tables.parts},
            np.append(0, self.size * values[0][lookup]) if quality else None,
        )

    def members(self, position: int) -> Iterator[int]:
        """Numbers of a class's configurations in ascending order."""
        if position == 0:
            yield 0
            return
        at = position - 1
        pairs = self.pairs_of[self.group[at]].tolist()
        for mask in layer_masks(self.layer_types.tolist(), int(self.size[at]), int(self.present[at])):
            for pair in pairs:
                yield self.space.number(mask, pair)


def live_types(tables: CostTables, layers: Ints) -> tuple[Ints, Ints]:
    """Types of layers by the live bytes of their choices: the type of each layer, and a layer of each type."""
    rows = [table.excess[layers].reshape(len(layers), -1) for table in tables.parts.values()]
    stacked = np.concatenate(rows, axis=1) if rows else np.zeros((len(layers), 1), dtype=np.int64)
    _, first, inverse = np.unique(stacked, axis=0, return_index=True, return_inverse=True)
    return inverse.ravel(), layers[first]


def pair_costs(
    tables: CostTables, space: HomogeneousSpace, kinds: Ints
) -> tuple[dict[str, Ints], dict[str, Ints], Ints]:
    """What one chosen layer adds under each possible pair (mask of tensors, rank).

    Returns:
        For each part the columns, int64 (pairs, columns), and the excess in each layer of `kinds`, int64 (kinds,
        pairs); and the quality in each free layer, int64 (layers, pairs), zeros without a quality.
    """
    pairs = space.pairs[space.valid_pairs]
    columns = {name: np.zeros((len(pairs), len(table.base)), dtype=np.int64) for name, table in tables.parts.items()}
    excess = {name: np.zeros((len(kinds), len(pairs)), dtype=np.int64) for name in tables.parts}
    quality = np.zeros((len(space.layers), len(pairs)), dtype=np.int64)
    choice = 1 + pairs[:, 1]
    for place, column in enumerate(space.tensors.tolist()):
        chosen = (pairs[:, 0] >> place & 1).astype(np.int64)
        for name, table in tables.parts.items():
            columns[name] += table.delta[column, choice] * chosen[:, None]
            np.maximum(excess[name], table.excess[kinds[:, None], column, choice] * chosen, out=excess[name])
        if tables.quality:
            quality += tables.quality.value[space.layers[:, None], column, choice] * chosen
    return columns, excess, quality


def subset_ways(layer_types: Ints) -> list[list[int]]:
    """Sets of layers by size and by the types that occur in them: `ways[size][mask of types]`, exact.

    Inclusion and exclusion over the types: a binomial of the layers of a mask's types, minus what lacks a type.
    """
    counts = np.bincount(layer_types).tolist()
    masks = range(1 << len(counts))
    layers = [sum(count for kind, count in enumerate(counts) if mask >> kind & 1) for mask in masks]
    ways = [[0] * len(masks) for _ in range(len(layer_types) + 1)]
    for size in range(1, len(layer_types) + 1):
        for mask in masks:
            for part in masks:
                if part & ~mask == 0:
                    sign = -1 if (mask ^ part).bit_count() % 2 else 1
                    ways[size][mask] += sign * math.comb(layers[part], size)
    return ways


def highest_present(excess: Ints) -> Ints:
    """From the excess of each type, int64 (types, pairs), the highest among a mask's types, int64 (masks, pairs)."""
    highest = np.zeros((1 << len(excess), excess.shape[1]), dtype=np.int64)
    for mask, kind in itertools.product(range(1 << len(excess)), range(len(excess))):
        if mask >> kind & 1:
            np.maximum(highest[mask], excess[kind], out=highest[mask])
    return highest


def layer_masks(layer_types: Sequence[int], size: int, present: int) -> Iterator[int]:
    """Masks of `size` layers in which exactly the types of the mask `present` occur, in ascending order."""
    allowed = [position for position, kind in enumerate(layer_types) if present >> kind & 1]
    reachable = [0]
    for position in allowed:
        reachable.append(reachable[-1] | 1 << layer_types[position])

    def extend(below: int, left: int, missing: int) -> Iterator[int]:
        if left == 0:
            if missing == 0:
                yield 0
            return
        if below < left or missing & ~reachable[below] or missing.bit_count() > left:
            return
        yield from extend(below - 1, left, missing)
        position = allowed[below - 1]
        for mask in extend(below - 1, left - 1, missing & ~(1 << layer_types[position])):
            yield mask | 1 << position

    yield from extend(len(allowed), size, present)


def _groups(labels: Ints, count: int) -> list[npt.NDArray[np.int64]]:
    """Positions of each label, ascending."""
    order = np.argsort(labels, kind="stable")
    return np.split(order, np.searchsorted(labels[order], np.arange(1, count)))
