"""The homogeneous space with a quality that differs from layer to layer: exact minima, order and bounds by programs.

Under one pair (tensors, rank) a layer is chosen or not, so a chain program over layers with the number of chosen layers
finds the least quality of every (number of layers, pair) exactly; costs depend on that class alone. Subsets of a class
come in order of quality from a best-first search whose bound is the program's own table.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from costmodel.arrays import Ints
from costmodel.explore.quality import QualityTable
from costmodel.space.kinds import HomogeneousSpace

FAR = 1 << 60
"""Stands for unreachable; every reachable quality is far below it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerQuality:
    """Quality of chosen layers under each possible pair of a homogeneous space, in ticks.

    Attributes:
        value: int64 (layers, pairs): what a chosen layer adds.
        free: bool (layers,): which layers can be chosen.
        stay: int64 (layers - 1,): interaction of two dense neighbours.
        enter, leave, both: int64 (layers - 1, pairs): of a dense layer and a chosen one after it, of a chosen one and a
            dense one after it, of two chosen ones.
    """

    value: Ints
    free: npt.NDArray[np.bool_]
    stay: Ints
    enter: Ints
    leave: Ints
    both: Ints

    @classmethod
    def of(cls, quality: QualityTable, space: HomogeneousSpace) -> LayerQuality:
        """The quality of a space's possible pairs."""
        pairs = space.pairs[space.valid_pairs]
        layers = len(space.free)
        value = np.zeros((layers, len(pairs)), dtype=np.int64)
        state = np.zeros_like(value)
        for place, column in enumerate(space.tensors.tolist()):
            chosen = pairs[:, 0] >> place & 1
            value += quality.value[:, column, 1 + pairs[:, 1]] * chosen
            np.maximum(state, quality.state[:, column, 1 + pairs[:, 1]] * chosen, out=state)
        at, links = np.arange(layers - 1)[:, None], quality.interactions
        return cls(
            value=value,
            free=np.any(space.free, axis=1),
            stay=links[:, 0, 0],
            enter=links[at, 0, state[1:]],
            leave=links[at, state[:-1], 0],
            both=links[at, state[:-1], state[1:]],
        )

    def least(self) -> Ints:
        """Least quality of every number of layers under every pair, int64 (layers + 1, pairs); FAR where impossible."""
        count, pairs = self.value.shape
        out = np.full((count + 1, pairs), FAR, dtype=np.int64)
        into = np.full((count + 1, pairs), FAR, dtype=np.int64)
        out[0] = 0
        for layer in range(count):
            stay = self.stay[layer - 1] if layer else 0
            leave = self.leave[layer - 1] if layer else 0
            enter = self.enter[layer - 1] if layer else 0
            both = self.both[layer - 1] if layer else 0
            left = np.minimum(out + stay, into + leave)
            if self.free[layer]:
                chosen = np.full_like(into, FAR)
                chosen[1:] = np.minimum(out[:-1] + enter, into[:-1] + both) + self.value[layer]
                into = np.where(chosen > FAR // 2, FAR, chosen)
            else:
                into = np.full_like(into, FAR)
            out = np.where(left > FAR // 2, FAR, left)
        return np.minimum(out, into)

    def ordered(self, pair: int, size: int) -> Iterator[tuple[int, int]]:
        """Sets of `size` free layers under a pair as (quality, mask over all layers), in ascending order.

        Best-first over decisions from the last layer down; the bound of a partial decision is the exact minimum of
        what is left, so every set comes when it is the best remaining one.
        """
        count = len(self.value)
        value = self.value[:, pair].tolist()
        stay = self.stay.tolist()
        enter, leave, both = (each[:, pair].tolist() for each in (self.enter, self.leave, self.both))
        table = [[[FAR, FAR] for _ in range(size + 1)] for _ in range(count)]
        for layer in range(count):
            for number in range(size + 1):
                if layer == 0:
                    table[0][number][0] = 0 if number == 0 else FAR
                    if self.free[0] and number == 1:
                        table[0][1][1] = value[0]
                    continue
                before = table[layer - 1]
                out, into = before[number]
                table[layer][number][0] = min(out + stay[layer - 1], into + leave[layer - 1], FAR)
                if self.free[layer] and number:
                    out, into = before[number - 1]
                    best = min(out + enter[layer - 1], into + both[layer - 1])
                    table[layer][number][1] = FAR if best > FAR // 2 else best + value[layer]
        # (bound, mask decided so far, lowest decided layer, its choice, layers still to choose, exact part above it)
        heap = [
            (table[count - 1][size][last], last << count - 1, count - 1, last, size, 0)
            for last in (0, 1)
            if table[count - 1][size][last] < FAR // 2
        ]
        heapq.heapify(heap)
        while heap:
            bound, mask, layer, chosen, left, above = heapq.heappop(heap)
            if layer == 0:
                yield bound, mask
                continue
            left -= chosen
            above += value[layer] if chosen else 0
            for last in (0, 1):
                link = ((stay, leave), (enter, both))[chosen][last][layer - 1]
                rest = table[layer - 1][left][last] if left >= 0 else FAR
                if rest < FAR // 2:
                    entry = (above + link + rest, mask | last << layer - 1, layer - 1, last, left, above + link)
                    heapq.heappush(heap, entry)

    def total(self) -> int:
        """Sum of the quality over all non-empty sets of free layers and all pairs, exact."""
        free = self.free.tolist()
        whole = 1 << sum(map(bool, free))
        summed: int = sum(int(row.sum()) * whole // 2 for row, able in zip(self.value, free, strict=True) if able)
        for layer in range(len(free) - 1):
            here, there, pairs = free[layer], free[layer + 1], self.value.shape[1]
            parts = [int(self.stay[layer]) * pairs]
            parts += [int(self.leave[layer].sum())] if here else []
            parts += [int(self.enter[layer].sum())] if there else []
            parts += [int(self.both[layer].sum())] if here and there else []
            summed += sum(parts) * whole // len(parts)
        return int(summed - int(self.stay.sum()) * self.value.shape[1])
