"""The distribution of an uneven quality over the homogeneous space, on bins with a stated error.

Layer by layer each partial sum is rounded to the nearest bin, so a configuration's sum is off by at most half a bin per
layer. Counts are exact integers of the rounded sums as long as they fit 53 bits; beyond, to 15 digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Floats, Ints
from costmodel.explore.by_layer.quality import LayerQuality

BINS = 4096


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BinnedQuality:
    """Counts of sets of layers by pair and rounded quality.

    Attributes:
        lowest: ticks of bin 0.
        width: ticks of a bin.
        counts: float64 (pairs, bins): non-empty sets of layers.
        error: ticks by which a set's quality can differ from its bin.
    """

    lowest: int
    width: int
    counts: Floats
    error: int

    def at_most(self, ticks: float) -> tuple[Floats, Floats]:
        """For each pair a lower and an upper bound of the sets whose quality is at most `ticks`."""
        places = self.lowest + self.width * np.arange(self.counts.shape[1], dtype=np.float64)
        low = self.counts[:, places <= ticks - self.error].sum(axis=1)
        return low, self.counts[:, places <= ticks + self.error].sum(axis=1)


def binned(quality: LayerQuality, lowest: int, highest: int) -> BinnedQuality:
    """Count the sets of layers of every pair by quality.

    Args:
        quality: of chosen layers.
        lowest, highest: ticks between which every quality lies.
    """
    layers, pairs = quality.value.shape
    width = max(1, -(-(highest - lowest) // (BINS - 1)))
    margin = layers + 2  # bins by which rounding can leave the range
    lowest -= margin * width
    steps = _increments(quality)
    shift = steps.min(axis=1)
    cells = np.where(steps < _NONE, (2 * (steps - shift[:, None]) + width) // (2 * width), -1)
    offset = (2 * (shift.sum(axis=0) - lowest) + width) // (2 * width)
    counts = np.zeros((pairs, BINS + 2 * margin))
    width_of = counts.shape[1]
    room = width_of + max(0, -int(offset.min()))
    for pair in range(pairs):
        one = np.zeros((2, room))
        one[0, 0] = 1.0
        top = 1
        for layer in range(layers):
            four = cells[layer, :, pair].tolist()
            new = np.zeros((2, room))
            for place, (last, now) in enumerate(((0, 0), (1, 0), (0, 1), (1, 1))):
                if four[place] >= 0 and (layer or not last):
                    stop = min(room - four[place], top)
                    new[now, four[place] : four[place] + stop] += one[last, :stop]
            one, top = new, min(room, top + max(four))
        both = one.sum(axis=0)
        both[int(cells[:, 0, pair].sum())] -= 1  # the empty set
        start = int(offset[pair])
        source, target = max(0, -start), max(0, start)
        length = min(room - source, width_of - target)
        counts[pair, target : target + length] = both[source : source + length]
    return BinnedQuality(lowest=lowest, width=width, counts=counts, error=(layers + 2) * width // 2 + layers)


_NONE = 1 << 61


def _increments(quality: LayerQuality) -> Ints:
    """What a layer adds by its own choice and the one before, int64 (layers, 4, pairs); _NONE where that cannot be."""
    layers, pairs = quality.value.shape
    steps = np.full((layers, 4, pairs), _NONE, dtype=np.int64)
    steps[0, 0] = 0
    steps[1:, 0] = quality.stay[:, None]
    steps[1:, 1] = quality.leave
    chosen = quality.value
    steps[0, 2] = chosen[0]
    steps[1:, 2] = chosen[1:] + quality.enter
    steps[1:, 3] = chosen[1:] + quality.both
    steps[~quality.free, 2:] = _NONE
    steps[1:, 1][~quality.free[:-1]] = _NONE
    steps[1:, 3][~quality.free[:-1]] = _NONE
    return steps
