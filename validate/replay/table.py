"""Somebody else's measured table: rows of layers factored whole at one rank, with their latency, energy and memory."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from costmodel.errors import InputError

METRICS = ("latency_pct", "energy_pct", "memory_pct")
"""Savings against a benchmark's dense row, in percent of it."""
COLUMNS = (
    "layers",
    "rank",
    "benchmark",
    "batch_size",
    "param_reduction_pct",
    "latency_s_per_batch",
    "energy_j_per_batch_4gpu",
    "memory_mib_per_gpu",
    "power_w_4gpu",
    "gpu_utilisation_pct",
)
"""What a table must have; further columns are ignored. `layers` empty: the dense row."""
DEVICES = 4
"""Devices that share a power reading, as the columns' names say; batches run on each of them alone."""
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One measured run.

    Attributes:
        layers: those whose tensors were all factored; empty for the dense model.
        rank: of every factor; 0 for the dense model.
        param_reduction_pct: as printed in the table.
        latency_s: of one batch on one device.
        energy_j: of one batch, of all devices together.
        memory_bytes: in use on one device.
        power_w: mean of all devices together; with the latency a second look at the energy.
        utilisation: share of the time in which the device was busy, 0 to 1.
    """

    layers: tuple[int, ...]
    rank: int
    param_reduction_pct: float
    latency_s: float
    energy_j: float
    memory_bytes: float
    power_w: float
    utilisation: float

    @property
    def waiting_s(self) -> float:
        """Time of a batch in which the device idles: the harness's own work on the host."""
        return (1 - self.utilisation) * self.latency_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """The rows of one benchmark: the dense one, and the others in the order of the file."""

    name: str
    batch: int
    dense: TableRow
    rows: tuple[TableRow, ...]

    def measured(self, row: TableRow) -> dict[str, float]:
        """Savings of a row against the dense one, in percent."""
        pairs = (("latency_s", "latency_pct"), ("energy_j", "energy_pct"), ("memory_bytes", "memory_pct"))
        return {metric: 100 * (1 - getattr(row, name) / getattr(self.dense, name)) for name, metric in pairs}


def read_table(path: str | Path) -> tuple[Benchmark, ...]:
    """Read and check a CSV file with the columns of COLUMNS.

    Raises:
        InputError: when it cannot be read, lacks a column, or a cell is no number in its range; the line is named.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError("cannot read table", value=str(path), hint=error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise InputError("table is not text in UTF-8", value=str(path)) from error
    reader = csv.DictReader(text.splitlines())
    if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
        raise InputError(f"{path}: no column {missing[0]}", allowed=", ".join(COLUMNS))
    grouped: dict[str, list[tuple[int, TableRow]]] = {}
    for line, cells in enumerate(reader, start=2):
        batch, row = _row(cells, f"{path} line {line}")
        grouped.setdefault(cells["benchmark"], []).append((batch, row))
    if not grouped:
        raise InputError(f"{path}: no rows")
    return tuple(_benchmark(name, rows, str(path)) for name, rows in grouped.items())


def chosen(benchmarks: Iterable[Benchmark], names: str) -> tuple[Benchmark, ...]:
    """The benchmarks called by a list of names between commas.

    Raises:
        InputError: when a name is not in the table.
    """
    known = {benchmark.name: benchmark for benchmark in benchmarks}
    asked = [name.strip() for name in names.split(",")]
    if unknown := [name for name in asked if name not in known]:
        raise InputError("no such benchmark in the table", value=unknown[0], allowed=", ".join(known))
    return tuple(known[name] for name in dict.fromkeys(asked))


def _benchmark(name: str, rows: list[tuple[int, TableRow]], path: str) -> Benchmark:
    dense = [(batch, row) for batch, row in rows if not row.layers]
    if len(dense) != 1:
        raise InputError(f"{path}: benchmark {name} needs one dense row (empty layers)", value=len(dense))
    if len({batch for batch, _ in rows}) != 1:
        raise InputError(
            f"{path}: benchmark {name} has several batch sizes", value=sorted({batch for batch, _ in rows})
        )
    others = tuple(row for _, row in rows if row.layers)
    if not others:
        raise InputError(f"{path}: benchmark {name} has nothing but its dense row")
    return Benchmark(name=name, batch=dense[0][0], dense=dense[0][1], rows=others)


def _row(cells: Mapping[str, str | None], where: str) -> tuple[int, TableRow]:
    layers = tuple(_whole(word, f"{where}: layers", 0) for word in (cells["layers"] or "").split())
    positive = {name: _number(cells[name], f"{where}: {name}") for name in COLUMNS[5:]}
    if positive["gpu_utilisation_pct"] > 100:
        raise InputError(f"{where}: gpu_utilisation_pct", value=cells["gpu_utilisation_pct"], allowed="up to 100")
    row = TableRow(
        layers=layers,
        rank=_whole(cells["rank"], f"{where}: rank", 1) if layers else 0,
        param_reduction_pct=_number(cells["param_reduction_pct"], f"{where}: param_reduction_pct", zero=True),
        latency_s=positive["latency_s_per_batch"],
        energy_j=positive["energy_j_per_batch_4gpu"],
        memory_bytes=positive["memory_mib_per_gpu"] * MIB,
        power_w=positive["power_w_4gpu"],
        utilisation=positive["gpu_utilisation_pct"] / 100,
    )
    return _whole(cells["batch_size"], f"{where}: batch_size", 1), row


def _whole(text: str | None, where: str, least: int) -> int:
    if text is None or not (text.isascii() and text.isdigit() and least <= int(text) < 1 << 20):
        raise InputError(where, value=text, allowed=f"a whole number of at least {least}")
    return int(text)


def _number(text: str | None, where: str, *, zero: bool = False) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and (value > 0 or (zero and value == 0))):
        raise InputError(where, value=text, allowed="a finite number of at least 0" if zero else "a number above 0")
    return value
