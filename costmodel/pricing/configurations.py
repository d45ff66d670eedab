"""Configurations as arrays of forms and ranks, which is what the pricer prices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Bools, Ints
from costmodel.decomposition.factors import Decomposition, LowRank
from costmodel.decomposition.sites import site_columns
from costmodel.model import ModelSpec

DENSE, SVD, TUCKER = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Configurations:
    """Ranks of many configurations: `form`, `rank_in`, `rank_out` int64 of shape (..., layers, tensors), with ranks 0
    where the form is DENSE and two equal ones where it is SVD; `kept` bool of shape (..., layers), False where the
    layer is dropped."""

    form: Ints
    rank_in: Ints
    rank_out: Ints
    kept: Bools

    @classmethod
    def of(cls, model: ModelSpec, decomposition: Decomposition) -> Configurations:
        """The arrays of one configuration, which is checked against the model.

        Raises:
            DecompositionError: when a site, rank or dropped layer is not possible in the model.
        """
        shape = (model.num_layers, len(model.tensors))
        arrays = np.zeros((3, *shape), dtype=np.int64)
        columns = site_columns(model)
        limits = [min(tensor.out_features, tensor.in_features) for tensor in model.tensors]
        rows = []
        for (layer, name), factor in decomposition.factors.items():
            column = columns.get((layer, name), -1)
            first, last = factor.ranks
            if not (column >= 0 and min(first, last) >= 1 and max(first, last) <= limits[column]):
                decomposition.check(model)
            rows.append((layer * shape[1] + column, SVD if isinstance(factor, LowRank) else TUCKER, first, last))
        if rows:
            table = np.array(rows)
            if table.dtype.kind != "i":  # a rank that is no whole number
                decomposition.check(model)
            places, *values = table.T
            arrays.reshape(3, -1)[:, places] = values
        kept = np.ones(shape[0], dtype=np.bool_)
        if decomposition.dropped:
            decomposition.check(model)
            kept[list(decomposition.dropped)] = False
        return cls(arrays[0], arrays[1], arrays[2], kept)

    @classmethod
    def stack(cls, several: Sequence[Configurations]) -> Configurations:
        """Configurations of one model along a new first axis."""
        return cls(*(np.stack([getattr(one, name) for one in several]) for name in cls.__slots__))
