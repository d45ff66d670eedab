"""What a few hundred probe points are worth: fits on a seeded choice of them, judged on shapes held out."""

from __future__ import annotations

from typing import Any

import numpy as np

from costmodel.hardware.profile import HardwareProfile
from costmodel.units import DType
from validate.calibration.errors import error_row
from validate.calibration.fit import TRAINING, device_of
from validate.calibration.shaped import fit_once, folds_of
from validate.calibration.tables import OpTable

TRIALS = 4
HELD_OUT = 4
"""One group of shapes in so many is held out."""


def few_points_row(table: OpTable, hardware: HardwareProfile, dtype: DType, *, points: int) -> dict[str, Any]:
    """The error row of fits on `points` rows drawn at random, averaged over trials with other draws and other folds."""
    device = device_of(hardware, dtype, table.kind)
    predicted, parts = [], []
    for trial in range(TRIALS):
        fold = folds_of(table.groups(), HELD_OUT, trial)
        drawn = np.random.default_rng(trial).choice(np.flatnonzero(fold != 0), points, replace=False)
        form, _ = fit_once(table.take(drawn), device, TRAINING[table.kind])
        rest = table.take(fold == 0)
        predicted.append(form.times(rest.shape, *rest.work(device.element_bytes)).latency_s)
        parts.append(rest)
    whole = OpTable(
        kind=table.kind,
        shape=np.concatenate([each.shape for each in parts], axis=1),
        seconds=np.concatenate([each.seconds for each in parts]),
    )
    protocol = f"{TRIALS} times {points} random points, a quarter of the (n, k) pairs held out"
    return error_row(table.kind, f"{points} probe points", protocol, np.concatenate(predicted), whole)
