"""Times of bare operations as columns: GEMMs and attention by shape, from records, Parquet or CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.timing.calibration.shaped import DIMENSIONS, FormKind, nominal_work, rows_of_work
from validate.errors import RecordError

Floats = npt.NDArray[np.float64]
GEMM_COLUMNS = ("m", "n", "k")
ATTENTION_COLUMNS = ("batch_size", "q_len", "past_len", "num_heads", "num_key_value_heads", "head_dim")
TIME = "latency_us"


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
            for table in tables_of(read_columns(file), str(file)):
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


def tables_of(columns: Mapping[str, Any], where: str) -> list[OpTable]:
    """The tables that columns hold: one of GEMMs, or prefill and decode (q_len = 1); none where the names are others.

    Raises:
        RecordError: when a value is no finite number above zero (past_len: not below zero).
    """
    if TIME not in columns:
        return []
    names: tuple[str, ...]
    if set(GEMM_COLUMNS) <= set(columns):
        names = GEMM_COLUMNS
    elif set(ATTENTION_COLUMNS) <= set(columns):
        names = ATTENTION_COLUMNS
    else:
        return []
    try:
        values = np.array([np.asarray(columns[name], dtype=np.float64) for name in (*names, TIME)])
    except (TypeError, ValueError) as error:
        raise RecordError(f"{where}: not a table of numbers", hint=str(error)) from error
    for name, column in zip((*names, TIME), values, strict=True):
        good = np.isfinite(column) & (column >= 0 if name == "past_len" else column > 0)
        if not good.all():
            row = int(np.flatnonzero(~good)[0])
            raise RecordError(f"{where}: {name} in row {row + 1}", value=float(column[row]), allowed="above zero")
    shape, seconds = values[:-1], values[-1] * 1e-6
    if names is GEMM_COLUMNS:
        return [OpTable(kind="gemm", shape=shape, seconds=seconds)]
    shape[2] += shape[1]  # past_len -> kv_len
    one = shape[1] == 1
    whole = OpTable(kind="decode", shape=shape, seconds=seconds)
    prefill = OpTable(kind="prefill", shape=shape[:, ~one], seconds=seconds[~one])
    return [table for table in (prefill, whole.take(one)) if len(table)]


def read_columns(path: Path) -> Mapping[str, Any]:
    """Columns of a .parquet or .csv file by name, those of a CSV file as texts.

    Raises:
        RecordError: when it cannot be read.
    """
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            table = pyarrow.parquet.read_table(path)
            return {name: table[name].to_numpy() for name in table.column_names}
        with path.open(newline="") as stream:
            reader = csv.reader(stream)
            header = next(reader, [])
            return dict(zip(header, zip(*reader, strict=True), strict=False))
    except (OSError, ValueError) as error:
        raise RecordError("cannot read times", value=str(path), hint=str(error)) from error
