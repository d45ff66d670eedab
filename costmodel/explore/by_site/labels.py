"""The exact per-site method: every sum of costs that nothing dominates, site by site. For small spaces.

A partial configuration that is no better in any coordinate than another with the same states can be dropped, since
every cost grows with its coordinates and both can be completed alike. What is left in the end holds the best
configuration for every growing objective and every set of limits on the worse side, unless a choice raises the peak of
live activations, which is no sum.
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


def exact_labels(problem: SiteProblem, coordinates: Sequence[Coordinate]) -> Choices | None:
    """Configurations whose coordinates nothing dominates, one for each point, or None where there are too many.

    Args:
        problem: the sites' choices.
        coordinates: sums to keep apart.

    Returns:
        int64 (n, layers, tensors).
    """
    layers, tensors, _ = problem.open.shape
    states = problem.num_states
    ticks = np.stack([problem.ticks(each) for each in coordinates], axis=-1).astype(np.float64)
    quality = coordinates.index(QUALITY) if QUALITY in coordinates else -1
    sums = np.zeros((1, len(coordinates)))
    before, state = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    history: list[tuple[int, Ints, Ints]] = []
    work = _WORK.get(len(coordinates), _HARD)
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
            if states > 1:
                state = np.maximum(state[parent], problem.state[layer, tensor, option])
                before = before[parent]
                kept = _prune(sums, before * states + state)
                state, before = state[kept], before[kept]
            else:
                kept = nondominated(sums)
            sums = sums[kept]
            history.append((layer * tensors + tensor, parent[kept], option[kept]))
        if states > 1 and problem.tables.quality is not None:
            if layer:
                sums[:, quality] += problem.tables.quality.interactions[layer - 1, before, state]
            kept = _prune(sums, state)
            history.append((-1, kept, kept))
            sums, before = sums[kept], state[kept]
            state = np.zeros_like(before)
    label = nondominated(sums)
    choices: Choices = np.zeros((len(label), layers * tensors), dtype=np.int64)
    for site, parent, option in reversed(history):
        if site >= 0:
            choices[:, site] = option[label]
        label = parent[label]
    return choices.reshape(-1, layers, tensors)


def _prune(sums: Floats, keys: Ints) -> Ints:
    """Positions of the labels that no other of the same key dominates."""
    kept = []
    for key in np.unique(keys).tolist():
        members = np.flatnonzero(keys == key)
        kept.append(members[nondominated(sums[members])])
    return np.concatenate(kept)
