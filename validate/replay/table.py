"""Somebody else's measured table: rows of layers factored whole at one rank, with their latency, energy and memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from costmodel.errors import InputError
from costmodel.files.table import Table, read_table

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
_WHOLE = re.compile(r"\d{1,6}", re.ASCII)
_MOST = 999_999
_SMALL, _LARGE = 1e-9, 1e12
"""Bounds of what is measured, in the units of its column."""


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


def read_benchmarks(path: str | Path) -> tuple[Benchmark, ...]:
    """Read and check a CSV or Parquet file with the columns of COLUMNS.

    Raises:
        InputError: when it cannot be read, lacks a column, or a cell is no number in its range; the row is named.
    """
    table = read_table(Path(path), InputError)
    table.require(COLUMNS)
    rows = _rows(table)
    batches = table.numbers("batch_size", 1, _MOST, whole=True)
    grouped: dict[str, list[tuple[int, TableRow]]] = {}
    for place, row in enumerate(rows):
        grouped.setdefault(table.cell("benchmark", place).text(), []).append((int(batches[place]), row))
    return tuple(_benchmark(name, members, str(path)) for name, members in grouped.items())


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


def _rows(table: Table) -> list[TableRow]:
    reduction = table.numbers("param_reduction_pct", 0, 100)
    latency, energy, memory, power = (table.numbers(name, _SMALL, _LARGE) for name in COLUMNS[5:9])
    utilisation = table.numbers("gpu_utilisation_pct", _SMALL, 100)
    return [
        TableRow(
            layers=layers,
            rank=rank,
            param_reduction_pct=float(reduction[place]),
            latency_s=float(latency[place]),
            energy_j=float(energy[place]),
            memory_bytes=float(memory[place]) * MIB,
            power_w=float(power[place]),
            utilisation=float(utilisation[place]) / 100,
        )
        for place, (layers, rank) in enumerate(_factored(table))
    ]


def _factored(table: Table) -> Iterator[tuple[tuple[int, ...], int]]:
    """Layers and rank of each row; none and 0 of a dense one."""
    for place in range(len(table)):
        layers, rank = table.cell("layers", place), str(table.cell("rank", place).value)
        words = str("" if layers.value is None else layers.value).split()
        if not all(map(_WHOLE.fullmatch, words)):
            raise layers.wrong(f"numbers of layers up to {_MOST:,} with blanks between them, or nothing")
        if words and (not _WHOLE.fullmatch(rank) or not int(rank)):
            raise table.cell("rank", place).wrong(f"a whole number from 1 to {_MOST:,}")
        yield tuple(map(int, words)), int(rank) if words else 0
