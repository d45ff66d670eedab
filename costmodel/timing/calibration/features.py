"""What the correction of a calibration depends on, computed from shapes: sizes, balance, tiles, waves, cache.

A GPU computes a matrix product in tiles, each on one core (streaming multiprocessor). Tiles that do not fill the last
wave over all cores leave cores idle, and rows or columns that do not fill a tile are computed for nothing (NVIDIA,
"Matrix Multiplication Background User's Guide": tile and wave quantisation). Logarithms to base 2 throughout.
"""

from __future__ import annotations

import numpy as np

from costmodel.arrays import Floats
from costmodel.forward.work import AttentionShape

GEMM_TILES = ((64, 64), (128, 64), (128, 128), (128, 256), (256, 128))
"""(rows, columns) of the tiles that the libraries' kernels choose among."""
_ROW_STEPS = np.array([16, 64, 128, 256])[:, None]
_COLUMN_STEPS = np.array([64, 128, 256])[:, None]
_ALIGNMENTS = np.array([8, 16])[:, None]
_QUERY_TILES = np.array([64, 128, 192])[:, None]
_KEY_TILE = 128
_TILE_ROWS = np.array([[_ROW_STEPS[:, 0].tolist().index(rows)] for rows, _ in GEMM_TILES])[:, 0]
_TILE_COLUMNS = np.array([[_COLUMN_STEPS[:, 0].tolist().index(columns)] for _, columns in GEMM_TILES])[:, 0]

GEMM_INPUTS = 8 + len(_ROW_STEPS) + len(_COLUMN_STEPS) + 2 * len(GEMM_TILES) + 2 * len(_ALIGNMENTS)
ATTENTION_INPUTS = 12 + 2 * len(_QUERY_TILES) + 3
_COPIES = 6
"""Weights that the measured tables' benchmark uses in turn."""
_CACHE_SPAN = 3.0
"""Sizes relative to the cache are told apart from 1/8 to 8 times the cache."""


def gemm_features(
    shape: Floats, balance: Floats, base_s: Floats, *, cores: int, cache_bytes: float, element_bytes: int
) -> Floats:
    """Features of (m, k) @ (k, n).

    Args:
        shape: (3, rows): m, n, k.
        balance: log2 of compute time / memory time.
        base_s: time that the base predicts.
        cores, cache_bytes: of the device.
        element_bytes: of weights and activations, which the cache is to hold.

    Returns:
        float64 (GEMM_INPUTS, rows).
    """
    m, n, k = shape
    logs = np.log2(shape)
    tile_rows, tile_columns = np.ceil(m / _ROW_STEPS), np.ceil(n / _COLUMN_STEPS)
    waves = tile_rows[_TILE_ROWS] * tile_columns[_TILE_COLUMNS] / cores
    log_waves = np.log2(waves)
    weights = logs[1] + logs[2] + np.log2(_COPIES * element_bytes / cache_bytes)
    total = np.log2((n * k + m * (n + k)) * (element_bytes / cache_bytes))
    return np.concatenate(
        [
            logs,
            [balance, np.log2(base_s)],
            log_waves,
            np.log2(np.ceil(waves)) - log_waves,
            np.log2(tile_rows * _ROW_STEPS / m),
            np.log2(tile_columns * _COLUMN_STEPS / n),
            [
                np.minimum(log_waves[2], 0),
                np.clip(weights, -_CACHE_SPAN, _CACHE_SPAN),
                np.clip(total, -_CACHE_SPAN, _CACHE_SPAN),
            ],
            n % _ALIGNMENTS != 0,
            k % _ALIGNMENTS != 0,
        ]
    )


def attention_features(
    shape: Floats, balance: Floats, base_s: Floats, bytes_moved: Floats, *, cores: int, cache_bytes: float
) -> Floats:
    """Features of softmax(Q K^T) V in one kernel.

    Args:
        shape: (6, rows), the sizes of an `AttentionShape`.
        balance, base_s, cores, cache_bytes: as for `gemm_features`.
        bytes_moved: traffic, (rows,).

    Returns:
        float64 (ATTENTION_INPUTS, rows).
    """
    sizes, logs = AttentionShape(*shape), np.log2(shape)
    log = AttentionShape(*logs)
    waves = sizes.batch * sizes.num_heads * np.ceil(sizes.q_len / _QUERY_TILES) / cores
    log_waves = np.log2(waves)
    by_head, by_group = sizes.batch * sizes.num_heads / cores, sizes.batch * sizes.num_kv_heads / cores
    return np.concatenate(
        [
            logs,
            [
                log.num_heads - log.num_kv_heads,
                log.batch + log.num_heads,
                log.batch + log.num_kv_heads,
                balance,
                np.log2(base_s),
                np.log2(bytes_moved / cache_bytes),
            ],
            log_waves,
            np.log2(np.ceil(waves)) - log_waves,
            [
                np.log2(by_group * np.ceil(sizes.kv_len / _KEY_TILE)),
                np.log2(np.ceil(by_group) / by_group),
                np.log2(np.ceil(by_head) / by_head),
            ],
        ]
    )
