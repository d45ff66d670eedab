"""Kernels that a device was not measured on, taken over from a device that was, by the ratios of their datasheets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from costmodel.errors import CalibrationError
from costmodel.files.node import Node
from costmodel.hardware.profile import HardwareProfile
from costmodel.timing.calibration.file import read_shaped
from costmodel.timing.calibration.shaped import FORMS, FormName, ShapedForm
from costmodel.units import DType
from validate.calibration.errors import error_row
from validate.calibration.shaped import rounded
from validate.calibration.spread import ends
from validate.calibration.tables import OpTable

_WIDEST = 1.5
"""Largest |ln| of an interval's end."""


def attention_form(entry: Mapping[str, Any], source: HardwareProfile, target: HardwareProfile) -> dict[str, Any]:
    """A form of 16-bit attention as a file has it, on another device: its efficiencies at other peaks.

    The correction reads the other device's cores and cache; the fixed time stays.
    """
    base = dict(entry["base"])
    base["flops_per_s"] = rounded(base["flops_per_s"] * target.matrix_rate(DType.BF16) / source.matrix_rate(DType.BF16))
    base["bytes_per_s"] = rounded(base["bytes_per_s"] * target.memory_bytes_per_s / source.memory_bytes_per_s)
    return {**entry, "base": base, "cores": target.cores, "cache_bytes": float(target.caches[-1].bytes)}


def judged(
    name: FormName, entry: Mapping[str, Any], table: OpTable, device: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A form taken over from one device to a third that was measured: its error there, and the 90 % interval of it.

    Returns:
        The `spread` of a file, one cell, and the error row.
    """
    form = form_of(name, entry)
    predicted = form.times(table.shape, *form.nominal_work(table.shape)).latency_s
    low, high = ends(np.log(table.seconds / predicted))
    spread = {
        "base_edges": [],
        "size_edges": [],
        "low": [[rounded(float(np.clip(low, -_WIDEST, 0)), 3)]],
        "high": [[rounded(float(np.clip(high, 0, _WIDEST)), 3)]],
        "outside": 2.0,
    }
    return spread, error_row(name, f"taken over, judged on the {device}", "no point of it fitted", predicted, table)


def form_of(name: FormName, entry: Mapping[str, Any]) -> ShapedForm:
    """A file's form."""
    return read_shaped(Node(name, dict(entry), CalibrationError), FORMS[name])
