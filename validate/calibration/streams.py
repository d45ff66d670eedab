"""Fits kernels that only move data: a fixed time, a bandwidth, and straight lines between a few sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from costmodel.timing.calibration.base import Base
from costmodel.timing.calibration.shaped import StreamForm
from validate.calibration.shaped import rounded
from validate.calibration.spread import ends
from validate.calibration.tables import Floats

KNOTS = 12
_STIFFNESS = 0.3
"""Weight of the squared differences between neighbouring knots, in points."""
TOLERANCE = (0.1, 1e-6)
"""Relative and absolute: an error counts in multiples of the larger of 10 % and 1 us, the resolution of such tables."""
WORST = 0.7
"""Largest |ln| of an interval's end."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreamTable:
    """Measured kernels of one class: bytes moved and seconds, each (rows,)."""

    kind: str
    moved: Floats
    seconds: Floats

    def take(self, rows: Any) -> StreamTable:
        """Some of the rows, by mask, index or slice."""
        return StreamTable(kind=self.kind, moved=self.moved[rows], seconds=self.seconds[rows])

    def predict(self, form: StreamForm) -> Floats:
        """Seconds of each row, one kernel each."""
        return form.times(np.zeros_like(self.moved), self.moved, np.ones_like(self.moved)).latency_s


def fit_stream(table: StreamTable, *, flops_per_s: float, bytes_per_s: float) -> StreamForm:
    """The form of a class.

    Args:
        table: at least four rows of different sizes.
        flops_per_s: what matrix products without a shape achieve; taken over.
        bytes_per_s: peak bandwidth, where the search begins.
    """
    moved, seconds = table.moved, table.seconds
    scale = np.maximum(TOLERANCE[0] * seconds, TOLERANCE[1])

    def form_of(values: Floats) -> StreamForm:
        base = Base(
            flops_per_s=flops_per_s,
            fixed_s=float(np.exp(values[0])),
            bytes_per_s=float(np.exp(values[1])),
            overlap=float(values[2]),
        )
        nothing = np.zeros(0)
        return StreamForm(base=base, log2_bytes=nothing, ln_factor=nothing, low=0.0, high=0.0)

    found = least_squares(
        lambda values: (table.predict(form_of(values)) - seconds) / scale,
        [np.log(seconds.min()), np.log(bytes_per_s / 2), 1.5],
        bounds=([np.log(1e-9), np.log(bytes_per_s / 1e3), 1], [0, np.log(bytes_per_s * 10), 8]),
        loss="soft_l1",
    )
    form = form_of(found.x)
    logs = np.log2(moved)
    knots = np.linspace(logs.min(), logs.max(), KNOTS)
    hats = np.stack([np.interp(logs, knots, each) for each in np.eye(KNOTS)], axis=1)
    steps = np.diff(np.eye(KNOTS), axis=0)
    residual = np.log(seconds / table.predict(form))
    factors = np.linalg.solve(hats.T @ hats + _STIFFNESS * steps.T @ steps, hats.T @ residual)
    at_knots = StreamTable(kind=table.kind, moved=2**knots, seconds=np.ones(KNOTS)).predict(form)
    growing = np.maximum.accumulate(at_knots * np.exp(factors))
    return replace(form, log2_bytes=knots, ln_factor=np.log(growing / at_knots))


def held_out_halves(table: StreamTable, *, flops_per_s: float, bytes_per_s: float) -> tuple[StreamTable, Floats]:
    """The rows of every other size, however often a size was measured, and their seconds as predicted by a form that
    was fitted on the sizes between."""
    held_out = np.isin(table.moved, np.unique(table.moved)[1::2])
    form = fit_stream(table.take(~held_out), flops_per_s=flops_per_s, bytes_per_s=bytes_per_s)
    unseen = table.take(held_out)
    return unseen, unseen.predict(form)


def with_interval(form: StreamForm, residual: Floats) -> StreamForm:
    """The form with the 90 % interval of ln(measured / predicted) on points that the fit had not seen."""
    low, high = ends(residual)
    return replace(form, low=float(np.clip(low, -WORST, 0)), high=float(np.clip(high, 0, WORST)))


def stream_to_json(form: StreamForm, source: str) -> dict[str, Any]:
    """The form's entry in the file."""
    return {
        "base": {name: rounded(getattr(form.base, name)) for name in form.base.__slots__},
        "log2_bytes": rounded(form.log2_bytes),
        "ln_factor": rounded(form.ln_factor, 4),
        "low": rounded(form.low, 3),
        "high": rounded(form.high, 3),
        "source": source,
    }
