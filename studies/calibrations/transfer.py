"""How a GEMM calibration carries over to another table of the same device, whose shapes it never saw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from costmodel.hardware.profile import HardwareProfile
from costmodel.units import DType
from validate.calibration.errors import error_row
from validate.calibration.fit import TRAINING, device_of
from validate.calibration.shaped import fit_once
from validate.calibration.tables import Floats, OpTable

RANGE = (1, 4096)
"""Tokens that are compared."""


def llama_rows(
    linears: Mapping[str, OpTable], table: OpTable, hardware: HardwareProfile, dtype: DType
) -> list[dict[str, Any]]:
    """Error rows of a model's linears, predicted by a fit on the part of `table` without their (n, k).

    One row per linear, one over all, and one of the two tables' own disagreement on shapes that both hold.

    Args:
        linears: measured elsewhere, by name, one (n, k) each.
        table: GEMMs of the device.
        hardware, dtype: of the table.
    """
    pairs = {(each.shape[1, 0], each.shape[2, 0]) for each in linears.values()}
    seen = np.array([(n, k) in pairs for n, k in table.shape[1:].T])
    form, _ = fit_once(table.take(~seen), device_of(hardware, dtype, "gemm"), TRAINING["gemm"])
    protocol = "another table; none of these (n, k) fitted"
    rows, chosen, predicted = [], [], []
    for name, linear in linears.items():
        m = linear.shape[0]
        part = linear.take((m >= RANGE[0]) & (m <= RANGE[1]))
        ours = form.times(part.shape, *part.work(form.element_bytes)).latency_s
        rows.append(error_row("gemm", f"Llama 2 7B {name}", protocol, ours, part))
        chosen.append(part)
        predicted.append(ours)
    whole = OpTable(
        kind="gemm",
        shape=np.concatenate([each.shape for each in chosen], axis=1),
        seconds=np.concatenate([each.seconds for each in chosen]),
    )
    rows.append(error_row("gemm", "Llama 2 7B, all linears", protocol, np.concatenate(predicted), whole))
    shared, theirs = _shared(whole, table)
    if len(shared):
        rows.append(error_row("gemm", "the two tables on shared shapes", "measured against measured", theirs, shared))
    return rows


def _shared(first: OpTable, second: OpTable) -> tuple[OpTable, Floats]:
    """Rows of the first table that the second holds as well, and the second's seconds."""
    known = {tuple(shape): seconds for shape, seconds in zip(second.shape.T.tolist(), second.seconds, strict=True)}
    found = [known.get(tuple(shape)) for shape in first.shape.T.tolist()]
    rows = np.array([each is not None for each in found])
    return first.take(rows), np.array([each for each in found if each is not None])
