"""Layers to leave out: the usual rules, and greedily by measured loss. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from costmodel.decomposition.factors import Decomposition

MOST = 8
"""Layers that are dropped at most."""

Measure = Callable[[Sequence[Decomposition]], Sequence[float]]
"""Losses of configurations, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropping:
    """Layers that a rule leaves out.

    Attributes:
        rule: late, block or greedy.
        layers: in ascending order.
    """

    rule: str
    layers: tuple[int, ...]

    @property
    def config(self) -> Decomposition:
        """As a configuration."""
        return Decomposition(dropped=frozenset(self.layers))


def search_dropping(layers: int, measure: Measure) -> list[Dropping]:
    """For each number of layers from 1 to half of them or MOST: the late ones, the best block, and greedily one more.

    Late: the deepest layers but the last (Gromov et al. 2024, "The unreasonable ineffectiveness of the deeper layers",
    the simple rule). Block: of all consecutive ones those with the least loss. Greedy: the layer whose removal costs
    least beside those removed before. The latter two are chosen by measured loss, not by a stand-in for it.

    Args:
        layers: of the model.
        measure: measures configurations.
    """
    found: list[Dropping] = []
    gone: tuple[int, ...] = ()
    for count in range(1, min(layers // 2, MOST) + 1):
        found.append(Dropping(rule="late", layers=tuple(range(layers - 1 - count, layers - 1))))
        blocks = [tuple(range(first, first + count)) for first in range(layers - count + 1)]
        steps = [tuple(sorted((*gone, layer))) for layer in range(layers) if layer not in gone]
        choices = list(dict.fromkeys([*blocks, *steps, found[-1].layers]))
        losses = dict(zip(choices, measure([_drop(each) for each in choices]), strict=True))
        found.append(Dropping(rule="block", layers=min(blocks, key=losses.__getitem__)))
        gone = min(steps, key=losses.__getitem__)
        found.append(Dropping(rule="greedy", layers=gone))
    return found


def _drop(layers: Sequence[int]) -> Decomposition:
    return Decomposition(dropped=frozenset(layers))
