"""What others measured on the same device: another laboratory's times, or another stack's, beside those fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from costmodel.arrays import Floats
from costmodel.timing.columns import Z90

Differs = Literal["laboratory", "stack"]
DIFFERS: tuple[Differs, ...] = ("laboratory", "stack")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Elsewhere:
    """How the times of another table lie about a form's predictions.

    Attributes:
        differs: what the tables differ in.
        source: whose table, and what it was measured on.
        size_edges: what parts the cells by rows of the work (m of a GEMM, or batch x q_len); increasing.
        bias, sd: mean and standard deviation of ln(measured there / predicted) in each cell, (len(size_edges) + 1,).
    """

    differs: Differs
    source: str
    size_edges: Floats
    bias: Floats
    sd: Floats

    def quantiles(self, size: Floats) -> tuple[Floats, Floats]:
        """ln of the factors from prediction to the 5 % and the 95 % quantile there, rows in, rows out."""
        cells = np.searchsorted(self.size_edges, size, side="right")
        return self.bias[cells] - Z90 * self.sd[cells], self.bias[cells] + Z90 * self.sd[cells]


def widest(
    here: tuple[Floats, Floats], elsewhere: Sequence[Elsewhere], size: Floats, widen: Floats
) -> tuple[Floats, Floats]:
    """ln of the factors to the ends of the interval that holds this table's 90 % and every other one's.

    `widen` is the factor on the others' where no table has the shape; it is in `here` already. Which laboratory or
    stack a user's device takes after is not known, so that none is left out.
    """
    low, high = here
    for each in elsewhere:
        other_low, other_high = each.quantiles(size)
        low, high = np.minimum(low, widen * other_low), np.maximum(high, widen * other_high)
    return low, high
