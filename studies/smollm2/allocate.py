"""Ranks for all sites together: the least predicted change of loss for a number of parameters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from costmodel.decomposition.factors import Decomposition, LowRank, Site, break_even_rank
from validate.sensitivity.file import Sensitivity

Floats = NDArray[np.float64]
STEPS = 60
"""Of bisecting the price of a parameter: far below one rank's."""


def allocate(sensitivity: Sensitivity, removed: float, multiple: int = 1) -> Decomposition:
    """A rank for each site, or none where the weight stays.

    Minimises the sum of curvatures of the loss (see `LossTerms`) plus a price for each parameter; the price is bisected
    until at least the share is removed. Exact for each price; between two prices it stays above the share.

    Args:
        sensitivity: with gradients.
        removed: share of all parameters, 0 to 1.
        multiple: of ranks.
    """
    spec = sensitivity.spec
    tables: dict[Site, tuple[NDArray[np.int64], Floats, Floats]] = {}
    for site, spectra in sensitivity.sites.items():
        changes = spectra.loss_changes("whitened")
        if changes is None:
            raise ValueError("sensitivity without gradients")
        tensor = spec.tensor(site.tensor)
        limit = break_even_rank(tensor.out_features, tensor.in_features, "svd")
        ranks = np.arange(multiple, limit + 1, multiple)
        sizes = np.append(ranks * (tensor.out_features + tensor.in_features), tensor.out_features * tensor.in_features)
        losses = np.append(changes[1][ranks], 0.0)
        tables[site] = np.append(ranks, 0), losses, sizes.astype(np.float64)
    dense = sum(sizes[-1] for _, _, sizes in tables.values())
    wanted = dense - removed * spec.num_params

    def chosen(price: float) -> dict[Site, int]:
        return {site: int(np.argmin(losses + price * sizes)) for site, (_, losses, sizes) in tables.items()}

    low, high = -30.0, 5.0  # log10 of nats per parameter
    for _ in range(STEPS):
        middle = (low + high) / 2
        size = sum(tables[site][2][place] for site, place in chosen(10**middle).items())
        low, high = (low, middle) if size <= wanted else (middle, high)
    found = {site: int(tables[site][0][place]) for site, place in chosen(10**high).items()}
    return Decomposition({site: LowRank(rank) for site, rank in found.items() if rank})
