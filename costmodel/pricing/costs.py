"""Costs of passes by name: those that add up over operations, sites and layers, and all of a whole pass."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from costmodel.arrays import Bools, Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Additive:
    """Costs that add up, arrays of one shape: counts int64, seconds float64: on the device, and of the
    host (`host_s`) that launches its work.

    `params` and `weight_bytes` are resident, `hbm_bytes` is the traffic of a pass, `kv_cache_bytes` what the cache
    holds at its end. `flops` are the matrix products', causal attention counted whole.
    """

    params: Ints
    weight_bytes: Ints
    flops: Ints
    vector_flops: Ints
    hbm_bytes: Ints
    kernels: Ints
    kv_cache_bytes: Ints
    device_s: Floats
    lower_s: Floats
    upper_s: Floats
    busy_s: Floats
    p05_s: Floats
    p95_s: Floats
    host_s: Floats

    def __add__(self, other: Additive) -> Additive:
        return Additive(**{name: getattr(self, name) + getattr(other, name) for name in NAMES})

    def __getitem__(self, index: Ints) -> Additive:
        """The costs at some places of the first axis."""
        return Additive(**{name: getattr(self, name)[index] for name in NAMES})

    def where(self, mask: Bools) -> Additive:
        """The costs where `mask` is true, else 0."""
        return Additive(**{name: getattr(self, name) * mask for name in NAMES})

    def sum(self) -> Additive:
        """Sums over the last axis."""
        return Additive.unstack(*(array.sum(axis=-2) for array in self.stack()))

    def stack(self) -> tuple[Ints, Floats]:
        """Counts and seconds as one array each, the names on a last axis of their own."""
        return (
            np.stack([getattr(self, name) for name in COUNTS], axis=-1),
            np.stack([getattr(self, name) for name in TIMES], axis=-1),
        )

    @classmethod
    def unstack(cls, counts: Ints, times: Floats) -> Additive:
        """The inverse of `stack`."""
        named = dict(zip(COUNTS, np.moveaxis(counts, -1, 0), strict=True))
        return cls(**named, **dict(zip(TIMES, np.moveaxis(times, -1, 0), strict=True)))


NAMES = tuple(field.name for field in fields(Additive))
TIMES = tuple(name for name in NAMES if name.endswith("_s"))
"""What is in seconds."""
COUNTS = tuple(name for name in NAMES if name not in TIMES)
"""What is a whole number."""


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
