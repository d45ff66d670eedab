"""Where the nodes of a small directed graph stand: rows from top to bottom, as Sugiyama, Tagawa and Toda lay them out
(IEEE Transactions on Systems, Man, and Cybernetics 11(2), 1981): rows by longest path, order by the mean of neighbours,
edges over several rows led through places of their own."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import networkx as nx

_SWEEPS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Centres of nodes in units of the given sizes, rows from 0 on, and the points that each edge runs through."""

    places: dict[str, tuple[float, int]]
    routes: dict[tuple[str, str], list[tuple[float, int]]]
    width: float
    rows: int


def rows_of(graph: nx.DiGraph[str]) -> dict[str, int]:
    """The row of each node: the longest path that leads to it.

    Args:
        graph: without cycles.
    """
    import networkx as nx

    rows: dict[str, int] = {}
    for node in nx.topological_sort(graph):
        rows[node] = max((rows[before] + 1 for before in graph.predecessors(node)), default=0)
    return rows


def layout(graph: nx.DiGraph[str], node_width: float, lane_width: float) -> Layout:
    """Place the nodes of a graph without cycles; neighbours in a row are as far apart as their widths need.

    Args:
        graph: nodes in the order in which a row should prefer them.
        node_width: of a node, its margin included.
        lane_width: of an edge that passes a row.
    """
    rows = rows_of(graph)
    count = 1 + max(rows.values(), default=-1)
    grid: list[list[str]] = [[] for _ in range(count)]
    links: list[tuple[str, str]] = []
    chains: dict[tuple[str, str], list[str]] = {}
    width: dict[str, float] = dict.fromkeys(graph, node_width)
    for node in graph:
        grid[rows[node]].append(node)
    for source, target in graph.edges:
        lanes = [f"{source}>{target}>{row}" for row in range(rows[source] + 1, rows[target])]
        for place, lane in enumerate(lanes, rows[source] + 1):
            grid[place].append(lane)
            width[lane] = lane_width
        chains[source, target] = [source, *lanes, target]
        links += itertools.pairwise(chains[source, target])
    above: dict[str, list[str]] = {node: [] for node in width}
    below: dict[str, list[str]] = {node: [] for node in width}
    for source, target in links:
        above[target].append(source)
        below[source].append(target)
    x: dict[str, float] = {}
    for row in grid:
        _pack(row, [float(place) for place in range(len(row))], width, x)
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for row in grid[1:] if down else grid[-2::-1]:
            _settle(row, above if down else below, width, x, sort=sweep < _SWEEPS - 2)
    left = min((x[node] - width[node] / 2 for node in x), default=0.0)
    right = max((x[node] + width[node] / 2 for node in x), default=0.0)
    at = {node: (x[node] - left, row) for row, names in enumerate(grid) for node in names}
    return Layout(
        places={node: at[node] for node in graph},
        routes={edge: [at[node] for node in chain] for edge, chain in chains.items()},
        width=right - left,
        rows=count,
    )


def _settle(
    row: list[str],
    neighbours: Mapping[str, Sequence[str]],
    width: Mapping[str, float],
    x: dict[str, float],
    *,
    sort: bool,
) -> None:
    """Move a row's nodes towards the mean of their neighbours, in the order of those means where `sort`."""
    wanted = {node: _mean((x[other] for other in neighbours[node]), x[node]) for node in row}
    if sort:
        row.sort(key=wanted.__getitem__)
    _pack(row, [wanted[node] for node in row], width, x)


def _mean(values: Iterable[float], default: float) -> float:
    found = list(values)
    return sum(found) / len(found) if found else default


def _pack(row: Sequence[str], wanted: Sequence[float], width: Mapping[str, float], x: dict[str, float]) -> None:
    """Give a row's nodes the places nearest to those wanted at which none overlap: runs of touching nodes stand where
    the mean of their wishes is (pool adjacent violators)."""
    runs: list[tuple[list[str], float, float]] = []  # nodes, sum of wishes for the run's left edge, breadth
    for node, wish in zip(row, wanted, strict=True):
        run = ([node], wish - width[node] / 2, width[node])
        while runs and runs[-1][1] / len(runs[-1][0]) + runs[-1][2] > run[1] / len(run[0]):
            before, edge, breadth = runs.pop()
            run = (before + run[0], edge + run[1] - len(run[0]) * breadth, breadth + run[2])
        runs.append(run)
    for nodes, edges, _ in runs:
        at = edges / len(nodes)
        for node in nodes:
            x[node] = at + width[node] / 2
            at += width[node]
