"""GEMM corrections from thousands of points: networks of several seeds teach one what lies between the points.

A library's choice of kernels scatters times by several percent from one shape to the next; networks that start
elsewhere follow the scatter elsewhere, so their mean lies nearer to shapes that none has seen. One network of the same
size learns that mean (distillation, arXiv 1503.02531) beside the measured points, and costs no more to apply.
"""

from __future__ import annotations

import numpy as np

from costmodel.timing.calibration.shaped import ShapedForm
from validate.calibration.grown import STEP
from validate.calibration.net import Pairs, TrainedNet, Training, train, train_several
from validate.calibration.tables import Floats, OpTable

TAUGHT = 24_000
"""Shapes at which the networks teach."""
TEACHERS = 4
_MEASURED = 0.6
"""Share of the dimensions of such a shape that were measured, each in some other shape."""


def train_from_many(
    form: ShapedForm, table: OpTable, target: Floats, settings: Training, pairs: Pairs | None
) -> TrainedNet:
    """The network of a form whose base is fitted, from a large table of GEMMs.

    Args:
        target: ln(measured / base) of each row.
        pairs: shapes that the network must keep in order, and so must its teachers: it would learn their disorder.
    """
    features = form.features(table.shape).T
    seeds = range(settings.seed, settings.seed + TEACHERS)
    teachers = train_several(features, target, settings, seeds, pairs)
    between = form.features(shapes_between(table, TAUGHT, settings.seed)).T
    taught = np.mean([teacher(between) for teacher in teachers], axis=0)
    return train(np.concatenate([features, between]), np.concatenate([target, taught]), settings, pairs)


def shapes_between(table: OpTable, count: int, seed: int) -> Floats:
    """Random m, n, k within the measured range, (3, count): measured values in new combinations, and values between."""
    rng = np.random.default_rng(seed)
    m, n, k = table.shape
    widths = np.concatenate([n, k])
    columns = []
    for values, step in ((m, 1), (widths, STEP), (widths, STEP)):
        low, high = values.min(), values.max()
        drawn = np.exp(rng.uniform(np.log(low), np.log(high), count))
        drawn = np.clip(np.round(drawn / step) * step, low, high)
        columns.append(np.where(rng.random(count) < _MEASURED, rng.choice(np.unique(values), count), drawn))
    return np.array(columns)
