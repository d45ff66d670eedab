"""A folder of measured operations: one CSV file per kind and a tables.json that says where they come from.

gemm.csv has m, n, k, latency_us; attention.csv has batch_size, q_len, past_len, num_heads, num_key_value_heads,
head_dim, latency_us; streams.csv has kind, bytes, latency_us of kernels that only move data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from costmodel.files.write import write_file
from costmodel.forward.workload import Runtime
from costmodel.timing.calibration.shaped import FormKind
from costmodel.units import DType
from validate.calibration.streams import StreamTable
from validate.calibration.tables import ATTENTION_COLUMNS, GEMM_COLUMNS, TIME, OpTable, read_columns, read_tables
from validate.errors import RecordError

SCHEMA = 1
MANIFEST = "tables.json"
STREAM_COLUMNS = ("kind", "bytes", TIME)


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What tables.json holds."""

    schema: int = SCHEMA
    hardware: str
    """Name of the profile of the device measured."""
    dtype: str
    runtimes: list[str]
    """Ways of running that the times hold for."""
    provenance: list[dict[str, Any]]
    """One entry per source: classes, source, licence, method, points."""
    host_launch_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeasuredOps:
    """A folder's content."""

    manifest: Manifest
    tables: Mapping[FormKind, OpTable]
    streams: Sequence[StreamTable] = field(default_factory=tuple)

    @property
    def dtype(self) -> DType:
        return DType(self.manifest.dtype)

    @property
    def runtimes(self) -> list[Runtime]:
        return [Runtime(each) for each in self.manifest.runtimes]


def write_ops(folder: Path, ops: MeasuredOps) -> None:
    """Write the folder, the manifest last.

    Raises:
        InputError: when it cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    gemm = ops.tables.get("gemm")
    if gemm is not None:
        _write(folder / "gemm.csv", GEMM_COLUMNS, gemm.shape, gemm.seconds)
    attention = [ops.tables[kind] for kind in ("prefill", "decode") if kind in ops.tables]
    if attention:
        shape = np.concatenate([table.shape for table in attention], axis=1)
        shape[2] -= shape[1]  # kv_len -> past_len
        _write(folder / "attention.csv", ATTENTION_COLUMNS, shape, np.concatenate([t.seconds for t in attention]))
    if ops.streams:
        lines = [",".join(STREAM_COLUMNS)]
        for table in ops.streams:
            lines += [f"{table.kind},{b:.0f},{1e6 * s:.6g}" for b, s in zip(table.moved, table.seconds, strict=True)]
        write_file(folder / "streams.csv", ("\n".join(lines) + "\n").encode())
    write_file(folder / MANIFEST, json.dumps(msgspec.to_builtins(ops.manifest), indent=1).encode() + b"\n")


def read_ops(folder: Path) -> MeasuredOps:
    """Read a folder that `write_ops` wrote.

    Raises:
        RecordError: when a file is missing, malformed or of another schema.
    """
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
        found = MeasuredOps(manifest=manifest, tables=read_tables(folder), streams=read_streams(folder))
        if manifest.schema != SCHEMA:
            raise RecordError(f"{path}: schema", value=manifest.schema, allowed=str(SCHEMA))
        _ = found.dtype, found.runtimes
    except OSError as error:
        raise RecordError("cannot read measured operations", value=str(path), hint=error.strerror or "") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise RecordError(f"{path}: not a list of measured operations", hint=str(error)) from error
    return found


def read_streams(folder: Path) -> tuple[StreamTable, ...]:
    """The tables of streams.csv by class; none where there is no such file."""
    path = folder / "streams.csv"
    if not path.is_file():
        return ()
    columns = read_columns(path)
    if not set(STREAM_COLUMNS) <= set(columns):
        raise RecordError(f"{path}: columns", value=", ".join(columns), allowed=", ".join(STREAM_COLUMNS))
    kinds = np.asarray(columns["kind"])
    try:
        moved = np.array(columns["bytes"], dtype=np.float64)
        seconds = np.array(columns[TIME], dtype=np.float64) * 1e-6
    except ValueError as error:
        raise RecordError(f"{path}: not a table of numbers", hint=str(error)) from error
    if not (np.isfinite(moved).all() and np.isfinite(seconds).all() and (moved > 0).all() and (seconds > 0).all()):
        raise RecordError(f"{path}: bytes and {TIME}", allowed="finite numbers above zero")
    return tuple(
        StreamTable(kind=str(kind), moved=moved[kinds == kind], seconds=seconds[kinds == kind])
        for kind in dict.fromkeys(kinds.tolist())
    )


def _write(path: Path, names: Sequence[str], shape: Any, seconds: Any) -> None:
    lines = [",".join((*names, TIME))]
    for row, value in zip(shape.T.astype(np.int64).tolist(), (1e6 * seconds).tolist(), strict=True):
        lines.append(",".join([*map(str, row), f"{value:.6g}"]))
    write_file(path, ("\n".join(lines) + "\n").encode())
