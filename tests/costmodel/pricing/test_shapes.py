"""Shapes whose FLOPs fit 60 bits are priced; larger ones are refused, of products and of attention alike."""

from __future__ import annotations

import numpy as np
import pytest

from costmodel.errors import InputError
from costmodel.forward.workload import Runtime
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.shapes import ATTENTION_COLUMNS, GEMM_COLUMNS, ShapeTable, price_shapes
from costmodel.timing.datasheet import DatasheetRoofline
from costmodel.units import DType

MODEL = DatasheetRoofline.of(load_hardware("a100-sxm-80gb"), DType.BF16, Runtime.GRAPH)


def latencies(*rows: tuple[int, ...]) -> list[float]:
    names = GEMM_COLUMNS if len(rows[0]) == len(GEMM_COLUMNS) else ATTENTION_COLUMNS
    table = ShapeTable(columns={}, names=names, shape=np.array(rows, dtype=np.int64).T)
    found: list[float] = price_shapes(table, MODEL, DType.BF16)["latency_s"]
    return found


def test_products_of_two_to_the_60_are_the_largest() -> None:
    (largest,) = latencies((1 << 20, 1 << 20, 1 << 19))
    assert largest > (1 << 60) / 1e16
    with pytest.raises(InputError, match="row 2 is too large to count"):
        latencies((1, 1, 1), (1 << 20, 1 << 20, (1 << 19) + 1))


def test_attention_over_too_many_pairs_is_refused() -> None:
    """4 x 128 FLOPs for each of 2^24 x 2^24 pairs and 256 heads are 2^65; for 16 x 16 pairs they are few."""
    with pytest.raises(InputError, match="row 1 is too large to count"):
        latencies((1, 1 << 24, 0, 256, 256, 128))
    assert len(latencies((1, 16, 0, 256, 256, 128))) == 1
