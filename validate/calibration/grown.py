"""Pairs of shapes, the second the first grown in one dimension: more work must not take less time."""

from __future__ import annotations

import numpy as np

from costmodel.timing.calibration.shaped import ShapedForm
from validate.calibration.net import Pairs
from validate.calibration.tables import Floats, OpTable

STEP = 16
"""Widths that are drawn are multiples of it: between them, alignment decides."""
_GROWTH = (0.02, 2.0)
"""log2 of the factor of growth."""


def grown_pairs(form: ShapedForm, table: OpTable, count: int, seed: int) -> Pairs:
    """Random shapes within the measured range, off the measured grid as well as on it, and each grown.

    Lengths and batches grow; of attention's heads, only both counts together do.
    """
    small, large = grown_shapes(form, table, count, seed)
    log_base = [np.log(form.base_seconds(shape)) for shape in (small, large)]
    return Pairs(
        smaller=form.features(small).T, larger=form.features(large).T, gap=np.asarray(log_base[0] - log_base[1])
    )


def grown_shapes(form: ShapedForm, table: OpTable, count: int, seed: int) -> tuple[Floats, Floats]:
    """The shapes themselves, each (dimensions, count)."""
    rng = np.random.default_rng(seed)
    factor = 2 ** rng.uniform(*_GROWTH, count)
    if form.kind == "gemm":
        small = np.round(2 ** rng.uniform(np.log2(form.low), np.log2(form.high), (count, 3))).T
        small[1:] = np.maximum(np.round(small[1:] / STEP) * STEP, STEP)
        large = small.copy()
        which, each = rng.integers(0, 3, count), np.arange(count)
        large[which, each] = np.ceil(large[which, each] * factor)
        large[1:] = np.ceil(large[1:] / STEP) * STEP
        return small, large
    rows = rng.integers(0, len(table), count)
    small = table.shape[:, rows].copy()
    small[0] = np.maximum(np.round(small[0] * 2 ** rng.uniform(-1, 1, count)), 1)
    stretch = 2 ** rng.uniform(-0.5, 0.5, count)
    if form.kind == "prefill":
        small[1] = np.maximum(np.round(small[1] * stretch), 2)
        small[2] = np.maximum(small[2] - table.shape[1, rows], 0) + small[1]
    else:
        small[2] = np.maximum(np.round(small[2] * stretch), 1)
    large = small.copy()
    longer = rng.random(count) < 0.5
    large[0] = np.where(longer, large[0], np.ceil(large[0] * factor))
    grown = np.ceil(small[2] * factor)
    if form.kind == "prefill":
        large[1] = np.where(longer, np.ceil(small[1] * factor), small[1])
        grown = small[2] - small[1] + large[1]
    large[2] = np.where(longer, grown, small[2])
    low, high = form.low[:, None], form.high[:, None]
    return np.clip(small, low, high), np.clip(large, low, high)
