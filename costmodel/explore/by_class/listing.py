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
"""Configurations whose choices are held at a time."""


class ListedConfigurations:
    """Every possible configuration of a space as a class of one; class i is the i-th possible configuration.

    Costs are summed site by site from the tables, with interactions of quality, without use of equal layers.
    """

    def __init__(self, tables: CostTables, space: DesignSpace) -> None:
        self.space = space
        starts = range(0, space.valid_size, _BLOCK)
        stops = (min(space.valid_size, start + _BLOCK) for start in starts)
        self.batch = CostBatch.joined(
            [tables.batch(space.valid_choices(start, stop)) for start, stop in zip(starts, stops, strict=True)]
        )
        self.counts: Counts = np.full(space.valid_size, 1, dtype=object)

    def members(self, position: int) -> Iterator[int]:
        """The configuration itself."""
        yield self.space.nth_valid(position)


def listable(space: DesignSpace) -> bool:
    """Whether a space is small enough to be listed."""
    return space.valid_size <= MAX_LISTED
