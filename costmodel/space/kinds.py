"""The three kinds of design space: how a configuration and its number turn into each other."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from costmodel.arrays import Choices, Ints
from costmodel.decomposition.factors import Form
from costmodel.errors import InputError
from costmodel.model import ModelSpec
from costmodel.space.base import DesignSpace

_NOT_HERE = "the configuration is not in the space"


class HomogeneousSpace(DesignSpace):
    """A set of layers x a set of tensors x one rank: (2^L - 1)(2^K - 1) R + 1 configurations.

    Number 1 + (S - 1) P + p: S is the mask of layers (bit i is the i-th free layer), p the position in `pairs`, the P
    distinct (mask of tensors, rank candidate) in ascending order. Where two candidates (percentages) resolve to the
    same rank in every tensor of a mask, only the first is a pair, so that configurations are distinct.
    """

    kind = "homogeneous"

    def __init__(self, model: ModelSpec, form: Form, ranks: Sequence[Sequence[int]], free: npt.NDArray[np.bool_]):
        super().__init__(model, form, ranks, free)
        self.layers = np.flatnonzero(free.any(axis=1))
        self.tensors = np.flatnonzero(free.any(axis=0))
        """Positions of the layers and tensors that may be chosen, int64."""
        if not free[np.ix_(self.layers, self.tensors)].all():
            raise InputError(
                "the homogeneous space keeps whole layers or whole tensors dense, not single sites",
                hint="use --space per-layer or per-site, or name layers=... or tensors=... alone",
            )
        table = np.array(self.ranks)[self.tensors]
        masks = np.arange(1, 1 << len(self.tensors))
        fresh: npt.NDArray[np.bool_] = np.ones((len(masks), table.shape[1]), dtype=np.bool_)
        bits = 1 << np.arange(len(self.tensors))
        for second in range(table.shape[1]):
            for same in np.unique((table[:, :second] == table[:, second : second + 1]).T @ bits):
                fresh[:, second] &= (masks & ~same) != 0
        chosen, candidate = np.nonzero(fresh)
        self.pairs = np.stack([masks[chosen], candidate], axis=1)
        """int64 (P, 2): mask over `tensors`, position of the rank."""
        impossible = (~self.possible[self.tensors]).T.astype(np.int64) @ bits
        self.valid_pairs = np.flatnonzero((self.pairs[:, 0] & impossible[self.pairs[:, 1]]) == 0)
        """Positions in `pairs` without a rank above min(out, in) of a chosen tensor."""

    @property
    def size(self) -> int:
        return ((1 << len(self.layers)) - 1) * len(self.pairs) + 1

    @property
    def valid_size(self) -> int:
        return ((1 << len(self.layers)) - 1) * len(self.valid_pairs) + 1

    def number(self, layer_mask: int, pair: int) -> int:
        """The number of a set of layers (a mask over `layers`) with pair `pair`."""
        return 1 + (layer_mask - 1) * len(self.pairs) + pair

    def choices(self, index: int) -> Choices:
        choices = np.zeros(self.free.shape, dtype=np.int64)
        if index:
            subset, pair = divmod(index - 1, len(self.pairs))
            mask, candidate = self.pairs[pair].tolist()
            rows = self.layers[set_bits(subset + 1, len(self.layers))]
            choices[np.ix_(rows, self.tensors[set_bits(mask, len(self.tensors))])] = 1 + candidate
        return choices

    def index_of(self, choices: Choices) -> int:
        if not choices.any():
            return 0
        rows: npt.NDArray[np.bool_] = np.any(choices, axis=1)
        columns: npt.NDArray[np.bool_] = np.any(choices, axis=0)
        block = choices[np.ix_(rows, columns)]
        ranks = np.array(self.ranks)[columns]
        wanted = ranks[np.arange(len(ranks)), block[0] - 1]
        same = np.flatnonzero((ranks == wanted[:, None]).all(axis=0))
        if not (block == block[0]).all() or not block.all() or not len(same):
            raise InputError(_NOT_HERE, hint="one set of tensors and one rank in every chosen layer")
        pair = self._pair_numbers[mask_of(columns[self.tensors]), int(same[0])]
        return self.number(mask_of(rows[self.layers]), pair)

    def nth_valid(self, position: int) -> int:
        if not position:
            return 0
        subset, pair = divmod(position - 1, len(self.valid_pairs))
        return self.number(subset + 1, int(self.valid_pairs[pair]))

    def valid_choices(self, start: int, stop: int) -> Choices:
        at = np.arange(start, stop, dtype=np.int64)
        subset, place = np.divmod(np.maximum(at - 1, 0), len(self.valid_pairs))
        mask, candidate = self.pairs[self.valid_pairs[place]].T
        rows = (subset + 1)[:, None] >> np.arange(len(self.layers)) & 1
        columns = mask[:, None] >> np.arange(len(self.tensors)) & 1
        choices = np.zeros((len(at), *self.free.shape), dtype=np.int64)
        block = rows[:, :, None] * columns[:, None, :] * (1 + candidate)[:, None, None]
        choices[np.ix_(np.arange(len(at)), self.layers, self.tensors)] = block * (at > 0)[:, None, None]
        return choices

    @functools.cached_property
    def _pair_numbers(self) -> dict[tuple[int, int], int]:
        return {(mask, candidate): number for number, (mask, candidate) in enumerate(self.pairs.tolist())}


class PerLayerSpace(DesignSpace):
    """Each layer its own set of tensors, one rank for all: (2^(LK) - 1) R + 1 configurations.

    Number 1 + (M - 1) R + r: M is the mask of free sites, layer by layer, r the rank candidate.
    """

    kind = "per-layer"

    def __init__(self, model: ModelSpec, form: Form, ranks: Sequence[Sequence[int]], free: npt.NDArray[np.bool_]):
        super().__init__(model, form, ranks, free)
        for tensor, row in zip(model.tensors, self.ranks, strict=True):
            if len(set(row)) < len(row):
                raise InputError(
                    f"two of the ranks are the same number in {tensor.name}",
                    value=list(row),
                    hint="in the per-layer space give ranks that differ in every tensor",
                )
        self.sites = np.flatnonzero(free.ravel())
        """Positions of the free sites in (layers x tensors), int64."""
        self._allowed = [np.flatnonzero((free & self.possible[:, r]).ravel()) for r in range(self.possible.shape[1])]

    @property
    def size(self) -> int:
        return ((1 << len(self.sites)) - 1) * len(self.ranks[0]) + 1

    @property
    def valid_size(self) -> int:
        return sum((1 << len(sites)) - 1 for sites in self._allowed) + 1

    def choices(self, index: int) -> Choices:
        choices = np.zeros(self.free.size, dtype=np.int64)
        if index:
            subset, candidate = divmod(index - 1, len(self.ranks[0]))
            choices[self.sites[set_bits(subset + 1, len(self.sites))]] = 1 + candidate
        return choices.reshape(self.free.shape)

    def index_of(self, choices: Choices) -> int:
        chosen = np.unique(choices[choices > 0])
        if not len(chosen):
            return 0
        if len(chosen) > 1:
            raise InputError(_NOT_HERE, hint="one rank for all sites")
        subset = mask_of(choices.ravel()[self.sites] > 0)
        return 1 + (subset - 1) * len(self.ranks[0]) + int(chosen[0]) - 1

    def nth_valid(self, position: int) -> int:
        if not position:
            return 0
        for candidate, sites in enumerate(self._allowed):
            count = (1 << len(sites)) - 1
            if position <= count:
                choices = np.zeros(self.free.size, dtype=np.int64)
                choices[sites[set_bits(position, len(sites))]] = 1 + candidate
                return self.index_of(choices.reshape(self.free.shape))
            position -= count
        raise InputError("no possible configuration at that position", value=position)

    def valid_choices(self, start: int, stop: int) -> Choices:
        at = np.arange(start, stop, dtype=np.int64)
        choices = np.zeros((len(at), self.free.size), dtype=np.int64)
        before = 1
        for candidate, sites in enumerate(self._allowed):
            after = before + (1 << len(sites)) - 1
            mine = np.flatnonzero((at >= before) & (at < after))
            bits = (at[mine] - before + 1)[:, None] >> np.arange(len(sites)) & 1
            choices[np.ix_(mine, sites)] = bits * (1 + candidate)
            before = after
            if before >= stop:
                break
        return choices.reshape(len(at), *self.free.shape)

    def sample_choices(self, count: int, seed: int) -> Choices:
        generator = random.Random(seed)
        drawn = [generator.randrange(self.valid_size) for _ in range(count)]
        choices = np.zeros((count, self.free.size), dtype=np.int64)
        before = 1
        for candidate, sites in enumerate(self._allowed):
            after = before + (1 << len(sites)) - 1
            mine = np.array([place for place, each in enumerate(drawn) if before <= each < after], dtype=np.int64)
            if len(mine):
                size = -(-len(sites) // 8)
                octets = b"".join((drawn[place] - before + 1).to_bytes(size, "little") for place in mine.tolist())
                masks = np.frombuffer(octets, dtype=np.uint8).reshape(len(mine), size)
                bits = np.unpackbits(masks, axis=1, bitorder="little", count=len(sites))
                choices[np.ix_(mine, sites)] = bits.astype(np.int64) * (1 + candidate)
            before = after
        return choices.reshape(count, *self.free.shape)


class PerSiteSpace(DesignSpace):
    """Each site dense or at a rank of its own: (R + 1)^(LK) configurations.

    The number's digits are the sites' choices, the first site the least significant; the base of a digit is 1 + the
    number of distinct ranks of its tensor (percentages can coincide in a small tensor).
    """

    kind = "per-site"

    def __init__(self, model: ModelSpec, form: Form, ranks: Sequence[Sequence[int]], free: npt.NDArray[np.bool_]):
        super().__init__(model, form, ranks, free)
        first = np.array([[row.index(rank) == place for place, rank in enumerate(row)] for row in self.ranks])
        self.options = [np.array([0, *(1 + np.flatnonzero(row))]) for row in first]
        """For each tensor its distinct choices, 0 first."""
        self.valid_options = [
            np.array([0, *(1 + np.flatnonzero(row & fits))]) for row, fits in zip(first, self.possible, strict=True)
        ]
        self.sites = np.flatnonzero(free.ravel())
        self._columns = self.sites % free.shape[1]

    @functools.cached_property
    def size(self) -> int:
        return self._count(self.options)

    @functools.cached_property
    def valid_size(self) -> int:
        return self._count(self.valid_options)

    def _count(self, options: list[npt.NDArray[np.int64]]) -> int:
        count = 1
        for column in range(len(options)):
            count *= len(options[column]) ** int(self.free[:, column].sum())
        return count

    def choices(self, index: int) -> Choices:
        return self._filled(self._numbers.digits(index))

    def index_of(self, choices: Choices) -> int:
        return self._numbers.number(choices.ravel()[self.sites])

    def nth_valid(self, position: int) -> int:
        return self.index_of(self._filled(self._valid_numbers.digits(position)))

    def valid_choices(self, start: int, stop: int) -> Choices:
        at = np.arange(start, stop, dtype=np.int64)
        choices = np.zeros((len(at), self.free.size), dtype=np.int64)
        for site, column in zip(self.sites.tolist(), self._columns.tolist(), strict=True):
            at, digit = np.divmod(at, len(self.valid_options[column]))
            choices[:, site] = self.valid_options[column][digit]
        return choices.reshape(-1, *self.free.shape)

    def sample_choices(self, count: int, seed: int) -> Choices:
        generator = np.random.default_rng(seed)
        choices = np.zeros((count, *self.free.shape), dtype=np.int64)
        for column, options in enumerate(self.valid_options):
            drawn = options[generator.integers(len(options), size=(count, self.free.shape[0]))]
            choices[:, :, column] = np.where(self.free[:, column], drawn, 0)
        return choices

    @functools.cached_property
    def _numbers(self) -> _Digits:
        places: list[dict[int, int]] = [{} for _ in self.ranks]
        first = [
            [0, *(seen.setdefault(rank, place) for place, rank in enumerate(row, start=1))]
            for seen, row in zip(places, self.ranks, strict=True)
        ]
        return _Digits(self.options, first, self._columns)

    @functools.cached_property
    def _valid_numbers(self) -> _Digits:
        return _Digits(self.valid_options, [list(range(1 + len(row))) for row in self.ranks], self._columns)

    def _filled(self, at_sites: Ints) -> Choices:
        flat = np.zeros(self.free.size, dtype=np.int64)
        flat[self.sites] = at_sites
        return flat.reshape(self.free.shape)


class _Digits:
    """Choices at sites as the digits of a number, the first site the least significant, in words of up to 62 bits.

    Args:
        options: for each column its distinct choices.
        first: for each column and choice the choice that stands for it, where two are the same.
        columns: int64 (sites,).
    """

    def __init__(self, options: Sequence[Ints], first: Sequence[Sequence[int]], columns: Ints) -> None:
        self.columns = columns
        self.options = np.zeros((len(options), max(map(len, options))), dtype=np.int64)
        self.places = np.zeros((len(first), len(first[0])), dtype=np.int64)
        for column, (some, stand) in enumerate(zip(options, first, strict=True)):
            self.options[column, : len(some)] = some
            place = {choice: digit for digit, choice in enumerate(some.tolist())}
            self.places[column] = [place.get(choice, 0) for choice in stand]
        self.bases = np.array([len(some) for some in options], dtype=np.int64)[columns]
        strides, starts, words, stride = [], [0], [], 1
        for site, base in enumerate(self.bases.tolist()):
            if stride * base >= 1 << 62:
                words.append(stride)
                starts.append(site)
                stride = 1
            strides.append(stride)
            stride *= base
        self.words, self.starts = [*words, stride], np.array(starts)
        self.strides = np.array(strides, dtype=np.int64)
        self.word_of = np.repeat(np.arange(len(starts)), np.diff([*starts, len(columns)]))

    def number(self, choices: Ints) -> int:
        """The number of the choices at the sites, int64 (sites,)."""
        values = np.add.reduceat(self.places[self.columns, choices] * self.strides, self.starts)
        number = 0
        for word, value in zip(self.words[::-1], values[::-1].tolist(), strict=True):
            number = number * word + value
        return number

    def digits(self, number: int) -> Ints:
        """The choices at the sites of a number, int64 (sites,)."""
        values = []
        for word in self.words:
            number, value = divmod(number, word)
            values.append(value)
        digits = np.array(values, dtype=np.int64)[self.word_of] // self.strides % self.bases
        found: Ints = self.options[self.columns, digits]
        return found


def set_bits(mask: int, width: int) -> npt.NDArray[np.int64]:
    """Positions of the set bits of a mask of any size."""
    octets = np.frombuffer(mask.to_bytes(-(-width // 8) or 1, "little"), dtype=np.uint8)
    return np.flatnonzero(np.unpackbits(octets, bitorder="little", count=width))


def mask_of(chosen: npt.NDArray[np.bool_]) -> int:
    """The inverse of `set_bits`: a mask from booleans, the first the least significant bit."""
    return int.from_bytes(np.packbits(chosen, bitorder="little").tobytes(), "little")
