"""A model of GEMM kernels with twenty parameters: what a few hundred points can say about a device.

A library chooses among tile sizes and among splits of k; each choice takes whole waves over the cores, and the fastest
is taken (NVIDIA, "Matrix Multiplication Background User's Guide"; splits of k: arXiv 2301.03598). Used to teach
the correction what lies between the points, not when a calibration is applied.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from validate.calibration.tables import Floats

TILES = ((16, 64), (32, 64), (64, 64), (64, 128), (128, 64), (128, 128), (128, 256), (256, 128))
SPLITS = (1, 2, 3, 4, 6, 8, 16)
_K_STEP = 32
"""Depth of one step of a kernel's loop."""
_PULL = 0.02
STEPS = 80
"""Most steps of the search."""
_OUTLIER = 0.1
_START = {
    "bandwidth": 0.7,
    "fixed_us": 3.0,
    "overlap": 1.5,
    "idle": 0.05,
    "reduce_us": 1.0,
    "wave_us": 0.5,
    "partial": 0.5,
    "warm": 0.5,
    "warm_size": 1.0,
    "reduce_bytes": 0.5,
}
_EFFICIENCY = (0.1, 0.2, 0.4, 0.5, 0.5, 0.7, 0.8, 0.8)
"""Where the search for each tile's share of peak begins."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TileModel:
    """Fitted parameters, ln of each, in the order of _START and then of TILES; `flops_per_s` and `bytes_per_s` are what
    efficiencies are shares of."""

    logs: Floats
    flops_per_s: float
    bytes_per_s: float
    cores: int
    cache_bytes: float
    element_bytes: int

    def seconds(self, shape: Floats) -> Floats:
        """Time of (3, rows) of m, n, k."""
        return _micros(self.logs, self, shape) * 1e-6


def fit_tiles(
    shape: Floats,
    seconds: Floats,
    *,
    flops_per_s: float,
    bytes_per_s: float,
    cores: int,
    cache_bytes: float,
    element_bytes: int,
) -> TileModel:
    """Fit to measured GEMMs by robust least squares on ln(predicted / measured), pulled slightly towards the start.

    Args:
        shape: (3, rows) of m, n, k.
        seconds: (rows,).
        flops_per_s, bytes_per_s: peaks, or anything near them.
        cores, cache_bytes, element_bytes: of the device and the type measured.
    """
    start = np.log([*_START.values(), *_EFFICIENCY])
    empty = TileModel(
        logs=start,
        flops_per_s=flops_per_s,
        bytes_per_s=bytes_per_s,
        cores=cores,
        cache_bytes=cache_bytes,
        element_bytes=element_bytes,
    )
    micros = seconds * 1e6

    def residuals(logs: Floats) -> Floats:
        away = logs - start
        return np.concatenate([np.log(_micros(logs, empty, shape) / micros), _PULL * away])

    found = least_squares(
        residuals, start, bounds=(start - 6, start + 6), loss="soft_l1", f_scale=_OUTLIER, max_nfev=STEPS
    )
    return TileModel(
        logs=found.x,
        flops_per_s=flops_per_s,
        bytes_per_s=bytes_per_s,
        cores=cores,
        cache_bytes=cache_bytes,
        element_bytes=element_bytes,
    )


def _micros(logs: Floats, device: TileModel, shape: Floats) -> Floats:
    """Microseconds of the fastest choice."""
    values = np.exp(logs)
    part = dict(zip(_START, values, strict=False))
    overlap = 1 + part["overlap"]
    m, n, k = shape
    size = device.element_bytes
    per_core = device.flops_per_s / device.cores * 1e-6
    bandwidth = device.bytes_per_s * 1e-6 * part["bandwidth"]
    weights = size * n * k
    cold = 1 / (1 + (device.cache_bytes / 6 * part["warm_size"] / weights) ** 4)
    moved = size * m * (n + k) + weights * (cold + (1 - cold) * part["warm"])
    best = np.full(m.shape, np.inf)
    for (rows, columns), efficiency in zip(TILES, values[len(_START) :], strict=True):
        tiles = np.ceil(m / rows) * np.ceil(n / columns)
        for split in SPLITS:
            waves = tiles * split / device.cores
            whole = np.floor(waves)
            last = waves - whole
            taken = np.where(whole < 1, 1.0, whole + np.where(last > 0, last ** min(part["partial"], 1e3), 0.0))
            depth = np.maximum(np.ceil(k / split / _K_STEP) * _K_STEP, _K_STEP)
            compute = taken * (2 * rows * columns * depth / (per_core * efficiency) + part["wave_us"])
            share = np.minimum(waves, 1.0)
            memory = moved / bandwidth * (1 + part["idle"] * (1 - share) / share)
            top = np.maximum(compute, memory)
            time = top * (1 + (np.minimum(compute, memory) / top) ** overlap) ** (1 / overlap)
            if split > 1:
                time = time + part["reduce_us"] + part["reduce_bytes"] * 2 * size * m * n * split / bandwidth
            best = np.minimum(best, time)
    return np.asarray(best + part["fixed_us"])
