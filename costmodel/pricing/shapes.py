"""Bare GEMM and attention shapes priced in bulk: a table of shapes in, the same rows with times out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from costmodel.arrays import Ints
from costmodel.errors import InputError
from costmodel.files.table import read_table
from costmodel.forward.work import AttentionShape, Count, attention_work, causal_pairs, gemm_work
from costmodel.timing.columns import BOUNDS, OpColumns, TimeModel
from costmodel.units import DType

GEMM_COLUMNS = ("m", "n", "k")
MOE_COLUMNS = (
    "num_tokens",
    "hidden_size",
    "moe_intermediate_size",
    "num_experts_per_tok",
    "num_experts",
    "moe_tp_size",
    "moe_ep_size",
)
COLLECTIVE_COLUMNS = ("num_gpus", "message_elements")
_TEXTS = {MOE_COLUMNS: ("distribution",), COLLECTIVE_COLUMNS: ("collective",)}
"""Columns of words that rows of a kind must have beside their numbers."""
ATTENTION_COLUMNS = ("batch_size", "q_len", "past_len", "num_heads", "num_key_value_heads", "head_dim")
TIME_COLUMNS = ("latency_s", "latency_lower_s", "latency_upper_s", "latency_p05_s", "latency_p95_s", "bound")
MAX_SIZE = 1 << 24
_MAX_WORK = 1 << 60
_CHUNK = 1 << 16
"""Rows priced at once, to keep the memory of a million rows small."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ShapeTable:
    """Rows of a file: every column as it was read, and the shapes among them as whole numbers.

    Attributes:
        columns: name -> values, texts of a CSV file or numbers of a Parquet file, all of one length.
        names: which rows these are: GEMM_COLUMNS, ATTENTION_COLUMNS, MOE_COLUMNS or COLLECTIVE_COLUMNS.
        shape: int64 (dimensions, rows), in the order of `names`.
    """

    columns: Mapping[str, Sequence[Any]]
    names: tuple[str, ...]
    shape: Ints


def read_shapes(path: Path) -> ShapeTable:
    """Read a .csv or .parquet file with the columns of GEMMs, attention, expert layers or collectives, and any others.

    Raises:
        InputError: when the file cannot be read, lacks the columns, has two rows of different length, a size that is no
            whole number from 1 to MAX_SIZE, or fewer query than key-value heads.
    """
    table = read_table(path, InputError)
    kinds = {names: (*names, *_TEXTS.get(names, ())) for names in (GEMM_COLUMNS, ATTENTION_COLUMNS, *_TEXTS)}
    found = [names for names, needed in kinds.items() if set(needed) <= set(table.columns)]
    if len(found) != 1:
        allowed = "one of: " + "; ".join(", ".join(needed) for needed in kinds.values())
        raise InputError(f"{path}: columns", value=", ".join(table.columns) or "none", allowed=allowed)
    names = found[0]
    shape = np.empty((len(names), len(table)), dtype=np.int64)
    for index, name in enumerate(names):
        shape[index] = table.numbers(name, 0 if name == "past_len" else 1, MAX_SIZE, whole=True)
    if names is ATTENTION_COLUMNS:
        bad = shape[3] % shape[4] != 0
        if bad.any():
            cell = table.cell("num_key_value_heads", int(bad.argmax()))
            raise cell.wrong(f"a divisor of num_heads, {shape[3, bad.argmax()]}")
    return ShapeTable(columns=table.columns, names=names, shape=shape)


