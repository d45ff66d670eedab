"""Shapes are priced as the operations of passes are, up to FLOPs of 60 bits; what a file holds besides is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from costmodel.errors import InputError
from costmodel.families.load import load_model
from costmodel.forward.frame import layer_ops
from costmodel.forward.workload import Runtime, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing import shapes
from costmodel.pricing.shapes import (
    ATTENTION_COLUMNS,
    COLLECTIVE_COLUMNS,
    GEMM_COLUMNS,
    MOE_COLUMNS,
    ShapeTable,
    price_shapes,
    read_shapes,
    rows_of,
)
from costmodel.timing.columns import BOUNDS, TIMING_ROWS, OpColumns, OpTimings
from costmodel.timing.datasheet import DatasheetRoofline
from costmodel.units import DType

LLAMA = load_model("mistral-7b")
MODEL = DatasheetRoofline.of(load_hardware("a100-sxm-80gb"), DType.BF16, Runtime.GRAPH)


def latencies(*rows: tuple[int, ...]) -> list[float]:
    found: list[float] = price_shapes(table_of(*rows), MODEL, DType.BF16)["latency_s"]
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


class Noting:
    """A time model that notes what it is asked, and answers with another number for every row of the answer."""

    def __init__(self, *, has_interval: bool) -> None:
        self.has_interval = has_interval
        self.asked: list[OpColumns] = []
        self.answered: list[OpTimings] = []

    def times(self, ops: OpColumns) -> OpTimings:
        self.asked.append(ops)
        size = len(TIMING_ROWS) * len(ops.m)
        rng = np.random.default_rng(len(self.asked))
        self.answered.append(OpTimings(rng.permutation(size).reshape(len(TIMING_ROWS), -1).astype(np.float64)))
        return self.answered[-1]


def noted(dtype: DType, *rows: tuple[int, ...]) -> OpColumns:
    """What the time model is asked for rows."""
    model = Noting(has_interval=False)
    price_shapes(table_of(*rows), model, dtype)  # type: ignore[arg-type]
    (asked,) = model.asked
    return asked


def table_of(*rows: tuple[int, ...], **columns: Sequence[Any]) -> ShapeTable:
    names = GEMM_COLUMNS if len(rows[0]) == len(GEMM_COLUMNS) else ATTENTION_COLUMNS
    return ShapeTable(columns=columns, names=names, shape=np.array(rows, dtype=np.int64).T)


def asked_of_a_pass(work: Workload, kind: str) -> OpColumns:
    """Columns of one operation of a pass through a model whose linears have no bias."""
    ops = [op for op in layer_ops(LLAMA, work, None) if op.kind == kind and (kind == "attention" or op.site)]
    return OpColumns.of(ops[-1:])


def assert_asked(found: OpColumns, expected: OpColumns) -> None:
    for field in fields(OpColumns):
        one, two = getattr(found, field.name), getattr(expected, field.name)
        one, two = (np.zeros(1) if each is None or not np.any(each != 0) else each for each in (one, two))
        assert np.array_equal(np.broadcast_to(one, np.shape(two)), two), field.name


@pytest.mark.parametrize("dtype", [DType.FP32, DType.BF16, DType.FP8])
@pytest.mark.parametrize("work", [Workload.prefill(24, batch=3), Workload.decode(24, batch=3)])
def test_a_row_is_asked_as_the_operation_of_a_pass_is(dtype: DType, work: Workload) -> None:
    """In fp8 a product gives 16 bits, and attention takes them."""
    work = replace(work, dtype=dtype)
    down = LLAMA.tensors[-1]
    assert_asked(noted(dtype, (work.tokens, down.out_features, down.in_features)), asked_of_a_pass(work, "gemm"))
    heads = (LLAMA.num_heads, LLAMA.num_kv_heads, LLAMA.head_dim)
    row = (work.batch, work.q_len, work.kv_len - work.q_len, *heads)
    assert_asked(noted(dtype, row), asked_of_a_pass(work, "attention"))


@pytest.mark.parametrize("has_interval", [True, False])
def test_times_stand_at_their_rows(has_interval: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are priced a chunk at a time; the interval is unknown where the model has none; the largest part bounds."""
    monkeypatch.setattr(shapes, "_CHUNK", 3)
    model, sizes = Noting(has_interval=has_interval), [(row, 2 * row, 3 * row) for row in range(1, 9)]
    found = price_shapes(table_of(*sizes), model, DType.BF16)  # type: ignore[arg-type]
    assert [len(asked.m) for asked in model.asked] == [3, 3, 2]
    for place, name in enumerate("mnk"):
        asked = np.concatenate([getattr(each, name) for each in model.asked])
        assert asked.tolist() == [row[place] for row in sizes]
    answers = {name: np.concatenate([getattr(each, name) for each in model.answered]) for name in TIMING_ROWS}
    expected = {
        "latency_s": answers["latency_s"].tolist(),
        "latency_lower_s": answers["lower_s"].tolist(),
        "latency_upper_s": answers["upper_s"].tolist(),
        "latency_p05_s": answers["p05_s"].tolist() if has_interval else [None] * len(sizes),
        "latency_p95_s": answers["p95_s"].tolist() if has_interval else [None] * len(sizes),
        "bound": [max(BOUNDS, key=lambda bound: answers[f"{bound}_s"][row]) for row in range(len(sizes))],
    }
    assert found == expected


