"""Costs of passes by name: those that add up over operations, sites and layers, and all of a whole pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Bools, Floats, Ints

COUNTS = ("params", "weight_bytes", "flops", "vector_flops", "hbm_bytes", "kernels", "kv_cache_bytes")
"""Whole numbers that add up. `params` and `weight_bytes` are resident, `hbm_bytes` is the traffic of a pass,
`kv_cache_bytes` what the cache holds at its end. `flops` are the matrix products', causal attention counted whole."""
TIMES = ("device_s", "lower_s", "upper_s", "busy_s", "p05_s", "p95_s", "host_s")
"""Seconds that add up: on the device, and of the host (`host_s`) that launches its work."""
_PLACES = {name: place for names in (COUNTS, TIMES) for place, name in enumerate(names)}
_SECONDS = frozenset(TIMES)


@dataclass(frozen=True, slots=True)
class Additive:
    """Costs that add up, their names on a last axis: `counts` int64 (..., COUNTS), `times` float64 (..., TIMES)."""

    counts: Ints
    times: Floats

    @classmethod
    def of(cls, shape: tuple[int, ...], **named: Ints | Floats | int) -> Additive:
        """Costs of this shape by name; those not named are 0."""
        costs = cls(np.zeros((*shape, len(COUNTS)), dtype=np.int64), np.zeros((*shape, len(TIMES))))
        for name, values in named.items():
            (costs.times if name in _SECONDS else costs.counts)[..., _PLACES[name]] = values
        return costs

    def count(self, name: str) -> Ints:
        """A cost of COUNTS."""
        column: Ints = self.counts[..., _PLACES[name]]
        return column

    def time(self, name: str) -> Floats:
        """A cost of TIMES."""
        column: Floats = self.times[..., _PLACES[name]]
        return column

    def __add__(self, other: Additive) -> Additive:
        return Additive(self.counts + other.counts, self.times + other.times)

    def __getitem__(self, index: Ints) -> Additive:
        """The costs at some places of the first axis."""
        return Additive(self.counts[index], self.times[index])

    def where(self, mask: Bools) -> Additive:
        """The costs where `mask` is true, else 0."""
        return Additive(self.counts * mask[..., None], self.times * mask[..., None])

    def repeated(self, times: int) -> Additive:
        """The costs of so many runs through the same weights, which are held once."""
        if times == 1:
            return self
        held = np.array([1 if name in ("params", "weight_bytes") else times for name in COUNTS])
        return Additive(self.counts * held, self.times * times)

    def sum(self) -> Additive:
        """Sums over the last axis of the costs' own."""
        return Additive(self.counts.sum(axis=-2), self.times.sum(axis=-2))


@dataclass(frozen=True, slots=True, kw_only=True)
class PassCosts:
    """Every cost of whole passes under the contract's names, arrays of one shape; None where it cannot be known.

    `host_s` is the time that the host takes to launch all kernels, where it runs beside the device; else 0.
    """

    params: Ints
    weight_bytes: Ints
    flops: Ints
    vector_flops: Ints
    hbm_bytes: Ints
    kernels: Ints
    kv_cache_bytes: Ints
    peak_memory_bytes: Ints
    device_s: Floats
    host_s: Floats
    latency_s: Floats
    latency_lower_s: Floats
    latency_upper_s: Floats
    latency_p05_s: Floats | None
    latency_p95_s: Floats | None
    energy_j: Floats | None

    @property
    def arithmetic_intensity(self) -> Floats:
        """FLOP per byte of traffic."""
        return np.divide(self.flops, self.hbm_bytes)
