"""Literal classes: every configuration of a small space by itself, whatever its costs do."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from costmodel.explore.distribution import Counts
from costmodel.explore.tables import CostBatch, CostTables
from costmodel.space.base import DesignSpace

MAX_LISTED = 1 << 20
"""Most configurations that are priced one by one."""
_BLOCK = 1 << 10


class ListedConfigurations:
    """Every possible configuration of a space as a class of one; class i is the i-th possible configuration.

    Costs are summed site by site from the tables, with interactions of quality, without use of equal layers.
    """

    def __init__(self, tables: CostTables, space: DesignSpace) -> None:
        self.space = space
        total = space.valid_size
        columns = {name: np.empty((total, len(table.base)), dtype=np.int64) for name, table in tables.parts.items()}
        excess = {name: np.empty(total, dtype=np.int64) for name in tables.parts}
        quality = np.empty(total, dtype=np.int64) if tables.quality else None
        for start in range(0, total, _BLOCK):
            stop = min(total, start + _BLOCK)
            part = tables.batch(space.valid_choices(start, stop))
            for name in tables.parts:
                columns[name][start:stop], excess[name][start:stop] = part.columns[name], part.excess[name]
            if quality is not None and part.quality_ticks is not None:
                quality[start:stop] = part.quality_ticks
        self.batch = CostBatch(tables, columns, excess, quality)
        self.counts: Counts = np.full(total, 1, dtype=object)

    def members(self, position: int) -> Iterator[int]:
        """The configuration itself."""
        yield self.space.nth_valid(position)


def listable(space: DesignSpace) -> bool:
    """Whether a space is small enough to be listed."""
    return space.valid_size <= MAX_LISTED
