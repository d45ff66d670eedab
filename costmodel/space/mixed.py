"""The homogeneous space of a model whose layers have different tensors: a configuration's number and back.

A set of layers x a set of names of tensors x one rank, applied where a layer has a tensor of that name. Two choices
that come to the same sites are one configuration: a name counts only if a chosen layer has it, a layer only if it has
one of the names. So layers are sorted by the tensors that they have, their pattern, and the configurations by the
patterns of their layers: a `Block` for each set of patterns.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from costmodel.arrays import Bools, Choices, Ints
from costmodel.decomposition.factors import Form
from costmodel.decomposition.sites import site_mask
from costmodel.errors import InputError
from costmodel.model import ModelSpec
from costmodel.space.base import DesignSpace
from costmodel.space.kinds import mask_of, set_bits
from costmodel.space.pairs import NameSets, Pairs

_MOST_PATTERNS = 8
_NOT_HERE = "the configuration is not in the space"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """Configurations with chosen layers of certain patterns, some of each, and names that suit all of these.

    Number s x pairs.count + p within the block: p is the place of the pair, s the sets of layers as digits, the first
    pattern the most significant, each 1 less than the mask over the pattern's layers.

    Attributes:
        layers: for each of the patterns its layers, int64.
        pairs: pairs (mask over the space's `names`, position of the rank).
        valid: those without a rank above min(out, in) of a chosen tensor.
    """

    layers: tuple[Ints, ...]
    pairs: Pairs
    valid: Pairs

    @property
    def subsets(self) -> int:
        """Ways to choose the layers."""
        return math.prod((1 << len(layers)) - 1 for layers in self.layers)

    def masks(self, subset: int) -> list[int]:
        """The mask over each pattern's layers of a set of layers given by its number."""
        masks = []
        for layers in reversed(self.layers):
            subset, digit = divmod(subset, (1 << len(layers)) - 1)
            masks.append(digit + 1)
        return masks[::-1]

    def subset(self, masks: Sequence[int]) -> int:
        """The inverse of `masks`."""
        number = 0
        for layers, mask in zip(self.layers, masks, strict=True):
            number = number * ((1 << len(layers)) - 1) + mask - 1
        return number


class MixedSpace(DesignSpace):
    """A set of layers x a set of names x one rank over layers of several patterns; see the module's text.

    Number 1 + the sizes of the blocks before + the number within its block.

    Attributes:
        names: for each name that may be chosen its columns, int64; kinds can have it in different shapes.
        blocks: in ascending order of their sets of patterns.
    """

    kind = "homogeneous"

    def __init__(self, model: ModelSpec, form: Form, ranks: Sequence[Sequence[int]], free: Bools):
        super().__init__(model, form, ranks, free)
        rows: Bools = np.any(free, axis=1)
        columns: Bools = np.any(free, axis=0)
        if not np.array_equal(free, site_mask(model) & rows[:, None] & columns):
            raise InputError(
                "the homogeneous space keeps whole layers or whole tensors dense, not single sites",
                hint="use --space per-layer or per-site, or name layers=... or tensors=... alone",
            )
        by_name: dict[str, list[int]] = {}
        for column in np.flatnonzero(columns).tolist():
            by_name.setdefault(model.tensors[column].name, []).append(column)
        self.names: list[Ints] = [np.array(each) for each in by_name.values()]
        layers: dict[bytes, list[int]] = {}
        for layer in np.flatnonzero(rows).tolist():
            layers.setdefault(free[layer].tobytes(), []).append(layer)
        if len(layers) > _MOST_PATTERNS:
            raise InputError(
                "too many different layers for the homogeneous space",
                value=len(layers),
                allowed=f"at most {_MOST_PATTERNS}",
                hint="use --space per-layer or per-site",
            )
        self._layers = [np.array(each) for each in layers.values()]
        """The layers of each pattern."""
        firsts = [each[0] for each in self._layers]
        self._patterns = [mask_of(np.array([free[first, each].any() for each in self.names])) for first in firsts]
        """The mask over the names that each pattern has."""
        self.blocks = [self._block(active) for active in range(1, 1 << len(layers))]

    def _block(self, active: int) -> Block:
        places = set_bits(active, len(self._patterns)).tolist()
        held = [self._patterns[place] for place in places]
        union = functools.reduce(int.__or__, held)
        layers = tuple(self._layers[place] for place in places)
        here = self.free[np.concatenate(layers)].any(axis=0)
        table = np.array(self.ranks)
        beyond = here[:, None] & ~self.possible
        every, able = [], []
        for second in range(table.shape[1]):
            differ = here[:, None] & (table[:, :second] != table[:, second : second + 1])
            others = np.array([differ[columns].any(axis=0) for columns in self.names])
            targets = [*held, *(mask_of(each) for each in np.unique(others, axis=1).T)]
            impossible = mask_of(np.array([beyond[columns, second].any() for columns in self.names]))
            every.append(NameSets.of(union, targets))
            able.append(NameSets.of(union & ~impossible, targets))
        return Block(layers=layers, pairs=Pairs(every), valid=Pairs(able))

    @functools.cached_property
    def size(self) -> int:
        return 1 + sum(block.subsets * block.pairs.count for block in self.blocks)

    @functools.cached_property
    def valid_size(self) -> int:
        return 1 + sum(block.subsets * block.valid.count for block in self.blocks)

    @functools.cached_property
    def starts(self) -> list[int]:
        """The number of each block's first configuration."""
        sizes = (block.subsets * block.pairs.count for block in self.blocks)
        return list(itertools.accumulate(sizes, initial=1))[:-1]

    def number(self, place: int, masks: Sequence[int], pair: int) -> int:
        """The number of a configuration of block `place`: a mask over the layers of each of its patterns, a pair."""
        block = self.blocks[place]
        return self.starts[place] + block.subset(masks) * block.pairs.count + pair

    def choices(self, index: int) -> Choices:
        choices = np.zeros(self.free.shape, dtype=np.int64)
        before = 1
        for block in self.blocks if index else ():
            size = block.subsets * block.pairs.count
            if index < before + size:
                subset, pair = divmod(index - before, block.pairs.count)
                self._fill(choices, block, subset, pair)
                break
            before += size
        return choices

    def _fill(self, choices: Choices, block: Block, subset: int, pair: int) -> None:
        """Write what a set of layers and a pair of a block choose into int64 (layers, tensors)."""
        names, candidate = block.pairs.at(pair)
        masks = zip(block.layers, block.masks(subset), strict=True)
        rows = np.concatenate([layers[set_bits(mask, len(layers))] for layers, mask in masks])
        columns = np.concatenate([self.names[bit] for bit in set_bits(names, len(self.names))])
        sites = np.ix_(rows, columns)
        choices[sites] = self.free[sites] * (1 + candidate)

    def index_of(self, choices: Choices) -> int:
        if not choices.any():
            return 0
        rows = np.flatnonzero(choices.any(axis=1))
        names = mask_of(np.array([choices[:, columns].any() for columns in self.names]))
        columns = np.concatenate([self.names[bit] for bit in set_bits(names, len(self.names))])
        wanted: npt.NDArray[np.bool_] = np.zeros(self.free.shape, dtype=np.bool_)
        wanted[np.ix_(rows, columns)] = self.free[np.ix_(rows, columns)]
        used = np.flatnonzero(wanted.any(axis=0))
        chosen, ranks = choices.max(axis=0), np.array(self.ranks)[used]
        same = np.flatnonzero((ranks == ranks[np.arange(len(used)), chosen[used] - 1][:, None]).all(axis=0))
        if not (choices == wanted * chosen).all() or not len(same):
            raise InputError(_NOT_HERE, hint="one set of tensors and one rank in every chosen layer")
        masks = [mask_of(np.isin(layers, rows)) for layers in self._layers]
        place = mask_of(np.array([mask > 0 for mask in masks])) - 1
        pair = self.blocks[place].pairs.number(names, int(same[0]))
        return self.number(place, [mask for mask in masks if mask], pair)

    def nth_valid(self, position: int) -> int:
        before = 1
        for place, block in enumerate(self.blocks if position else ()):
            size = block.subsets * block.valid.count
            if position < before + size:
                subset, pair = divmod(position - before, block.valid.count)
                return self.number(place, block.masks(subset), block.pairs.number(*block.valid.at(pair)))
            before += size
        return 0

    def sample_choices(self, count: int, seed: int) -> Choices:
        rows, masks, candidates = self.drawn(count, seed)
        columns: Bools = np.zeros((count, self.free.shape[1]), dtype=np.bool_)
        for bit, where in enumerate(self.names):
            columns[:, where] = (masks >> bit & 1 > 0)[:, None]
        chosen = rows[:, :, None] & columns[:, None] & self.free
        choices: Choices = chosen * (1 + candidates)[:, None, None]
        return choices

    def drawn(self, count: int, seed: int) -> tuple[Bools, Ints, Ints]:
        """Possible configurations drawn uniformly: chosen layers, bool (count, layers), the mask over the names and the
        position of the rank, int64 (count,)."""
        generator, bits = random.Random(seed), np.random.default_rng(seed)
        sizes = (block.subsets * block.valid.count for block in self.blocks)
        starts = [0, *itertools.accumulate(sizes, initial=1)]
        places = np.array([bisect.bisect_right(starts, generator.randrange(starts[-1])) - 2 for _ in range(count)])
        rows: Bools = np.zeros((count, len(self.free)), dtype=np.bool_)
        pairs = np.zeros((count, 2), dtype=np.int64)
        for place in np.unique(places[places >= 0]).tolist():
            mine, block = np.flatnonzero(places == place), self.blocks[place]
            pairs[mine] = block.valid.drawn(len(mine), bits)
            for layers in block.layers:
                left = mine
                while len(left):  # again where none was drawn
                    chosen = bits.integers(0, 2, size=(len(left), len(layers)), dtype=np.int8) > 0
                    rows[np.ix_(left, layers)] = chosen
                    left = left[~chosen.any(axis=1)]
        return rows, pairs[:, 0], pairs[:, 1]

    def valid_choices(self, start: int, stop: int) -> Choices:
        numbers = [self.nth_valid(position) for position in range(start, stop)]
        listed = np.zeros((len(numbers), *self.free.shape), dtype=np.int64)
        for choices, number in zip(listed, numbers, strict=True):
            choices[:] = self.choices(number)
        return listed
