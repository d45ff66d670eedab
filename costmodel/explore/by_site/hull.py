"""Supported points of two objectives, and the lower bound that they prove.

Each weight has a configuration that minimises the weighted sum; the line through it bounds every configuration from
below. Weights are refined between neighbours until nothing new appears (Aneja and Nair, "Bicriteria transportation
problem", Management Science 25(1), 1979). Between neighbours configurations are filled in by switching one site after
another; without interactions those lie on the line and are optimal too.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Choices, Floats, Ints
from costmodel.explore.by_site.chain import minimise
from costmodel.explore.by_site.problem import Functional, SiteProblem

MAX_POINTS = 2048
_ROUNDS = 24


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hull:
    """Supporting lines `first + weight x second >= minimum` and the configurations on them.

    Attributes:
        weights, minima: float64 (n,), ascending weights.
        choices: int64 (n, layers, tensors).
    """

    weights: Floats
    minima: Floats
    choices: Choices

    def least_first(self, second: Floats) -> Floats:
        """A lower bound of the first objective among configurations whose second is at most `second`, float64 (m,)."""
        bound = np.full(second.shape, -np.inf)
        for weight, minimum in zip(self.weights.tolist(), self.minima.tolist(), strict=True):
            np.maximum(bound, minimum - abs(minimum) * 1e-13 - weight * second, out=bound)
        return bound


def hull(problem: SiteProblem, first: Functional, second: Functional) -> Hull:
    """The supporting lines of two functionals, as many as matter or MAX_POINTS."""
    scale = span(problem, first) / max(span(problem, second), 1e-300)
    ends = np.array([scale * 1e-9, scale * 1e9])
    weights, (minima, choices) = ends, minimise(problem, first, second, ends)
    for _ in range(_ROUNDS):
        one, two = (evaluate(problem, each, choices) for each in (first, second))
        drop, gain = one[1:] - one[:-1], two[:-1] - two[1:]
        apart = (drop > 1e-12 * np.abs(one).max()) & (gain > 1e-12 * np.abs(two).max())
        between = np.where(apart, drop / np.where(apart, gain, 1.0), 0.0)
        fresh = apart & (between > weights[:-1] * (1 + 1e-12)) & (between < weights[1:] * (1 - 1e-12))
        new = between[fresh]
        if not len(new) or len(weights) + len(new) > MAX_POINTS:
            break
        lowest, chosen = minimise(problem, first, second, new)
        order = np.argsort(np.concatenate([weights, new]), kind="stable")
        weights = np.concatenate([weights, new])[order]
        minima = np.concatenate([minima, lowest])[order]
        choices = np.concatenate([choices, chosen])[order]
    return Hull(weights=weights, minima=minima, choices=choices)


def fill(problem: SiteProblem, choices: Choices, room: int) -> Choices:
    """Configurations between neighbours of a sequence, switching one site at a time in order of the layers.

    Args:
        choices: int64 (n, layers, tensors), neighbours on a frontier.
        room: about how many to return at most.
    """
    flat = choices.reshape(len(choices), -1)
    found = []
    steps = [np.flatnonzero(before != after) for before, after in itertools.pairwise(flat)]
    stride = max(1, -(-sum(map(len, steps)) // max(1, room)))
    for before, after, sites in zip(flat, flat[1:], steps, strict=False):
        for stop in range(stride, len(sites), stride):
            mixed = before.copy()
            mixed[sites[:stop]] = after[sites[:stop]]
            found.append(mixed)
    if not found:
        return choices
    return np.concatenate([choices, np.stack(found).reshape(-1, *choices.shape[1:])])


def span(problem: SiteProblem, functional: Functional) -> float:
    """How far a functional can vary, interactions included, roughly."""
    values = problem.values(functional)
    finite = np.where(np.isfinite(values), values, 0.0)
    links = problem.links(functional)
    sites = (finite.max(axis=-1) - finite.min(axis=-1)).sum()
    return float(sites + (links.max(axis=(1, 2)) - links.min(axis=(1, 2))).sum()) or 1.0


def evaluate(problem: SiteProblem, functional: Functional, choices: Choices) -> Floats:
    """A functional of configurations, float64 (n,)."""
    layers, tensors = np.ogrid[: choices.shape[1], : choices.shape[2]]
    total: Floats = problem.values(functional)[layers, tensors, choices].sum(axis=(1, 2)) + problem.offset(functional)
    links = problem.links(functional)
    if links.any():
        state: Ints = problem.state[layers, tensors, choices].max(axis=-1)
        total = total + links[np.arange(len(links)), state[:, :-1], state[:, 1:]].sum(axis=-1)
    return total