def price_shapes(table: ShapeTable, time_model: TimeModel, dtype: DType) -> dict[str, list[Any]]:
    """Times of every GEMM or attention by the names of TIME_COLUMNS: of the device, without the host's launches.

    A GEMM is a linear without bias, in fp8 with a result in 16 bits; attention is causal, fused and never in fp8.
    Quantiles are None where the model has no intervals.

    Raises:
        InputError: when a row's FLOPs would not fit 60 bits.
    """
    result: dict[str, list[Any]] = {name: [] for name in TIME_COLUMNS}
    for start in range(0, table.shape.shape[1], _CHUNK):
        shape = table.shape[:, start : start + _CHUNK]
        ops = (_gemms if table.names is GEMM_COLUMNS else _attention)(shape, dtype)
        _check_size(shape, ops, start)
        timings = time_model.times(ops)
        chunk = {
            "latency_s": timings.latency_s,
            "latency_lower_s": timings.lower_s,
            "latency_upper_s": timings.upper_s,
            "latency_p05_s": timings.p05_s,
            "latency_p95_s": timings.p95_s,
        }
        for name, values in chunk.items():
            none = "_p" in name and not time_model.has_interval
            result[name] += [None] * len(values) if none else values.tolist()
        stacked = np.stack([timings.compute_s, timings.memory_s, timings.overhead_s])
        result["bound"] += [BOUNDS[index] for index in stacked.argmax(axis=0).tolist()]
    return result


def rows_of(table: ShapeTable, times: Mapping[str, Sequence[Any]]) -> tuple[list[str], Iterator[tuple[Any, ...]]]:
    """Header and rows of the file with the times appended; a column of the file by the name of a time gives way."""
    kept = {name: values for name, values in table.columns.items() if name not in times}
    return [*kept, *times], zip(*kept.values(), *times.values(), strict=True)


def _gemms(shape: Ints, dtype: DType) -> OpColumns:
    m, n, k = shape
    flops, read, written = gemm_work(m, n, k, dtype.bits // 8, _result_bytes(dtype))
    ops = _columns("gemm", flops, np.zeros_like(m), n * k * (dtype.bits // 8) + read + written, m=m, n=n, k=k)
    return replace(ops, fp8=np.ones(len(m), dtype=np.bool_)) if dtype is DType.FP8 else ops


def _result_bytes(dtype: DType) -> int:
    """Of an element of a GEMM's result, and of attention's inputs: with fp8 GEMMs, 16 bits stand between them."""
    return 2 if dtype is DType.FP8 else dtype.bits // 8


def _attention(shape: Ints, dtype: DType) -> OpColumns:
    sizes = _attention_shape(shape)
    work = attention_work(sizes, causal_pairs(sizes.q_len, sizes.kv_len), _result_bytes(dtype))
    return _columns("attention", work.flops, work.vector_flops, work.hbm_bytes, attention=np.stack(sizes, axis=-1))


def _attention_shape(columns: Iterable[Count]) -> AttentionShape[Count]:
    """From rows in the order of ATTENTION_COLUMNS, whose third are the past positions."""
    batch, q_len, past, heads, kv_heads, head_dim = columns
    return AttentionShape(batch, q_len, q_len + past, heads, kv_heads, head_dim)


def _columns(kind: str, flops: Ints, vector_flops: Ints, moved: Ints, **more: Ints) -> OpColumns:
    zero = np.zeros_like(flops)
    return OpColumns(
        kind=kind,
        m=more.get("m", zero),
        n=more.get("n", zero),
        k=more.get("k", zero),
        executed_flops=flops,
        vector_flops=vector_flops,
        hbm_bytes=moved,
        kernels=np.ones_like(flops),
        attention=more.get("attention"),
    )


def _check_size(shape: Ints, ops: OpColumns, start: int) -> None:
    """FLOPs again in floating point, where they cannot wrap around."""
    exact = shape.astype(np.float64)
    if len(shape) == len(GEMM_COLUMNS):
        m, n, k = exact
        work = gemm_work(m, n, k, 1)[0]
    else:
        sizes = _attention_shape(exact)
        work = attention_work(sizes, sizes.q_len * sizes.kv_len, 1).flops
    if (work > _MAX_WORK).any():
        row = start + int((work > _MAX_WORK).argmax())
        raise InputError(
            f"row {row + 1} is too large to count", value=f"{work.max():.3g} FLOPs", allowed=f"up to {_MAX_WORK:.2g}"
        )
