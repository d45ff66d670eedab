"""The design space: which configurations there are, exactly how many, and a number for each. No costs.

Three kinds. `homogeneous`: a set of layers x a set of tensors x one rank, as in the paper. `per-layer`: each layer its
own set of tensors, one rank for all. `per-site`: each (layer, tensor) its own rank. The dense model is configuration 0
of each. Sizes are exact Python ints; nothing is ever materialised.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from costmodel.arrays import Choices, Ints
from costmodel.decomposition.factors import Decomposition, Factor, Form, Site, make_factor
from costmodel.decomposition.sites import site_columns
from costmodel.errors import InputError
from costmodel.model import ModelSpec

SpaceKind = Literal["homogeneous", "per-layer", "per-site"]
KINDS: tuple[SpaceKind, ...] = get_args(SpaceKind)
MAX_RANKS = 4096


class DesignSpace(ABC):
    """All configurations of one model under given restrictions, numbered from 0 (dense) to `size` - 1.

    Made by `design_space`. A configuration is also an array of choices, int64 of shape (layers, tensors): 0 for a
    dense site, else 1 + the position of its rank in `ranks[tensor]`.

    Attributes:
        ranks: for each tensor of the model the candidate ranks; one list of length R, percentages resolved.
        free: bool (layers, tensors), False where a site must stay dense or a layer has no such tensor.
        possible: bool (tensors, R), False where a rank is above min(out, in) of the tensor.
    """

    kind: SpaceKind

    def __init__(self, model: ModelSpec, form: Form, ranks: Sequence[Sequence[int]], free: npt.NDArray[np.bool_]):
        self.model, self.form = model, form
        self.ranks = tuple(tuple(each) for each in ranks)
        self.free = free
        limits = [min(tensor.out_features, tensor.in_features) for tensor in model.tensors]
        self.possible = np.array([[rank <= limit for rank in r] for r, limit in zip(self.ranks, limits, strict=True)])
        used = free.any(axis=0)
        if not self.possible[used].any():
            raise InputError(
                "every rank is above min(out, in) of every tensor",
                value=min(map(min, self.ranks)),
                allowed=f"at most {max(limits)}",
            )

    @property
    @abstractmethod
    def size(self) -> int:
        """Distinct configurations, the dense one and those with an impossible rank included."""

    @property
    @abstractmethod
    def valid_size(self) -> int:
        """Configurations without those that have a rank above min(out, in) of a chosen tensor."""

    @property
    def excluded(self) -> int:
        """Configurations with a rank above min(out, in) of some chosen tensor."""
        return self.size - self.valid_size

    @abstractmethod
    def choices(self, index: int) -> Choices:
        """The choice at every site of configuration `index`, int64 (layers, tensors)."""

    @abstractmethod
    def index_of(self, choices: Choices) -> int:
        """The number of the configuration with these choices; the inverse of `choices`.

        Raises:
            InputError: when the space has no such configuration.
        """

    @abstractmethod
    def nth_valid(self, position: int) -> int:
        """Number of the configuration at `position` (0 to valid_size - 1) among those without impossible ranks, in an
        order of the space's own that starts with the dense one."""

    @abstractmethod
    def valid_choices(self, start: int, stop: int) -> Choices:
        """Choices of the possible configurations at positions `start` to `stop` - 1, (stop - start, layers, tensors).

        The positions must fit 62 bits.
        """

    def config(self, index: int) -> Decomposition:
        """Configuration `index` as a decomposition.

        Raises:
            InputError: unless 0 <= index < size.
        """
        self._check(index)
        return self.decomposition(self.choices(index))

    def index(self, config: Decomposition) -> int:
        """The number of a configuration; `index(config(i)) == i`.

        Raises:
            InputError: when it is not in the space.
        """
        columns = site_columns(self.model)
        if config.dropped:
            raise InputError("a configuration with dropped layers is in no space", value=sorted(config.dropped))
        choices = np.zeros(self.free.shape, dtype=np.int64)
        for site, factor in config.factors.items():
            column = columns.get(site, -1)
            rank = factor.ranks[0]
            inside = column >= 0 and self.free[site.layer, column]
            if not (inside and rank in self.ranks[column] and factor == make_factor(self.form, rank)):
                raise InputError("the configuration is not in the space", value=f"{site}: {factor}")
            choices[site.layer, column] = 1 + self.ranks[column].index(rank)
        return self.index_of(choices)

    def decomposition(self, choices: Choices) -> Decomposition:
        """Choices (layers, tensors) as a decomposition."""
        names = [tensor.name for tensor in self.model.tensors]
        factors: dict[Site, Factor] = {}
        for layer, column in np.argwhere(choices).tolist():
            rank = self.ranks[column][int(choices[layer, column]) - 1]
            factors[Site(layer, names[column])] = make_factor(self.form, rank)
        return Decomposition(factors)

    def alike_in_layers(self, values: Ints) -> bool:
        """Whether what each choice is given, (layers, tensors, ...), is the same in all free layers of a tensor."""
        columns = [values[self.free[:, column], column] for column in range(values.shape[1])]
        return all((rows == rows[:1]).all() for rows in columns)

    def sample(self, count: int, seed: int, distinct: bool = False) -> list[int]:
        """Numbers of `count` configurations drawn uniformly from those that are possible; the same for the same seed.

        They are the configurations of `sample_choices`; with `distinct` others, drawn without replacement.

        Raises:
            InputError: when `count` is negative, or `distinct` and beyond `valid_size`.
        """
        if count < 0 or (distinct and count > self.valid_size):
            raise InputError("sample size out of range", value=count, allowed=f"0 to {self.valid_size}")
        if not distinct:
            return [self.index_of(choices) for choices in self.sample_choices(count, seed)]
        generator = random.Random(seed)
        if 2 * count > self.valid_size:
            return [self.nth_valid(position) for position in generator.sample(range(self.valid_size), count)]
        drawn: dict[int, None] = {}
        while len(drawn) < count:
            drawn[generator.randrange(self.valid_size)] = None
        return [self.nth_valid(position) for position in drawn]

    def sample_choices(self, count: int, seed: int) -> Choices:
        """Choices of the configurations that `sample` numbers, int64 (count, layers, tensors)."""
        generator = random.Random(seed)
        drawn = np.zeros((count, *self.free.shape), dtype=np.int64)
        for choices in drawn:
            choices[:] = self.choices(self.nth_valid(generator.randrange(self.valid_size)))
        return drawn

    def configs(self, start: int = 0, stop: int | None = None) -> Iterator[Decomposition]:
        """Configurations `start` to `stop` - 1 in order, one at a time."""
        stop = self.size if stop is None else stop
        if not 0 <= start <= stop <= self.size:
            raise InputError("range outside the space", value=f"{start} to {stop}", allowed=f"0 to {self.size}")
        return (self.config(index) for index in _count(start, stop))

    def _check(self, index: int) -> None:
        if not 0 <= index < self.size:
            raise InputError("no configuration of that number", value=index, allowed=f"0 to {self.size - 1}")


def _count(start: int, stop: int) -> Iterator[int]:
    """`range` without a limit on the size of its numbers."""
    while start < stop:
        yield start
        start += 1
