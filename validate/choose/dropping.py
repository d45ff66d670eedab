"""Layers to leave out: the usual rules, and greedily by measured loss. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from costmodel.decomposition.factors import Decomposition

MOST = 8
"""Layers that are dropped at most."""

AT_ONCE = 4
"""Sets that are measured together: the workers of a cluster share them."""

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
    least beside those removed before. The latter two are chosen by measured loss, not by a stand-in for it, but what
    cannot be the least is not measured where removing a layer adds at least as much to a larger set as it did to a
    smaller one (lazy evaluation: Minoux 1978, "Accelerated greedy algorithms"). Where a model breaks that rule, a set
    may be found that loses a little more than the least; its loss is a measured one all the same.

    Args:
        layers: of the model.
        measure: measures configurations.
    """
    most = min(layers // 2, MOST)
    if not most:
        return []
    found: list[Dropping] = []
    losses = Losses(measure)
    singles = [(layer,) for layer in range(layers)]
    losses.measure([(), *singles])
    alone = added = [losses[each] - losses[()] for each in singles]
    least: dict[tuple[int, ...], float] = {(): losses[()]}  # what blocks lose at least
    gone: tuple[int, ...] = ()
    for count in range(1, most + 1):
        late = tuple(range(layers - 1 - count, layers - 1))
        losses.measure([late])
        blocks = [tuple(range(first, first + count)) for first in range(layers - count + 1)]
        known = {**least, **losses}
        least = {each: max(known[each[1:]] + alone[each[0]], known[each[:-1]] + alone[each[-1]]) for each in blocks}
        block = losses.least(least)
        steps = {tuple(sorted((*gone, layer))): layer for layer in range(layers) if layer not in gone}
        before = losses[gone]
        gone = losses.least({step: before + added[layer] for step, layer in steps.items()})
        added = list(added)
        for step, layer in steps.items():
            if step in losses:
                added[layer] = losses[step] - before
        rules = {"late": late, "block": block, "greedy": gone}
        found += [Dropping(rule=rule, layers=each) for rule, each in rules.items()]
    return found


class Losses(dict[tuple[int, ...], float]):
    """Measured losses of sets of dropped layers."""

    def __init__(self, measure: Measure) -> None:
        super().__init__()
        self._measure = measure

    def measure(self, sets: Sequence[tuple[int, ...]]) -> None:
        """Measure what has no loss yet."""
        new = [each for each in sets if each not in self]
        if new:
            self.update(zip(new, self._measure([_drop(each) for each in new]), strict=True))

    def least(self, bounds: Mapping[tuple[int, ...], float]) -> tuple[int, ...]:
        """The set of least loss; measured are those of low bounds first, until none left can be less.

        Args:
            bounds: what each set loses at least.
        """
        waiting = sorted(bounds, key=bounds.__getitem__)
        while True:
            self.measure(waiting[:AT_ONCE])
            waiting = waiting[AT_ONCE:]
            best = min((each for each in bounds if each in self), key=self.__getitem__)
            if not waiting or self[best] <= bounds[waiting[0]]:
                return best


def _drop(layers: Sequence[int]) -> Decomposition:
    return Decomposition(dropped=frozenset(layers))
