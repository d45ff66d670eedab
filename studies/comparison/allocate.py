"""Ranks for all sites together, and layers left out: the least predicted loss for a number of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from costmodel.decomposition.factors import Decomposition, LowRank, Site, break_even_rank
from costmodel.errors import InputError
from costmodel.model import ModelSpec
from validate.plans.case import params_of
from validate.sensitivity.file import Sensitivity

Floats = NDArray[np.float64]
STEPS = 60
"""Of bisecting the price of a parameter: far below one rank's."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choices:
    """What may become of one weight.

    Attributes:
        ranks: int64 (choices); the last is 0, the weight left as it is.
        losses, sizes: float64 (choices), predicted loss and parameters.
    """

    ranks: NDArray[np.int64]
    losses: Floats
    sizes: Floats


def curvatures(sensitivity: Sensitivity) -> dict[Site, Floats]:
    """Predicted loss of each rank from 0 to k of whitened factors: the curvature of the loss (see `LossTerms`).

    Raises:
        ValueError: for a sensitivity without gradients.
    """
    found: dict[Site, Floats] = {}
    for site, spectra in sensitivity.sites.items():
        changes = spectra.loss_changes("whitened")
        if changes is None:
            raise ValueError("sensitivity without gradients")
        found[site] = changes[1]
    return found


def site_choices(spec: ModelSpec, site: Site, losses: Floats, multiple: int = 1) -> Choices:
    """Ranks below break-even, and the weight itself.

    Args:
        losses: of each rank from 0 to k.
        multiple: of ranks.
    """
    tensor = spec.tensor(site.tensor, site.layer)
    limit = break_even_rank(tensor.out_features, tensor.in_features, "svd")
    ranks = np.arange(multiple, limit + 1, multiple)
    sizes = np.append(ranks * (tensor.out_features + tensor.in_features), tensor.out_features * tensor.in_features)
    return Choices(ranks=np.append(ranks, 0), losses=np.append(losses[ranks], 0.0), sizes=sizes.astype(np.float64))


def allocate(
    spec: ModelSpec,
    losses: Mapping[Site, Floats],
    removed: float,
    *,
    drops: Mapping[int, float] | None = None,
    multiple: int = 1,
) -> Decomposition:
    """A rank for each site, or none where the weight stays; a layer may be left out instead.

    Minimises the sum of predicted losses plus a price for each parameter; the price is bisected until at least the
    share is removed. Exact for each price; between two prices it stays above the share. Losses of sites and of layers
    are added up: what several dropped layers, or a dropped one and ranks behind it, do to each other is not in it.

    Args:
        losses: of each site, of each rank from 0 to k.
        removed: share of all parameters, 0 to 1.
        drops: loss without each layer alone, in the unit of `losses`; None to keep every layer.
        multiple: of ranks.

    Raises:
        InputError: when more is to be removed than can be.
    """
    tables = {site: site_choices(spec, site, of_site, multiple) for site, of_site in losses.items()}
    wanted = (1 - removed) * spec.num_params

    def chosen(price: float) -> Decomposition:
        places = {site: int(np.argmin(table.losses + price * table.sizes)) for site, table in tables.items()}
        gone = {
            layer
            for layer, loss in (drops or {}).items()
            if loss
            < _cost(spec, layer, {s: (tables[s], place) for s, place in places.items() if s.layer == layer}, price)
        }
        ranks = {site: int(tables[site].ranks[place]) for site, place in places.items() if site.layer not in gone}
        return Decomposition({site: LowRank(rank) for site, rank in ranks.items() if rank}, dropped=frozenset(gone))

    low, high = -30.0, 5.0  # log10 of loss per parameter
    if params_of(spec, chosen(10**high)) > wanted:
        raise InputError("more is to be removed than ranks of 1 leave", value=removed)
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if params_of(spec, chosen(10**middle)) <= wanted else (middle, high)
    return chosen(10**high)


def _cost(spec: ModelSpec, layer: int, sites: Mapping[Site, tuple[Choices, int]], price: float) -> float:
    """Loss of a layer that stays, and the price of all its parameters, biases and norms included."""
    rest = float(spec.layer_params(layer))
    loss = 0.0
    for table, place in sites.values():
        rest += float(table.sizes[place] - table.sizes[-1])
        loss += float(table.losses[place])
    return loss + price * rest
