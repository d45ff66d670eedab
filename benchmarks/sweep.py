"""The literal sweep, the oracle of the closed form: every configuration of a homogeneous space priced by itself.

It knows nothing of equal layers: the mask of layers of each number is cut into pieces, each piece looks up the sum of
its layers' own costs, and the sums go into a histogram. Numbers come in blocks of whole sets of layers, a row for each
set and a column for each pair (mask of tensors, rank), so that decoding is a shift and a mask per row. On the grid of
the tables (`tables`) sums are exact, so the histogram equals that of the closed form to the last configuration.
NumPy releases the interpreter's lock in these loops, so threads share the work.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Floats, Ints
from costmodel.errors import InputError
from costmodel.explore.objectives import Objective
from costmodel.explore.tables import COLUMN, CostTables
from costmodel.pricing.costs import COUNTS
from costmodel.space.kinds import HomogeneousSpace

_BLOCK = 1 << 15
"""Configurations at a time: their buffers stay in a core's cache."""
_TASK = 1 << 22
_ENTRIES = 1 << 16
"""Entries of one look-up table, so that the tables stay in a core's cache."""
_CELLS_PER_BIN = 100
_SLACK = 1e-3
"""How near to a bin's edge, in cells, a sum is decided from exact values; rounding moves it by far less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What a sweep counted.

    Attributes:
        counted: possible configurations that were priced.
        counts: of the bins.
        elapsed_s: wall time.
    """

    counted: int
    counts: tuple[int, ...]
    elapsed_s: float


def bin_counts(values: Floats | Ints, edges: Sequence[float] | Floats) -> Ints:
    """Values in each bin of `edges`, with the bins' rule; what a literal enumeration uses."""
    inner = np.asarray(edges)[1:-1]
    return np.bincount(np.searchsorted(inner, values, side="right"), minlength=len(inner) + 1)


