"""The exact per-site method: every sum of costs that nothing dominates, site by site. For small spaces.

A partial configuration that is no better in any coordinate than another with the same states can be dropped, since
every cost grows with its coordinates and both can be completed alike. What is left in the end holds the best
configuration for every growing objective and every set of limits on the worse side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from costmodel.arrays import Choices, Floats, Ints
from costmodel.explore.by_site.problem import QUALITY, Coordinate, SiteProblem
from costmodel.explore.pareto import nondominated

_WORK = {1: 4_000_000, 2: 4_000_000}
"""Labels that may be compared in all by the number of coordinates, `_HARD` beyond two."""
_HARD = 200_000


def exact_labels(problem: SiteProblem, coordinates: Sequence[Coordinate], parts: Sequence[str]) -> Choices | None:
    """Configurations whose coordinates nothing dominates, one for each point, or None where there are too many.

    Args:
        problem: the sites' choices.
        coordinates: sums to keep apart.
        parts: phases whose peak of live bytes is kept apart too.

    Returns:
        int64 (n, layers, tensors).
    """
    layers, tensors, _ = problem.open.shape
    states = problem.num_states
    ticks = np.stack([problem.ticks(each) for each in coordinates], axis=-1).astype(np.float64)
    peaks = np.stack([np.zeros(problem.open.shape), *(problem.tables.parts[each].excess for each in parts)], axis=-1)
    quality = coordinates.index(QUALITY) if QUALITY in coordinates else -1
    sums, tops = np.zeros((1, len(coordinates))), np.zeros((1, peaks.shape[-1]))
    before, state = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    history: list[tuple[int, Ints, Ints]] = []
    work = _WORK.get(len(coordinates) + len(parts), _HARD)
    for layer in range(layers):
        for tensor in range(tensors):
            options = np.flatnonzero(problem.open[layer, tensor])
            if len(options) == 1:
                continue
            work -= len(sums) * len(options)
            if work < 0:
                return None
            parent = np.repeat(np.arange(len(sums)), len(options))
            option = np.tile(options, len(sums))
            sums = sums[parent] + ticks[layer, tensor, option]
            tops = np.maximum(tops[parent], peaks[layer, tensor, option])
            if states > 1:
                state = np.maximum(state[parent], problem.state[layer, tensor, option])
                before = before[parent]
                kept = _prune(sums, tops, before * states + state)
                state, before = state[kept], before[kept]
            else:
                kept = _prune(sums, tops, None)
            sums, tops = sums[kept], tops[kept]
            history.append((layer * tensors + tensor, parent[kept], option[kept]))
        if states > 1 and problem.tables.quality is not None:
            if layer:
                sums[:, quality] += problem.tables.quality.interactions[layer - 1, before, state]
            kept = _prune(sums, tops, state)
            history.append((-1, kept, kept))
            sums, tops, before = sums[kept], tops[kept], state[kept]
            state = np.zeros_like(before)
    at = _prune(sums, tops, None)
    choices: Choices = np.zeros((len(at), layers * tensors), dtype=np.int64)
    for site, parent, option in reversed(history):
        if site >= 0:
            choices[:, site] = option[at]
        at = parent[at]
    return choices.reshape(-1, layers, tensors)


def _prune(sums: Floats, tops: Floats, keys: Ints | None) -> Ints:
    """Positions of the labels that no other of the same key dominates."""
    rows = np.concatenate([sums, tops[:, 1:]], axis=1)
    if keys is None:
        return nondominated(rows)
    found = []
    for key in np.unique(keys).tolist():
        mine = np.flatnonzero(keys == key)
        found.append(mine[nondominated(rows[mine])])
    return np.concatenate(found)
