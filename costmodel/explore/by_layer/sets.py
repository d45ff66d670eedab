"""The configurations of a homogeneous space by number of layers, tensors and rank, each class with its least damage."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from costmodel.explore.by_class.homogeneous import PairCosts
from costmodel.explore.by_layer.quality import FAR, LayerQuality
from costmodel.explore.tables import CostTables
from costmodel.space.kinds import HomogeneousSpace


class LayerSets:
    """Classes (number of layers, pair) with the least quality of each; class 0 is dense.

    Attributes:
        size, pair: int64 (classes - 1,): number of layers, position among the possible pairs.
        batch: costs of the classes, with the least quality of each.
    """

    def __init__(self, tables: CostTables, space: HomogeneousSpace, quality: LayerQuality) -> None:
        self.space, self.quality = space, quality
        least = quality.least()[1:]
        size, self.pair = np.argwhere(least < FAR).T
        self.size = size + 1
        ticks = np.append(int(quality.stay.sum()), least[size, self.pair])
        self.batch = PairCosts.of(tables, space).batch(self.size, self.pair, ticks)

    def members(self, position: int) -> Iterator[tuple[int, int]]:
        """Configurations of a class as (quality in ticks, number), in ascending order."""
        if position == 0:
            yield int(self.quality.stay.sum()), 0
            return
        pair, size = int(self.pair[position - 1]), int(self.size[position - 1])
        layers = self.space.layers.tolist()
        for ticks, mask in self.quality.ordered(pair, size):
            compact = sum(1 << bit for bit, layer in enumerate(layers) if mask >> layer & 1)
            yield ticks, self.space.number(compact, int(self.space.valid_pairs[pair]))
