"""Configurations as arrays of forms and ranks, which is what the pricer prices."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Bools, Ints
from costmodel.decomposition.factors import Decomposition, LowRank, Tucker
from costmodel.decomposition.sites import site_places
from costmodel.model import ModelSpec

DENSE, SVD, TUCKER = 0, 1, 2
_FORM = {LowRank: SVD, Tucker: TUCKER}


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
        if decomposition.factors:
            known, factors = site_places(model), decomposition.factors.values()
            places = np.array([known.get(site, -1) for site in decomposition.factors])
            ranks = np.array([rank for factor in factors for rank in factor.ranks]).reshape(-1, 2)
            if places.min() < 0 or not _possible(ranks, _limits(model)[places % shape[1]]):
                decomposition.check(model)
            table = np.empty((3, len(places)), dtype=np.int64)
            table[0] = [_FORM[type(factor)] for factor in factors]
            table[1:] = ranks.T
            arrays.reshape(3, -1)[:, places] = table
        kept = np.ones(shape[0], dtype=np.bool_)
        if decomposition.dropped:
            decomposition.check(model)
            kept[list(decomposition.dropped)] = False
        return cls(arrays[0], arrays[1], arrays[2], kept)

    @classmethod
    def stack(cls, several: Sequence[Configurations]) -> Configurations:
        """Configurations of one model along a new first axis."""
        return cls(*(np.stack([getattr(one, name) for one in several]) for name in cls.__slots__))


@functools.lru_cache(maxsize=64)
def _limits(model: ModelSpec) -> Ints:
    """The largest rank of each tensor, int64 (tensors,)."""
    return np.array([min(tensor.out_features, tensor.in_features) for tensor in model.tensors], dtype=np.int64)


def _possible(ranks: Ints, limits: Ints) -> bool:
    """Whether all ranks, of shape (sites, 2), are whole numbers of at least 1 and none is above its site's limit."""
    return ranks.dtype.kind == "i" and bool(ranks.min() >= 1 and (ranks <= limits[:, None]).all())
