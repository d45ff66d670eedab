"""A table of expert layers or of collectives is priced row by row: what stands beside a row changes nothing of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from costmodel.errors import InputError
from costmodel.hardware.profile import HardwareProfile, load_hardware
from costmodel.pricing.layers import UNGATED, price_layers
from costmodel.pricing.shapes import COLLECTIVE_COLUMNS, MOE_COLUMNS, TIME_COLUMNS, ShapeTable
from costmodel.timing.collectives import collective_time
from costmodel.timing.moe import MoeLayer, moe_layer_times
from costmodel.timing.moe_file import moe_table
from costmodel.units import DType

H100, B200, L4 = map(load_hardware, ("h100-sxm-80gb", "b200-sxm", "l4"))
SIZES = (512, 4096, 1536, 8, 128, 1, 1)
PLAIN = MoeLayer(tokens=512, hidden_size=4096, intermediate_size=1536, top_k=8, experts=128)


def of_experts(*rows: tuple[int, ...], **columns: list[Any]) -> ShapeTable:
    texts = {"distribution": ["balanced"] * len(rows), **columns}
    return ShapeTable(columns=texts, names=MOE_COLUMNS, shape=np.array(rows, dtype=np.int64).T)


def of_collectives(*rows: tuple[str, int, int], **columns: list[Any]) -> ShapeTable:
    names, *shape = zip(*rows, strict=True)
    texts = {"collective": list(names), **columns}
    return ShapeTable(columns=texts, names=COLLECTIVE_COLUMNS, shape=np.array(shape, dtype=np.int64))


def alone(
    layer: MoeLayer, hardware: HardwareProfile = H100, dtype: DType = DType.BF16, kernel: str | None = None
) -> list[Any]:
    """The times of one layer in the order of TIME_COLUMNS."""
    times, _ = moe_layer_times([layer], hardware, dtype, kernel)
    columns = (times.latency_s, times.lower_s, times.upper_s, times.p05_s, times.p95_s)
    return [*(float(column[0]) for column in columns), times.bound()[0]]


def rows(table: ShapeTable, hardware: HardwareProfile = H100, dtype: DType = DType.BF16) -> tuple[list[list[Any]], str]:
    """The times of each row in the order of TIME_COLUMNS, and their level."""
    times, level = price_layers(table, hardware, dtype)
    assert tuple(times) == TIME_COLUMNS
    return [list(row) for row in zip(*times.values(), strict=True)], level


def test_each_layer_takes_what_it_takes_alone() -> None:
    sizes = [(7, 1024, 512, 2, 16, 1, 4), (512, 4096, 1536, 8, 128, 2, 1), (3, 2048, 768, 4, 32, 2, 2)]
    skews = ["balanced", "power_law_1.2", "power_law_1.01"]
    fields = ("tokens", "hidden_size", "intermediate_size", "top_k", "experts", "tp", "ep")
    expected = [
        alone(MoeLayer(**dict(zip(fields, row, strict=True)), distribution=skew))
        for row, skew in zip(sizes, skews, strict=True)
    ]
    assert rows(of_experts(*sizes, distribution=skews)) == (expected, "probes")
    assert len({row[0] for row in expected}) == 3
    assert rows(of_experts(SIZES), L4)[1] == "generation"


def test_a_row_says_its_own_type_and_kernel() -> None:
    """Rows of one kind are priced together and land where they came from."""
    usual, other = (each.kernel for each in moe_table()["b200-sxm", "bf16"])
    fp8 = moe_table()["b200-sxm", "fp8"][1].kernel
    types = ["bfloat16", "fp8", "bf16", "bf16", "fp8", "fp8"]
    kernels = [other, "a kernel that nobody measured", usual, "another", fp8, "not measured either"]
    table = of_experts(*([SIZES] * 6), moe_dtype=types, kernel_source=kernels)
    expected = [
        alone(PLAIN, B200, DType.BF16, other),
        alone(PLAIN, B200, DType.FP8),
        alone(PLAIN, B200, DType.BF16, usual),
        alone(PLAIN, B200, DType.BF16),
        alone(PLAIN, B200, DType.FP8, fp8),
        alone(PLAIN, B200, DType.FP8),
    ]
    assert rows(table, B200, DType.FP32)[0] == expected
    assert len({row[0] for row in expected}) == 4


def test_without_a_type_of_its_own_a_row_has_that_of_the_question() -> None:
    assert rows(of_experts(SIZES), H100, DType.FP8)[0] == [alone(PLAIN, H100, DType.FP8)]
    with pytest.raises(InputError, match="unknown moe_dtype: got 'float64'"):
        rows(of_experts(SIZES, moe_dtype=["float64"]))


def test_experts_have_a_gate_unless_the_row_says_otherwise_or_the_model_is_known_to_have_none() -> None:
    said = {" True ": True, "1": True, "false": False, "0": False, "": True, "unknown": True}
    table = of_experts(*([SIZES] * len(said)), gated=list(said))
    times = {gated: alone(MoeLayer(**{**_fields(PLAIN), "gated": gated})) for gated in (True, False)}
    assert times[True][0] > times[False][0]
    assert rows(table)[0] == [times[gated] for gated in said.values()]
    for top_k, experts in UNGATED:
        layer = MoeLayer(**{**_fields(PLAIN), "top_k": top_k, "experts": experts, "gated": False})
        sizes = (512, 4096, 1536, top_k, experts, 1, 1)
        assert rows(of_experts(sizes))[0] == [alone(layer)]
        assert rows(of_experts(sizes, gated=[True]))[0] != [alone(layer)]


def _fields(layer: MoeLayer) -> dict[str, Any]:
    return {name: getattr(layer, name) for name in MoeLayer.__slots__}


@pytest.mark.parametrize(("hardware", "level"), [(H100, "probes"), (L4, "generation")])
@pytest.mark.parametrize(("dtype", "bytes_each"), [(DType.BF16, 2), (DType.FP32, 4)])
def test_each_collective_takes_what_it_takes_alone(
    hardware: HardwareProfile, level: str, dtype: DType, bytes_each: int
) -> None:
    """A message has as many bytes as elements of the type; its bounds are the larger part, and the sum of both."""
    asked = [
        (" all_reduce ", 8, 1 << 12, "custom"),
        ("alltoall", 2, 1 << 24, "NCCL"),
        ("all_reduce", 4, 1 << 22, "NCCL"),
        ("all_gather", 4, 3, ""),
        ("all_reduce", 1, 77, "vllm custom kernel"),
    ]
    expected = []
    for name, devices, elements, library in asked:
        own = "custom" if "custom" in library else "nccl"
        times = collective_time(hardware, name.strip(), devices, elements * bytes_each, library=own)
        start, wire, whole = float(times.latency_part_s), float(times.bandwidth_part_s), float(times.latency_s)
        ends = [float(times.p05_s), float(times.p95_s)]
        bound = "overhead" if start > wire else "memory"
        expected.append([whole, min(max(start, wire), whole), max(start + wire, whole), *ends, bound])
    table = of_collectives(*(row[:3] for row in asked), library=[row[3] for row in asked])
    found, stands_on = rows(table, hardware, dtype)
    assert stands_on == level
    for row, known in zip(found, expected, strict=True):  # numpy's powers of arrays differ in the last bit
        assert (row[:5], row[5]) == (pytest.approx(known[:5], rel=1e-12), known[5])
    assert {row[5] for row in expected} == {"overhead", "memory"}
    assert expected[4][:5] == [0.0] * 5


def test_collectives_are_the_librarys_where_no_row_names_one() -> None:
    asked = ("all_reduce", 8, 4096)
    (plain,), _ = rows(of_collectives(asked))
    assert plain == rows(of_collectives(asked, library=["nccl"]))[0][0]
    assert plain[0] > rows(of_collectives(asked, library=["custom"]))[0][0][0]


@pytest.mark.parametrize("table", [of_experts(SIZES), of_collectives(("alltoall", 2, 8))])
def test_a_table_without_rows_has_columns_and_stands_on_nothing(table: ShapeTable) -> None:
    columns: dict[str, list[Any]] = {name: [] for name in table.columns}
    empty = ShapeTable(columns=columns, names=table.names, shape=table.shape[:, :0])
    assert price_layers(empty, H100, DType.BF16) == ({name: [] for name in TIME_COLUMNS}, "")