class _Pricer:
    """Look-up tables of one objective: for each piece of the layer mask and each pair the sum over its layers.

    Sums are kept twice: exact ones, and ones in units of fine cells, of which there are a hundred per bin. Counting by
    cell needs no comparison; what falls into a cell at an edge of a bin, or near one, is counted from the exact sums.
    """

    def __init__(self, tables: CostTables, space: HomogeneousSpace, objective: Objective, edges: Floats) -> None:
        self.edges, self.pairs, self.valid = edges, len(space.pairs), space.valid_pairs
        self.part, names = _columns(tables, objective)
        table = tables.parts[self.part]
        launch = table.pricer.time_model.host_launch_s
        self.factors = [launch if name == "kernels" and len(names) > 1 else 1.0 for name in names]
        if names[0] not in COUNTS:
            self.factors[0] = table.quantum_s
        largest = max(int(np.abs(table.base).max()), 1)
        if largest >= 1 << 53:
            raise InputError("counts beyond 2^53 cannot be swept exactly", value=largest, hint="lower --batch")
        layers = [self._layers(tables, space, COLUMN[name]) for name in names]
        bases = [float(table.base[COLUMN[name]]) for name in names]
        bits = max(1, min(len(space.layers), max(1, _ENTRIES // max(1, len(self.valid))).bit_length() - 1))
        count = -(-len(space.layers) // bits)
        bits = -(-len(space.layers) // count)
        self.pieces = [(first, min(bits, len(space.layers) - first)) for first in range(0, len(space.layers), bits)]
        self.exact = [
            [_subsets(each[first : first + size], base if first == 0 else 0.0) for first, size in self.pieces]
            for each, base in zip(layers, bases, strict=True)
        ]
        bins = len(edges) - 1
        self.cells = bins * _CELLS_PER_BIN
        span = float(edges[-1] - edges[0])
        self.per_cell = self.cells / span if span > 0 else 0.0
        self.scaled = [
            [
                (lookup * factor - (edges[0] if place + first == 0 else 0.0)) * self.per_cell
                for first, lookup in enumerate(lookups)
            ]
            for place, (lookups, factor) in enumerate(zip(self.exact, self.factors, strict=True))
        ]
        if len(names) > 1:  # both sums are compared, so both start from the first edge
            self.scaled[1][0] = self.scaled[1][0] - edges[0] * self.per_cell
        inner = (edges[1:-1] - edges[0]) * self.per_cell
        near = np.concatenate([np.floor(inner - _SLACK), np.floor(inner + _SLACK)]).astype(np.int64)
        self.unsure = np.zeros(self.cells + 1, dtype=np.bool_)
        self.unsure[near] = True
        middles = edges[0] + (np.arange(self.cells + 1) + 0.5) / (self.per_cell or 1.0)
        self.bin_of_cell = np.clip(np.searchsorted(edges, middles, side="right") - 1, 0, bins - 1)

    def _layers(self, tables: CostTables, space: HomogeneousSpace, column: int) -> Floats:
        """What each layer by itself adds under each possible pair, float64 (layers, pairs), summed over its sites.

        The sums are integers below 2^53, hence exact.
        """
        pairs = space.pairs[self.valid]
        added = np.zeros((len(space.layers), len(pairs)))
        for place, tensor in enumerate(space.tensors.tolist()):
            sites = np.broadcast_to(tables.parts[self.part].delta[tensor, 1 + pairs[:, 1], column], added.shape)
            added += sites * (pairs[:, 0] >> place & 1)
        return added

    def count(self, start: int, stop: int) -> Ints:
        """The histogram of the possible ones of configurations `start` to `stop` - 1, which are not the dense one."""
        total = np.zeros(self.cells + 1, dtype=np.int64)
        sure = np.zeros(len(self.edges) - 1, dtype=np.int64)
        rows = max(1, _BLOCK // max(1, len(self.valid)))
        first, last = (start - 1) // self.pairs, (stop - 2) // self.pairs
        for row in range(first, last + 1, rows):
            subsets = np.arange(row, min(row + rows, last + 1), dtype=np.int64) + 1
            places = [subsets >> shift & (1 << size) - 1 for shift, size in self.pieces]
            values = self._sum(self.scaled, places, [1.0] * len(self.scaled)).ravel()
            if row == first or row + rows > last:  # the first and the last set of layers may be cut
                number = (subsets[:, None] - 1) * self.pairs + self.valid + 1
                inside = (number >= start) & (number < stop)
            else:
                inside = None
            cells = values.astype(np.int64)
            np.clip(cells, 0, self.cells, out=cells)
            odd = self.unsure.take(cells)
            if inside is not None:
                kept = inside.ravel()
                total += np.bincount(cells[kept], minlength=self.cells + 1)
                odd &= kept
            else:
                total += np.bincount(cells, minlength=self.cells + 1)
            if odd.any():
                exact = self._sum(self.exact, places, self.factors).ravel()[odd]
                total -= np.bincount(cells[odd], minlength=self.cells + 1)
                sure += bin_counts(exact, self.edges)
        return sure + np.bincount(self.bin_of_cell, weights=total, minlength=len(sure)).astype(np.int64)

    def _sum(self, lookups: list[list[Floats]], places: list[Ints], factors: list[float]) -> Floats:
        """The objective of sets of layers under every possible pair, float64 (sets, pairs)."""
        sums = []
        for pieces, factor in zip(lookups, factors, strict=True):
            value = pieces[0].take(places[0], axis=0)
            for lookup, place in zip(pieces[1:], places[1:], strict=True):
                value += lookup.take(place, axis=0)
            sums.append(value if factor == 1.0 else value * factor)
        return sums[0] if len(sums) == 1 else np.maximum(sums[0], sums[1], out=sums[0])


def _subsets(layers: Floats, base: float) -> Floats:
    """base + sums over every subset of some layers, float64 (2^layers, pairs)."""
    sums = np.full((1, layers.shape[1]), base)
    for layer in layers:
        sums = np.concatenate([sums, sums + layer])
    return sums


_PLAIN = ("params", "weight_bytes", "flops", "vector_flops", "hbm_bytes", "kernels", "device_s")
_WITH_HOST = {"latency_s": "device_s", "latency_lower_s": "lower_s", "latency_upper_s": "upper_s"}


def _columns(tables: CostTables, objective: Objective) -> tuple[str, list[str]]:
    """The part and the sums that an objective is made of: one, or a device time and the kernels."""
    if objective.part in tables.phases and not objective.saving:
        if objective.metric in _PLAIN:
            return objective.part, [objective.metric]
        if objective.metric in _WITH_HOST:
            launched = tables.parts[objective.part].pricer.time_model.host_launch_s > 0
            return objective.part, [_WITH_HOST[objective.metric], *(["kernels"] if launched else [])]
    raise InputError(
        "no literal sweep of this objective",
        value=objective.name,
        allowed=", ".join([*_PLAIN, *_WITH_HOST]) + " of a phase",
    )


def sweep(
    tables: CostTables,
    objective: Objective,
    edges: Floats,
    *,
    start: int = 0,
    stop: int | None = None,
    threads: int | None = None,
) -> Sweep:
    """Price configurations `start` to `stop` - 1 of a homogeneous space one by one and count them by bin.

    Args:
        tables: of the space.
        objective: a sum, or a latency (the larger of device and host time).
        edges: of the bins, equally wide; values outside go into the outer bins.
        start, stop: numbers of the configurations, the last one not included; the whole space by default.
        threads: the machine's cores by default.

    Raises:
        InputError: on another kind of space, an objective that is neither, or a range outside the space.
    """
    began = time.perf_counter()
    space = tables.space
    if not isinstance(space, HomogeneousSpace):
        raise InputError("a literal sweep needs the homogeneous space", value=space.kind)
    stop = space.size if stop is None else stop
    if not 0 <= start <= stop <= space.size or space.size >= 1 << 62:
        raise InputError("range outside the space or beyond 2^62", value=f"{start} to {stop}", allowed=str(space.size))
    pricer = _Pricer(tables, space, objective, edges)
    counts = np.zeros(len(edges) - 1, dtype=np.int64)
    firsts = range(max(start, 1), stop, _TASK)

    def work(first: int) -> Ints:
        return pricer.count(first, min(stop, first + _TASK))

    if start == 0 < stop:
        dense = np.asarray(objective.values(tables.dense), dtype=np.float64).reshape(1)
        counts += bin_counts(dense, edges)
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for part in pool.map(work, firsts):
            counts += part
    return Sweep(counted=int(counts.sum()), counts=tuple(counts.tolist()), elapsed_s=time.perf_counter() - began)
