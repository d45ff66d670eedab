"""What is tried of a model whose layers have different tensors, where no exact search over sets of layers is at hand.

For each tensor name, each group of them, all, and all but one: each candidate rank, in the layers that it damages the
least, a few numbers of them from one to all that have such a tensor.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from costmodel.arrays import Choices, Ints
from costmodel.explore.quality import QualityTable
from costmodel.model import ModelSpec
from costmodel.space.base import DesignSpace

COUNTS = 12
"""Numbers of layers that are tried, about evenly spaced."""


def prefixes(space: DesignSpace, damage: QualityTable) -> Choices:
    """Configurations to price, int64 (n, layers, tensors), the dense one first."""
    found = [np.zeros(space.free.shape, dtype=np.int64)]
    for columns in _sets(space.model):
        free = space.free[:, columns]
        for rank in range(1, 1 + space.possible.shape[1]):
            chosen = free & space.possible[columns, rank - 1]
            layers = np.flatnonzero(chosen.any(axis=1))
            harm = (damage.value[:, columns, rank] * chosen).sum(axis=1)
            layers = layers[np.argsort(harm[layers], kind="stable")]
            for count in np.unique(np.linspace(1, len(layers), COUNTS).astype(int)) if len(layers) else ():
                choices = np.zeros(space.free.shape, dtype=np.int64)
                rows = layers[:count]
                choices[np.ix_(rows, columns)] = chosen[rows] * rank
                found.append(choices)
    return np.stack(found)


def _sets(model: ModelSpec) -> Iterator[Ints]:
    """Columns of the sets of tensors that are tried, each set once."""
    names, groups = ([getattr(tensor, key) for tensor in model.tensors] for key in ("name", "group"))
    every = np.arange(len(names))
    sets = [[column for column in every if kinds[column] == kind] for kinds in (names, groups) for kind in set(kinds)]
    sets += [[column for column in every if names[column] != name] for name in set(names)]
    for columns in sorted({tuple(map(int, each)) for each in [*sets, list(every)] if each}):
        yield np.array(columns)
