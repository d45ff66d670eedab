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

from costmodel.files.node import Node
from costmodel.files.read import read_json
from costmodel.files.table import read_table
from costmodel.files.write import write_file
from costmodel.forward.workload import Runtime
from costmodel.pricing.shapes import ATTENTION_COLUMNS, GEMM_COLUMNS
from costmodel.timing.calibration.file import STREAM_KINDS
from costmodel.timing.calibration.shaped import FormKind
from costmodel.units import COMPUTE_DTYPES, DType
from validate.calibration.streams import StreamTable
from validate.calibration.tables import MAX_WORK, TIME, TIMES_US, OpTable, read_tables
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
    module_launch_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeasuredOps:
    """A folder's content."""

    manifest: Manifest
    tables: Mapping[FormKind, OpTable]
    streams: Sequence[StreamTable] = field(default_factory=tuple)

    @property
    def dtype(self) -> DType:
        return DType(self.manifest.dtype)


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
    write_file(
        folder / MANIFEST, json.dumps(msgspec.to_builtins(ops.manifest), indent=1, allow_nan=False).encode() + b"\n"
    )


def read_ops(folder: Path) -> MeasuredOps:
    """Read a folder that `write_ops` wrote.

    Raises:
        RecordError: when a file is missing, malformed or of another schema.
    """
    return MeasuredOps(manifest=_manifest(folder), tables=read_tables(folder), streams=read_streams(folder))


def _manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    content = Node(str(path), read_json(path, "list of measured operations", RecordError), RecordError)
    part = content.entries(["schema", "hardware", "dtype", "runtimes", "provenance"])
    if part["schema"].integer(0, 10**6) != SCHEMA:
        raise part["schema"].wrong(str(SCHEMA))
    host, modules = part.get("host_launch_s"), part.get("module_launch_s")
    return Manifest(
        hardware=part["hardware"].text(),
        dtype=part["dtype"].choice([each.value for each in COMPUTE_DTYPES]),
        runtimes=[each.choice([way.value for way in Runtime]) for each in part["runtimes"].items(1)],
        provenance=[{key: each.value for key, each in entry.entries().items()} for entry in part["provenance"].items()],
        host_launch_s=None if host is None or host.value is None else host.number(0, 1),
        module_launch_s=None if modules is None or modules.value is None else modules.number(1e-9, 1),
    )


def read_streams(folder: Path) -> tuple[StreamTable, ...]:
    """The tables of streams.csv by class; none where there is no such file."""
    path = folder / "streams.csv"
    if not path.is_file():
        return ()
    table = read_table(path, RecordError)
    table.require(STREAM_COLUMNS)
    kinds = np.array([table.cell("kind", row).choice(STREAM_KINDS) for row in range(len(table))])
    moved, seconds = table.numbers("bytes", 1, MAX_WORK), table.numbers(TIME, *TIMES_US) * 1e-6
    return tuple(
        StreamTable(kind=str(kind), moved=moved[kinds == kind], seconds=seconds[kinds == kind])
        for kind in dict.fromkeys(kinds.tolist())
    )


def _write(path: Path, names: Sequence[str], shape: Any, seconds: Any) -> None:
    lines = [",".join((*names, TIME))]
    for row, value in zip(shape.T.astype(np.int64).tolist(), (1e6 * seconds).tolist(), strict=True):
        lines.append(",".join([*map(str, row), f"{value:.6g}"]))
    write_file(path, ("\n".join(lines) + "\n").encode())
