"""Times of bare operations as columns: GEMMs and attention by shape, from records, Parquet or CSV."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.files.table import Table, read_table
from costmodel.pricing.shapes import ATTENTION_COLUMNS, GEMM_COLUMNS, MAX_SIZE
from costmodel.timing.calibration.shaped import DIMENSIONS, FormKind, nominal_work, rows_of_work
from validate.errors import RecordError

Floats = npt.NDArray[np.float64]
TIME = "latency_us"
TIMES_US = (1e-3, 1e9)
"""The least and the longest time of an operation that is believed: a nanosecond, a quarter of an hour."""
MAX_WORK = float(1 << 58)
"""Multiplications of an operation, or bytes that one moves."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OpTable:
    """Measured operations of one kind.

    Attributes:
        kind: gemm, prefill or decode.
        shape: (dimensions, rows), in the order of DIMENSIONS.
        seconds: (rows,).
    """

    kind: FormKind
    shape: Floats
    seconds: Floats

    def __len__(self) -> int:
        return len(self.seconds)

    def take(self, rows: npt.NDArray[Any]) -> OpTable:
        """Some of the rows, by mask or index."""
        return OpTable(kind=self.kind, shape=self.shape[:, rows], seconds=self.seconds[rows])

    def work(self, element_bytes: int, output_bytes: int | None = None) -> tuple[Floats, Floats]:
        """FLOPs and bytes of each row; see `nominal_work`."""
        return nominal_work(self.kind, self.shape, element_bytes, output_bytes)

    def weight_bytes(self, element_bytes: int) -> Floats:
        """Bytes of each row's weight; GEMMs only."""
        return np.asarray(element_bytes * self.shape[1] * self.shape[2])

    def rows(self) -> Floats:
        """Rows of the work, the second axis of a spread."""
        return rows_of_work(self.kind, self.shape)

    def groups(self) -> npt.NDArray[np.int64]:
        """Number of the shape that a row shares with its like and that is held out as a whole: (n, k) of a GEMM,
        (num_heads, num_kv_heads, head_dim) of attention."""
        held = self.shape[1:] if self.kind == "gemm" else self.shape[3:]
        return np.unique(held.T, axis=0, return_inverse=True)[1].reshape(-1)

    def low_rank(self) -> npt.NDArray[np.bool_]:
        """Which rows are a factor of a low-rank weight: min(n, k) <= 512 and max(n, k) >= 2048."""
        if self.kind != "gemm":
            return np.zeros(len(self), dtype=np.bool_)
        _, n, k = self.shape
        return np.asarray((np.minimum(n, k) <= 512) & (np.maximum(n, k) >= 2048))


def read_tables(paths: Path | Iterable[Path]) -> dict[FormKind, OpTable]:
    """The operations of files, or of the .parquet and .csv files with known columns in folders, by kind.

    Raises:
        RecordError: when a file cannot be read, a table of known columns holds a value that is no number above zero, or
            nothing was found.
    """
    parts: dict[FormKind, list[OpTable]] = {kind: [] for kind in DIMENSIONS}
    for path in [paths] if isinstance(paths, Path) else list(paths):
        files = (
            sorted(each for each in path.glob("*") if each.suffix in (".parquet", ".csv")) if path.is_dir() else [path]
        )
        for file in files:
            for table in tables_of(read_table(file, RecordError)):
                parts[table.kind].append(table)
    found = {
        kind: OpTable(
            kind=kind,
            shape=np.concatenate([t.shape for t in tables], axis=1),
            seconds=np.concatenate([t.seconds for t in tables]),
        )
        for kind, tables in parts.items()
        if tables
    }
    if not found:
        raise RecordError("no times of operations found", allowed=f"columns {', '.join(GEMM_COLUMNS)}, {TIME}")
    return found


def tables_of(table: Table) -> list[OpTable]:
    """The tables that columns hold: one of GEMMs, or prefill and decode (q_len = 1); none where the names are others.

    Raises:
        RecordError: naming the row of a size that is no whole number up to MAX_SIZE, of a time beyond TIMES_US, of
            heads that share no whole number of keys, or of work beyond MAX_WORK.
    """
    names = next((each for each in (GEMM_COLUMNS, ATTENTION_COLUMNS) if {*each, TIME} <= set(table.columns)), None)
    if names is None:
        return []
    shape = np.array([table.numbers(name, 0 if name == "past_len" else 1, MAX_SIZE, whole=True) for name in names])
    seconds = table.numbers(TIME, *TIMES_US) * 1e-6
    if names is ATTENTION_COLUMNS:
        if (uneven := shape[3] % shape[4] != 0).any():
            raise table.cell("num_key_value_heads", int(uneven.argmax())).wrong("a divisor of num_heads")
        shape[2] += shape[1]  # past_len -> kv_len
    factors = shape if names is GEMM_COLUMNS else shape[[0, 1, 2, 3, 5]]
    if (large := factors.prod(axis=0) > MAX_WORK).any():
        raise table.cell(names[0], int(large.argmax())).wrong("sizes whose work fits 58 bits")
    if names is GEMM_COLUMNS:
        return [OpTable(kind="gemm", shape=shape, seconds=seconds)]
    one = shape[1] == 1
    whole = OpTable(kind="decode", shape=shape, seconds=seconds)
    prefill = OpTable(kind="prefill", shape=shape[:, ~one], seconds=seconds[~one])
    return [each for each in (prefill, whole.take(one)) if len(each)]
