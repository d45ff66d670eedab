"""Layers of experts and collectives priced in bulk: rows of a table in, times by the names of its columns out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from costmodel.arrays import Bools, Floats
from costmodel.errors import InputError
from costmodel.hardware.profile import HardwareProfile
from costmodel.pricing.shapes import MOE_COLUMNS, TIME_COLUMNS, ShapeTable
from costmodel.timing.collectives import CUSTOM, collective_time
from costmodel.timing.columns import TIMING_ROWS, OpTimings
from costmodel.timing.moe import MoeLayer, moe_layer_times
from costmodel.timing.moe_file import numbers_for
from costmodel.units import DType

UNGATED = frozenset({(22, 512), (6, 128)})
"""(experts per token, experts) of Nemotron models, whose experts have no gate; a column `gated` says it of any row."""
_KERNEL, _DTYPE, _GATED, _LIBRARY = "kernel_source", "moe_dtype", "gated", "library"
"""Columns that are read where they are there."""
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def price_layers(table: ShapeTable, hardware: HardwareProfile, dtype: DType) -> tuple[dict[str, list[Any]], str]:
    """Times of every row by the names of TIME_COLUMNS, and their level.

    Args:
        table: rows of expert layers or of collectives.
        hardware: of each device.
        dtype: of weights and inputs of layers whose row has no `moe_dtype`; of the elements of a message.

    Raises:
        InputError: when a row asks for what does not exist.
        HardwareError: when the device has no rate for a type.
    """
    return _experts(table, hardware, dtype) if table.names is MOE_COLUMNS else _collectives(table, hardware, dtype)


def _experts(table: ShapeTable, hardware: HardwareProfile, dtype: DType) -> tuple[dict[str, list[Any]], str]:
    rows = table.shape.shape[1]
    columns = table.columns
    gated = [_FLAGS.get(str(value).strip().lower()) for value in columns.get(_GATED, [None] * rows)]
    layers = [
        MoeLayer(
            tokens=tokens,
            hidden_size=hidden,
            intermediate_size=inner,
            top_k=top_k,
            experts=experts,
            tp=tp,
            ep=ep,
            distribution=str(distribution),
            gated=(top_k, experts) not in UNGATED if flag is None else flag,
        )
        for (tokens, hidden, inner, top_k, experts, tp, ep), distribution, flag in zip(
            table.shape.T.tolist(), columns["distribution"], gated, strict=True
        )
    ]
    types = [DType.parse(str(value), _DTYPE) for value in columns[_DTYPE]] if _DTYPE in columns else [dtype] * rows
    kernels = columns.get(_KERNEL, [None] * rows)
    groups: dict[tuple[DType, Any], list[int]] = {}
    for index, key in enumerate(zip(types, kernels, strict=True)):
        groups.setdefault(key, []).append(index)
    timings = OpTimings(np.zeros((len(TIMING_ROWS), rows)))
    level = ""
    for (kind, kernel), places in groups.items():
        times, level = moe_layer_times(
            [layers[index] for index in places], hardware, kind, _known(hardware, kind, kernel)
        )
        timings.table[:, places] = times.table
    return _columns(
        timings.latency_s, timings.lower_s, timings.upper_s, timings.p05_s, timings.p95_s, timings.bound()
    ), level


def _known(hardware: HardwareProfile, dtype: DType, kernel: Any) -> str | None:
    """The kernel that a row names, where there are numbers of it; else None, for the device's usual one."""
    if kernel is None:
        return None
    try:
        return numbers_for(hardware, dtype, str(kernel))[0].kernel
    except InputError:
        return None


def _collectives(table: ShapeTable, hardware: HardwareProfile, dtype: DType) -> tuple[dict[str, list[Any]], str]:
    devices, elements = table.shape
    names = np.array([str(value).strip() for value in table.columns["collective"]], dtype=np.str_)
    custom = np.array(
        [CUSTOM in str(value) for value in table.columns.get(_LIBRARY, [""] * len(names))], dtype=np.bool_
    )
    out = {name: np.zeros(len(names)) for name in ("latency_s", "p05_s", "p95_s", "latency_part_s", "bandwidth_part_s")}
    level = ""
    for name in np.unique(names):
        for own in np.unique(custom):
            chosen: Bools = (names == name) & (custom == own)
            if chosen.any():
                times = collective_time(
                    hardware,
                    str(name),
                    devices[chosen],
                    elements[chosen] * (dtype.bits / 8),
                    library=CUSTOM if own else "nccl",
                )
                level = times.level
                for key, values in out.items():
                    values[chosen] = getattr(times, key)
    latency, low, high, start, wire = out.values()
    bound = np.where(start > wire, "overhead", "memory").tolist()
    return _columns(
        latency, np.minimum(np.maximum(start, wire), latency), np.maximum(start + wire, latency), low, high, bound
    ), level


def _columns(
    latency: Floats, lower: Floats, upper: Floats, low: Floats, high: Floats, bound: Sequence[str]
) -> dict[str, list[Any]]:
    values = (latency.tolist(), lower.tolist(), upper.tolist(), low.tolist(), high.tolist(), list(bound))
    return dict(zip(TIME_COLUMNS, values, strict=True))
