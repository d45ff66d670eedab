"""Multiple-choice knapsack on a grid: the best second objective for every amount of the first, within a proven bound.

Each choice's amount of the first objective is rounded down to a whole number of bins, and the program over sites is
exact for the rounded amounts. A configuration's true amount is less than `sites` bins above its rounded one, so for
every configuration the grid holds one that is no worse in the second objective and less than `sites` bins worse in the
first; and read the other way, the grid bounds the first objective from below. Layers interact through their states in
the second objective; what they can take off the first is taken off its bound at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Choices, Floats, Ints
from costmodel.explore.by_site.problem import Functional, SiteProblem

WORK = 3_000_000_000
"""Updates of a bin by a choice that one run may take: sites x choices x states x bins."""
_MAX_BINS = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grid:
    """What the program found.

    Attributes:
        least: float64 (bins,): the lowest second objective with a rounded first of at most this many bins.
        origin, width: the first objective of bin b is origin + width x b, or more where layers interact in it.
        sites: number of sites, the bins by which rounding can be off.
        choices: int64 (n, layers, tensors): configurations along the frontier of the rounded problem.
    """

    least: Floats
    origin: float
    width: float
    sites: int
    choices: Choices

    def least_first(self, second: Floats) -> Floats:
        """A lower bound of the first objective among configurations whose second is at most `second`, float64 (m,)."""
        slack = np.abs(second) * 1e-13
        bins = np.searchsorted(-self.least, -(second + slack), side="left")
        return np.where(bins < len(self.least), self.origin + self.width * bins - abs(self.origin) * 1e-13, np.inf)


def grid(problem: SiteProblem, first: Functional, second: Functional, points: int, work: int = WORK) -> Grid:
    """Solve on as many bins as `work` allows and return up to `points` configurations of the frontier."""
    amounts, values = problem.values(first), problem.values(second)
    links = problem.links(second)
    states = problem.num_states
    low = amounts.min(axis=-1, keepdims=True)
    amounts = np.where(problem.open, amounts - low, 0.0)
    free = [tuple(site) for site in np.argwhere(problem.open.sum(axis=-1) > 1).tolist()]
    forced = low.sum() + problem.offset(first) + problem.links(first).min(axis=(1, 2)).sum()
    span = float(amounts.max(axis=-1).sum()) or 1.0
    updates = int(problem.open.sum()) * (2 * states if states > 1 else 1)
    bins = int(min(_MAX_BINS, max(256, work // max(1, updates))))
    width = span / (bins - 1)
    cells = np.floor(amounts / width * (1 - 1e-15)).astype(np.int64)
    run = _Run(problem, cells, values, links, bins)
    least, final = run.solve()
    steps = np.flatnonzero(np.append(True, least[1:] < least[:-1]) & np.isfinite(least))
    if len(steps) > points:
        # Even in the first objective, so that no stretch is bare, and both ends of a long step.
        after = np.searchsorted(steps, np.linspace(steps[0], steps[-1], points // 2))
        steps = steps[np.unique(np.concatenate([after, np.maximum(after - 1, 0)]))]
    return Grid(
        least=least + problem.offset(second),
        origin=float(forced),
        width=width,
        sites=len(free),
        choices=run.trace(steps, final[steps]),
    )


class _Run:
    """One run of the program: layer by layer, for each state of the layer, site by site.

    Within a layer of target state b a table has two rows: no site of state b yet, and one. Choices are kept to trace
    configurations back.
    """

    def __init__(self, problem: SiteProblem, cells: Ints, values: Floats, links: Floats, bins: int) -> None:
        self.problem, self.cells, self.values, self.links, self.bins = problem, cells, values, links, bins
        self.states = problem.num_states
        self.small = np.int16 if 2 * cells.shape[-1] <= 1 << 15 else np.int64
        self.taken: dict[tuple[int, int, int], Ints] = {}
        """(layer, state, tensor) -> int (2, bins): choice + choices x (row that it came from)."""
        self.came: list[Ints] = []
        """For each layer int8 (states, bins): state of the layer before."""

    def solve(self) -> tuple[Floats, Ints]:
        """Lowest value with at most so many bins, float64 (bins,), and the bin's code of its state and bin."""
        best = np.full((self.states, self.bins), np.inf)
        best[0] = 0.0
        for layer in range(self.cells.shape[0]):
            if layer == 0:
                entry = np.broadcast_to(best[0], best.shape)
                self.came.append(np.zeros(best.shape, dtype=np.int8))
            else:
                through = best[:, None] + self.links[layer - 1][:, :, None]
                self.came.append(through.argmin(axis=0).astype(np.int8))
                entry = through.min(axis=0)
            best = np.stack([self._layer(layer, state, entry[state]) for state in range(self.states)])
        return best.min(axis=0), best.argmin(axis=0)

    def _layer(self, layer: int, state: int, entry: Floats) -> Floats:
        """Best values after a layer whose largest state is `state`."""
        rows = np.full((2, self.bins), np.inf)
        rows[1 if state == 0 else 0] = entry
        for tensor in range(self.cells.shape[1]):
            options = np.flatnonzero(self.problem.open[layer, tensor])
            if len(options) == 1:
                continue
            new = np.full((2, self.bins), np.inf)
            taken = np.zeros((2, self.bins), dtype=self.small)
            for option in options.tolist():
                reached = 0 if self.states == 1 else int(self.problem.state[layer, tensor, option])
                if reached > state:
                    continue
                cell, value = int(self.cells[layer, tensor, option]), self.values[layer, tensor, option]
                for row in (0, 1) if state else (1,):
                    target = 1 if reached == state else row
                    candidate = rows[row, : self.bins - cell] + value
                    better = candidate < new[target, cell:]
                    np.copyto(new[target, cell:], candidate, where=better)
                    np.copyto(taken[target, cell:], option + self.cells.shape[-1] * row, where=better)
            self.taken[layer, state, tensor] = taken if state else np.broadcast_to(taken[1].copy(), taken.shape)
            rows = new
        last: Floats = rows[1]
        return last

    def trace(self, bins: Ints, state: Ints) -> Choices:
        """Choices of the configurations that end in these bins and states, int64 (n, layers, tensors)."""
        layers, tensors, width = self.cells.shape
        found: Choices = np.zeros((len(bins), layers, tensors), dtype=np.int64)
        bins, state = bins.copy(), state.copy()
        for layer in range(layers - 1, -1, -1):
            row = np.ones(len(bins), dtype=np.int64)
            for tensor in range(tensors - 1, -1, -1):
                for each in np.unique(state).tolist():
                    taken = self.taken.get((layer, each, tensor))
                    if taken is not None:
                        mine = state == each
                        row[mine], found[mine, layer, tensor] = np.divmod(taken[row[mine], bins[mine]], width)
                bins = bins - self.cells[layer, tensor, found[:, layer, tensor]]
            state = self.came[layer][state, bins].astype(np.int64)
        return found
