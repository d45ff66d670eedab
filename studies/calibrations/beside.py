"""How other tables of a device lie about its form's predictions: another laboratory's, another stack's. No torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from costmodel.timing.calibration.elsewhere import Differs
from costmodel.timing.calibration.shaped import FormName, ShapedForm
from costmodel.timing.columns import OpTimings
from validate.calibration.errors import error_row
from validate.calibration.shaped import rounded
from validate.calibration.spread import SIZE_EDGES
from validate.calibration.tables import OpTable

NOT_FITTED = "measured elsewhere, not fitted"
"""What the error table says of them."""


def beside_entry(name: FormName, form: ShapedForm, table: OpTable, differs: Differs, source: str) -> dict[str, Any]:
    """The entry of a calibration's `elsewhere`, of GEMMs: mean and standard deviation of ln(measured / predicted)."""
    residual = np.log(table.seconds / _predicted(form, table).latency_s)
    size = table.shape[0]
    edges = np.array([edge for edge in SIZE_EDGES if size.min() < edge < size.max()])
    cells = np.searchsorted(edges, size, side="right")
    parts = [residual[cells == cell] for cell in range(len(edges) + 1)]
    return {
        "form": name,
        "differs": differs,
        "source": source,
        "points": len(table),
        "size_edges": edges.tolist(),
        "bias": rounded([part.mean() for part in parts], 3),
        "sd": rounded([part.std() for part in parts], 3),
    }


def beside_row(form: ShapedForm, table: OpTable, source: str) -> dict[str, Any]:
    """The error row of such a table: predicted by the file as it is, its interval included."""
    timings = _predicted(form, table)
    inside = (timings.p05_s <= table.seconds) & (table.seconds <= timings.p95_s)
    covered = float(100 * inside.mean())
    return error_row("gemm", source, NOT_FITTED, timings.latency_s, table, coverage_pct=covered)


def _predicted(form: ShapedForm, table: OpTable) -> OpTimings:
    return form.times(table.shape, *form.nominal_work(table.shape))
