"""GEMM corrections from a few hundred points: three fits that err differently teach the network what lies between.

The mean of (1) a Gaussian process on the base, (2) one on the tile model and (3) networks on the tile model predicts
shapes all over the measured range; the form's own network learns from those predictions. No torch.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from costmodel.calibration_features import GEMM_TILES
from costmodel.calibration_form import ShapedForm
from validate.fit_grown import grown_pairs, grown_shapes
from validate.fit_net import Pairs, TrainedNet, Training, train
from validate.fit_process import fit_process
from validate.fit_tables import Floats, OpTable
from validate.fit_tiles import TileModel, fit_tiles

TAUGHT = 24_000
"""Shapes that the network learns from, beside the measured ones."""
TEACHERS = 4
_TEACHER = Training(hidden=(32, 32), epochs=200, batch=50, rate=1e-2, decay=0.3)
_STUDENT = Training(hidden=(64, 64, 32), epochs=80, batch=256, rate=5e-3)
_M_STEP = 16


def train_from_few(form: ShapedForm, table: OpTable, pairs: int) -> TrainedNet:
    """The network of a form whose base is fitted, from a small table of GEMMs."""
    device = form.base
    tiles = fit_tiles(
        table.shape, table.seconds, flops_per_s=device.flops_per_s, bytes_per_s=device.bytes_per_s, cores=form.cores,
        cache_bytes=form.cache_bytes, element_bytes=form.element_bytes,
    )  # fmt: skip
    base, tiled = _log_base(form, table.shape), np.log(tiles.seconds(table.shape))
    coarse = _coarse(form, tiles, table.shape)
    measured = np.log(table.seconds)
    on_base, on_tiles = fit_process(coarse, measured - base), fit_process(coarse, measured - tiled)
    features = _rich(form, tiles, table.shape)
    target = measured - tiled
    low, high = np.quantile(target, (0.01, 0.99))
    order = _tiled_pairs(form, tiles, table, pairs)
    nets = [
        train(features, np.clip(target, low, high), replace(_TEACHER, seed=seed), order) for seed in range(TEACHERS)
    ]
    small, large = grown_shapes(form, table, TAUGHT // 2, seed=1)
    limits = form.low[:, None], form.high[:, None]
    shapes = np.concatenate([table.shape, np.clip(small, *limits), np.clip(large, *limits)], axis=1)
    log_base, log_tiles = _log_base(form, shapes), np.log(tiles.seconds(shapes))
    coarse, rich = _coarse(form, tiles, shapes), _rich(form, tiles, shapes)
    by_process = (on_base(coarse) + log_base + on_tiles(coarse) + log_tiles) / 2
    by_net = np.mean([net(rich) for net in nets], axis=0) + log_tiles
    taught = (by_process + by_net) / 2 - log_base
    return train(form.features(shapes).T, taught, _STUDENT, grown_pairs(form, table, pairs, seed=2))


def _log_base(form: ShapedForm, shape: Floats) -> Floats:
    work = 2 * shape[0] * shape[1] * shape[2]
    moved = form.element_bytes * (shape[1] * shape[2] + shape[0] * (shape[1] + shape[2]))
    return np.asarray(np.log(form.parts(shape, work, moved)[2] + form.base.fixed_s))


def _coarse(form: ShapedForm, tiles: TileModel, shape: Floats) -> Floats:
    """A few inputs for a process: sizes, whole waves of each tile, and what tiles say beyond the base."""
    m, n, k = shape
    rows = np.ceil(m / _M_STEP) * _M_STEP
    waves = [
        np.log2(np.ceil(np.ceil(m / each[0]) * np.ceil(n / each[1]) / form.cores)) - np.log2(n * rows)
        for each in GEMM_TILES
    ]
    beyond = np.log2(tiles.seconds(shape)) - _log_base(form, shape) / np.log(2)
    return np.stack([np.log2(rows), np.log2(n), np.log2(k), *waves, beyond], axis=1)


def _rich(form: ShapedForm, tiles: TileModel, shape: Floats) -> Floats:
    """The form's own inputs and what tiles say beyond the base."""
    beyond = np.log2(tiles.seconds(shape)) - _log_base(form, shape) / np.log(2)
    return np.concatenate([form.features(shape), beyond[None]]).T


def _tiled_pairs(form: ShapedForm, tiles: TileModel, table: OpTable, count: int) -> Pairs:
    small, large = grown_shapes(form, table, count, seed=0)
    gap = np.log(tiles.seconds(small) / tiles.seconds(large))
    return Pairs(smaller=_rich(form, tiles, small), larger=_rich(form, tiles, large), gap=gap)
