"""Corrections from a few hundred points: fits that need few teach the form's network what lies between.

For GEMMs the mean of (1) a Gaussian process on the base, (2) one on the tile model and (3) networks on the tile model
predicts shapes all over the measured range, for attention a process on the base alone; the network learns from those
predictions.
"""

from __future__ import annotations

import numpy as np

from costmodel.timing.calibration.features import GEMM_TILES
from costmodel.timing.calibration.shaped import ShapedForm
from validate.calibration.grown import grown_pairs, grown_shapes
from validate.calibration.net import Pairs, TrainedNet, Training, train, train_several
from validate.calibration.process import fit_process
from validate.calibration.tables import Floats, OpTable
from validate.calibration.tiles import TileModel, fit_tiles

TAUGHT = 24_000
"""Shapes that the network learns from, beside the measured ones."""
TEACHERS = 8
_TEACHER = Training(hidden=(48, 48), epochs=200, batch=50, rate=1e-2, decay=0.3)
_STUDENT = Training(hidden=(64, 64, 32), epochs=160, batch=256, rate=5e-3)
_M_STEP = 16


def train_from_few(form: ShapedForm, table: OpTable, pairs: int) -> TrainedNet:
    """The network of a form whose base is fitted, from a small table."""
    shapes = _between(form, table)
    taught = (
        _taught_gemm(form, table, shapes, pairs) if table.kind == "gemm" else _taught_attention(form, table, shapes)
    )
    return train(form.features(shapes).T, taught, _STUDENT, grown_pairs(form, table, pairs, seed=2))


def _between(form: ShapedForm, table: OpTable) -> Floats:
    """The measured shapes, and others all over their range."""
    small, large = grown_shapes(form, table, TAUGHT // 2, seed=1)
    limits = form.low[:, None], form.high[:, None]
    return np.concatenate([table.shape, np.clip(small, *limits), np.clip(large, *limits)], axis=1)


def _taught_attention(form: ShapedForm, table: OpTable, shapes: Floats) -> Floats:
    """ln of the factor on the base at `shapes`."""
    inputs = _attention_inputs(table.shape)
    varied = np.ptp(inputs, axis=0) > 0
    process = fit_process(inputs[:, varied], np.log(table.seconds) - np.log(form.base_seconds(table.shape)))
    return process(_attention_inputs(shapes)[:, varied])


def _attention_inputs(shape: Floats) -> Floats:
    """A few inputs for a process: heads over all sequences, both lengths, heads that share keys, head_dim."""
    batch, q_len, kv_len, heads, kv_heads, head_dim = np.log2(shape)
    return np.stack([batch + heads, q_len, kv_len, heads - kv_heads, head_dim], axis=1)


def _taught_gemm(form: ShapedForm, table: OpTable, shapes: Floats, pairs: int) -> Floats:
    """ln of the factor on the base at `shapes`."""
    device = form.base
    tiles = fit_tiles(
        table.shape,
        table.seconds,
        flops_per_s=device.flops_per_s,
        bytes_per_s=device.bytes_per_s,
        cores=form.cores,
        cache_bytes=form.cache_bytes,
        element_bytes=form.element_bytes,
    )
    base, tiled = np.log(form.base_seconds(table.shape)), np.log(tiles.seconds(table.shape))
    coarse = _coarse(form, tiles, table.shape)
    measured = np.log(table.seconds)
    on_base, on_tiles = fit_process(coarse, measured - base), fit_process(coarse, measured - tiled)
    features = _rich(form, tiles, table.shape)
    target = measured - tiled
    low, high = np.quantile(target, (0.01, 0.99))
    order = _tiled_pairs(form, tiles, table, pairs)
    nets = train_several(features, np.clip(target, low, high), _TEACHER, range(TEACHERS), order)
    log_base, log_tiles = np.log(form.base_seconds(shapes)), np.log(tiles.seconds(shapes))
    coarse, rich = _coarse(form, tiles, shapes), _rich(form, tiles, shapes)
    by_process = (on_base(coarse) + log_base + on_tiles(coarse) + log_tiles) / 2
    by_net = np.mean([net(rich) for net in nets], axis=0) + log_tiles
    return np.asarray((by_process + by_net) / 2 - log_base)


def _coarse(form: ShapedForm, tiles: TileModel, shape: Floats) -> Floats:
    """A few inputs for a process: sizes, whole waves of each tile, and what tiles say beyond the base."""
    m, n, k = shape
    rows = np.ceil(m / _M_STEP) * _M_STEP
    waves = [
        np.log2(np.ceil(np.ceil(m / each[0]) * np.ceil(n / each[1]) / form.cores)) - np.log2(n * rows)
        for each in GEMM_TILES
    ]
    return np.stack([np.log2(rows), np.log2(n), np.log2(k), *waves, _beyond(form, tiles, shape)], axis=1)


def _rich(form: ShapedForm, tiles: TileModel, shape: Floats) -> Floats:
    """The form's own inputs and what tiles say beyond the base."""
    return np.concatenate([form.features(shape), _beyond(form, tiles, shape)[None]]).T


def _beyond(form: ShapedForm, tiles: TileModel, shape: Floats) -> Floats:
    """log2 of what tiles say over what the base says."""
    return np.asarray(np.log2(tiles.seconds(shape)) - np.log(form.base_seconds(shape)) / np.log(2))


def _tiled_pairs(form: ShapedForm, tiles: TileModel, table: OpTable, count: int) -> Pairs:
    small, large = grown_shapes(form, table, count, seed=0)
    gap = np.log(tiles.seconds(small) / tiles.seconds(large))
    return Pairs(smaller=_rich(form, tiles, small), larger=_rich(form, tiles, large), gap=gap)