def test_a_size_that_is_too_large_is_named_by_its_row_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "_CHUNK", 2)
    wide = 1 << 24
    with pytest.raises(InputError, match=r"row 4 is too large to count: got '9.44e\+21 FLOPs'"):
        latencies((1, 1, 1), (1, 1, 1), (1, 1, 1), (wide, wide, wide), (1, 1, 1))


KINDS = {
    GEMM_COLUMNS: "7,6,5",
    ATTENTION_COLUMNS: "7,6,0,8,4,3",
    (*MOE_COLUMNS, "distribution"): "9,8,7,6,5,4,3,balanced",
    (*COLLECTIVE_COLUMNS, "collective"): "4,1000,alltoall",
}


@pytest.mark.parametrize("columns", KINDS)
def test_a_file_is_read_by_the_names_of_its_columns(columns: tuple[str, ...], tmp_path: Path) -> None:
    path, names = tmp_path / "rows.csv", [name for name in columns if name not in ("distribution", "collective")]
    path.write_text(f"note,{','.join(columns)}\na,{KINDS[columns]}\nb,{KINDS[columns]}\n")
    found = read_shapes(path)
    assert found.names == tuple(names)
    assert found.columns["note"] == ["a", "b"]
    assert found.shape.tolist() == [[int(value)] * 2 for value in KINDS[columns].split(",")[: len(names)]]
    assert found.shape.dtype == np.int64
    for missing in columns:
        path.write_text(",".join(name for name in columns if name != missing) + "\n")
        with pytest.raises(InputError, match=r"rows.csv: columns: got .*; allowed: one of: m, n, k; batch_size, q_len"):
            read_shapes(path)


def test_a_file_of_two_kinds_is_none(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(",".join([*GEMM_COLUMNS, *COLLECTIVE_COLUMNS, "collective"]) + "\n")
    with pytest.raises(InputError, match="columns: got 'm, n, k, num_gpus, message_elements, collective'"):
        read_shapes(path)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([(1, 1, 0, 8, 8, 1), (1, 1, 0, 8, 3, 1)], "num_key_value_heads in row 2: got '3'; .* num_heads, 8"),
        ([(1, 1, 0, 4, 8, 1)], "num_key_value_heads in row 1: got '8'; .* num_heads, 4"),
        ([(1, 1, -1, 8, 8, 1)], "past_len in row 1: got '-1'; allowed: a whole number from 0 to 16,?777,?216"),
        ([(1, 0, 0, 8, 8, 1)], "q_len in row 1: got '0'; allowed: a whole number from 1 to 16,?777,?216"),
        ([((1 << 24) + 1, 1, 0, 8, 8, 1)], "batch_size in row 1"),
    ],
)
def test_a_size_that_cannot_be_is_named_by_its_cell(rows: list[tuple[int, ...]], told: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(",".join(map(str, row)) for row in (ATTENTION_COLUMNS, *rows)))
    with pytest.raises(InputError, match=told):
        read_shapes(path)


def test_times_are_appended_and_take_the_place_of_columns_of_their_names() -> None:
    table = table_of((1, 2, 3), (4, 5, 6), m=[1, 4], latency_s=["old", "older"], note=["a", "b"])
    names, found = rows_of(table, {"latency_s": [0.5, 0.25], "bound": ["memory", "compute"]})
    assert names == ["m", "note", "latency_s", "bound"]
    assert list(found) == [(1, "a", 0.5, "memory"), (4, "b", 0.25, "compute")]
