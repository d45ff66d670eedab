"""Exact minimisation of a weighted sum over sites with interactions between neighbouring layers, for many weights.

Viterbi's algorithm over layers; a layer's state is the largest state of its sites. Given the layer's state b, each site
takes its cheapest choice of state at most b, and one of them, the one that loses least, a choice of state exactly b.
"""

from __future__ import annotations

import numpy as np

from costmodel.arrays import Choices, Floats, Ints
from costmodel.explore.by_site.problem import Functional, SiteProblem

_BLOCK = 1 << 21


def minimise(problem: SiteProblem, first: Functional, second: Functional, weights: Floats) -> tuple[Floats, Choices]:
    """Minimum of first + weight x second for each weight.

    Args:
        problem: the sites' choices.
        first, second: what is weighed.
        weights: float64 (n,), at least 0, finite.

    Returns:
        The minima, float64 (n,), to rounding, and choices that attain them, int64 (n, layers, tensors).
    """
    values = [problem.values(each) for each in (first, second)]
    links = [problem.links(each) for each in (first, second)]
    offsets = [problem.offset(each) for each in (first, second)]
    step = max(1, _BLOCK // problem.open.size)
    minima, choices = [], []
    for start in range(0, len(weights), step):
        some = weights[start : start + step]
        mixed = values[0] + some[:, None, None, None] * np.where(problem.open, values[1], 0.0)
        joined = links[0] + some[:, None, None, None] * links[1]
        lowest, chosen = _viterbi(problem, mixed, joined)
        minima.append(lowest + offsets[0] + some * offsets[1])
        choices.append(chosen)
    return np.concatenate(minima), np.concatenate(choices)


def _viterbi(problem: SiteProblem, values: Floats, links: Floats) -> tuple[Floats, Choices]:
    """Values (n, layers, tensors, choices) and links (n, layers - 1, states, states) to minima and choices."""
    count, layers = values.shape[:2]
    states = problem.num_states
    if states == 1:
        choices: Choices = values.argmin(axis=-1)
        return np.take_along_axis(values, choices[..., None], -1).sum(axis=(1, 2, 3)), choices
    node = np.empty((states, count, layers))
    taken = np.empty((states, *values.shape[:3]), dtype=np.int64)
    for state in range(states):
        node[state], taken[state] = _in_state(problem, values, state)
    best = node[:, :, 0]
    came = np.zeros((layers, states, count), dtype=np.int64)
    for layer in range(1, layers):
        through = best[:, None] + links[:, layer - 1].transpose(1, 2, 0)
        came[layer] = through.argmin(axis=0)
        best = np.take_along_axis(through, came[layer][None], 0)[0] + node[:, :, layer]
    state_of = best.argmin(axis=0)
    minima = np.take_along_axis(best, state_of[None], 0)[0]
    found: Choices = np.empty(values.shape[:3], dtype=np.int64)
    rows = np.arange(count)
    for layer in range(layers - 1, -1, -1):
        found[:, layer] = taken[state_of, rows, layer]
        state_of = came[layer][state_of, rows]
    return minima, found


def _in_state(problem: SiteProblem, values: Floats, state: int) -> tuple[Floats, Ints]:
    """Cheapest choices of layers whose largest state is `state`: costs (n, layers), choices (n, layers, tensors)."""
    below = np.where(problem.state <= state, values, np.inf)
    taken = below.argmin(axis=-1)
    cost = np.take_along_axis(below, taken[..., None], -1)[..., 0]
    exact = np.where(problem.state == state, values, np.inf)
    forced = exact.argmin(axis=-1)
    loss = np.take_along_axis(exact, forced[..., None], -1)[..., 0] - cost
    where = loss.argmin(axis=-1)[..., None]
    np.put_along_axis(taken, where, np.take_along_axis(forced, where, -1), -1)
    return cost.sum(axis=-1) + np.take_along_axis(loss, where, -1)[..., 0], taken
