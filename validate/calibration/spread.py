"""Fits 90 % intervals to held-out residuals, cell by cell, each cell leaning on its neighbours where it is small."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from costmodel.timing.calibration.spread import Spread

Floats = npt.NDArray[np.float64]
_QUANTILES = (0.05, 0.95)
SIZE_EDGES = (16.5, 64.5, 256.5, 1100.0, 4200.0)
"""Rows of the work; between the sizes that kernels are chosen by."""
BASE_CELLS = 6
WANTED = 60
"""Points for which a cell's own quantiles count as much as those of all points."""
OUTSIDE = 2.0
"""Factor of the interval beyond what was measured: a judgement, not a measurement."""


def ends(residual: Floats) -> Floats:
    """The 5 % and the 95 % quantile (2,), as a further point falls below them with these odds.

    That is at rank p (n + 1) of n points: the next one falls into each of the n + 1 gaps between them with equal odds
    (Weibull's plotting positions; type 6 of Hyndman and Fan, The American Statistician 50, 1996). numpy's default lies
    within, and leaves out more the fewer points there are.
    """
    return np.asarray(np.quantile(residual, _QUANTILES, method="weibull"))


def no_spread() -> Spread:
    """A spread that says nothing, while a form is being fitted."""
    nothing = np.zeros((1, 1))
    empty = np.zeros(0)
    return Spread(base_edges=empty, size_edges=empty, low=nothing, high=nothing, outside=1.0)


def fit_spread(base_s: Floats, size: Floats, residual: Floats) -> Spread:
    """The spread of ln(measured / predicted) on held-out points, each argument of shape (points,)."""
    cuts = np.linspace(0, 1, BASE_CELLS + 1)[1:-1]
    base_edges = np.unique(np.array([float(f"{each:.3g}") for each in np.quantile(base_s, cuts)]))
    size_edges = np.array([edge for edge in SIZE_EDGES if size.min() < edge < size.max()])
    empty = Spread(
        base_edges=base_edges, size_edges=size_edges, low=np.zeros((1, 1)), high=np.zeros((1, 1)), outside=OUTSIDE
    )
    shape = (len(base_edges) + 1, len(size_edges) + 1)
    first, second = empty.cells(base_s, size)
    low, high = np.empty(shape), np.empty(shape)
    overall = ends(residual)
    for cell in np.ndindex(shape):
        own = residual[(first == cell[0]) & (second == cell[1])]
        near = residual[(np.abs(first - cell[0]) <= 1) & (np.abs(second - cell[1]) <= 1)]
        quantiles = overall
        for points in (near, own):
            if len(points):
                trust = len(points) / (len(points) + WANTED)
                quantiles = trust * ends(points) + (1 - trust) * quantiles
        low[cell], high[cell] = min(quantiles[0], 0.0), max(quantiles[1], 0.0)
    return Spread(base_edges=base_edges, size_edges=size_edges, low=low, high=high, outside=OUTSIDE)
