"""How far measurements lie from a calibration's predictions: the 5 % and 95 % quantiles, by size of the work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spread:
    """Quantiles of ln(measured / predicted) on held-out points, in cells of two axes.

    Attributes:
        base_edges: seconds that part the cells of the first axis, the base's prediction; increasing.
        size_edges: what parts those of the second, the rows of the work (m, or batch x q_len).
        low, high: (len(base_edges) + 1, len(size_edges) + 1), low <= 0 <= high.
        outside: factor of both for shapes that were not measured. No measurement says it.
    """

    base_edges: Floats
    size_edges: Floats
    low: Floats
    high: Floats
    outside: float

    def cells(self, base_s: Floats, size: Floats) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the cells that rows fall into."""
        first = np.searchsorted(self.base_edges, base_s, side="right")
        return first, np.searchsorted(self.size_edges, size, side="right")

    def quantiles(self, base_s: Floats, size: Floats, outside: np.ndarray) -> tuple[Floats, Floats]:
        """ln of the factors from prediction to the interval's ends, rows in, rows out; `outside` is bool."""
        cells = self.cells(base_s, size)
        widen = np.where(outside, self.outside, 1.0)
        return self.low[cells] * widen, self.high[cells] * widen
