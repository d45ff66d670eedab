"""The distribution of a cost over configurations that come in classes, with counts of any size."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.arrays import Floats, Ints

BINS = 32
ALL = ("min", "max", "mean", "quantiles", "histogram")
QUANTILES = ("0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99")
Counts = npt.NDArray[np.object_]
"""Exact numbers of configurations: Python ints, which go beyond 64 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """How one cost is spread over all configurations.

    Attributes:
        minimum, maximum, mean: in the cost's unit.
        quantiles: for each probability q the smallest value that at least q of the configurations do not exceed
            (NumPy's method "inverted_cdf").
        edges: of the histogram's bins, equally wide; a bin holds its lower edge, the last one its upper edge too.
        counts: configurations in each bin.
        bin_error: how far a value can be from where it is counted in quantiles and histogram; 0 where exact.
        sampled: size of the sample that quantiles and histogram are of, 0 where they are of all configurations.
        exact: which of the numbers are those of all configurations, by their JSON keys.
        share_error: how far a share of the configurations can be from the sample's, with the sample's confidence.
        quantile_bounds: for each probability what the quantile is between with that confidence, where sampled.
        mean_standard_error: of a sampled mean; 0 where the mean is exact.
    """

    minimum: float
    maximum: float
    mean: float
    quantiles: dict[str, float]
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    sampled: int = 0
    bin_error: float = 0.0
    exact: tuple[str, ...] = ALL
    share_error: float = 0.0
    quantile_bounds: dict[str, tuple[float, float]] | None = None
    mean_standard_error: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "min": self.minimum,
            "max": self.maximum,
            "mean": self.mean,
            "quantiles": self.quantiles,
            "histogram": {"edges": list(self.edges), "counts": list(self.counts)},
            "sampled": self.sampled or None,
            "bin_error": self.bin_error,
            "exact": list(self.exact),
            "share_error": self.share_error,
            "quantile_bounds": self.quantile_bounds and {q: list(ends) for q, ends in self.quantile_bounds.items()},
            "mean_standard_error": self.mean_standard_error,
        }


def histogram_edges(minimum: float, maximum: float, bins: int = BINS) -> Floats:
    """Edges of equally wide bins from the least to the largest value; one bin where there is one value.

    Bins narrower than the resolution of a float are joined.
    """
    if not maximum > minimum:
        return np.array([minimum, maximum], dtype=np.float64)
    edges = np.linspace(minimum, maximum, bins + 1)
    return np.unique(edges)


def distribution(values: Floats | Ints, counts: Counts) -> Distribution:
    """The exact distribution of values with their numbers of configurations; the mean is correctly rounded."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    below: Counts = np.cumsum(counts[order])
    total = below[-1]
    edges = histogram_edges(float(ordered[0]), float(ordered[-1]))
    places = np.searchsorted(ordered, edges[1:-1], side="left")
    cumulated = [0, *(below[place - 1] if place else 0 for place in places.tolist()), total]
    return Distribution(
        minimum=ordered[0].item(),
        maximum=ordered[-1].item(),
        mean=weighted_mean(values, counts, total),
        quantiles={q: ordered[_reach(below, q, total)].item() for q in QUANTILES},
        edges=tuple(edges.tolist()),
        counts=tuple(int(b - a) for a, b in itertools.pairwise(cumulated)),
    )


def weighted_mean(values: Floats | Ints, counts: Counts, total: int) -> float:
    """Mean of values with exact counts, correctly rounded: a float is an integer times a power of two."""
    mantissas, exponents = np.frexp(np.asarray(values, dtype=np.float64))
    lowest = int(exponents.min())
    units = np.ldexp(mantissas, 53).astype(np.int64).astype(object) << (exponents - lowest).astype(object)
    return float(Fraction(int((units * counts).sum()), total) * Fraction(2) ** (lowest - 53))


def _reach(below: Counts, q: str, total: int) -> int:
    """First position whose cumulated count is at least q of the total."""
    wanted = max(1, math.ceil(Fraction(q) * total))
    low, high = 0, len(below) - 1
    while low < high:
        middle = (low + high) // 2
        if below[middle] >= wanted:
            high = middle
        else:
            low = middle + 1
    return low
