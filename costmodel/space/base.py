"""The design space: which configurations there are, exactly how many, and a number for each. No costs.

Three kinds. `homogeneous`: a set of layers x a set of tensors x one rank, as in the paper. `per-layer`: each layer its
own set of tensors, one rank for all. `per-site`: each (layer, tensor) its own rank. The dense model is configuration 0
of each. Sizes are exact Python ints; nothing is ever materialised.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from costmodel.decomposition.factors import FORMS, Decomposition, Factor, Form, Site, break_even_rank, make_factor
from costmodel.decomposition.text import Rank
from costmodel.errors import InputError
from costmodel.model import ModelSpec

SpaceKind = Literal["homogeneous", "per-layer", "per-site"]
KINDS: tuple[SpaceKind, ...] = get_args(SpaceKind)
MAX_RANKS = 4096
Choices = npt.NDArray[np.int64]


class DesignSpace(ABC):
    """All configurations of one model under given restrictions, numbered from 0 (dense) to `size` - 1.

    Made by `design_space`. A configuration is also an array of choices, int64 of shape (layers, tensors): 0 for a
    dense site, else 1 + the position of its rank in `ranks[tensor]`.

    Attributes:
        ranks: for each tensor of the model the candidate ranks; one list of length R, percentages resolved.
        free: bool (layers, tensors), False where a site must stay dense.
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
        columns = {tensor.name: column for column, tensor in enumerate(self.model.tensors)}
        if config.dropped:
            raise InputError("a configuration with dropped layers is in no space", value=sorted(config.dropped))
        choices = np.zeros(self.free.shape, dtype=np.int64)
        for site, factor in config.factors.items():
            column = columns.get(site.tensor, -1)
            rank = factor.ranks[0]
            inside = column >= 0 and 0 <= site.layer < len(self.free) and self.free[site.layer, column]
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

    def sample(self, count: int, seed: int, distinct: bool = False) -> list[int]:
        """Numbers of `count` configurations drawn uniformly from those that are possible; the same for the same seed.

        With `distinct` without replacement.

        Raises:
            InputError: when `count` is negative, or `distinct` and beyond `valid_size`.
        """
        if count < 0 or (distinct and count > self.valid_size):
            raise InputError("sample size out of range", value=count, allowed=f"0 to {self.valid_size}")
        generator = random.Random(seed)
        if not distinct:
            return [self.nth_valid(generator.randrange(self.valid_size)) for _ in range(count)]
        if 2 * count > self.valid_size:
            return [self.nth_valid(position) for position in generator.sample(range(self.valid_size), count)]
        drawn: dict[int, None] = {}
        while len(drawn) < count:
            drawn[generator.randrange(self.valid_size)] = None
        return [self.nth_valid(position) for position in drawn]

    def sample_choices(self, count: int, seed: int) -> Choices:
        """Choices of `count` configurations drawn uniformly from those that are possible, (count, layers, tensors)."""
        return np.stack([self.choices(index) for index in self.sample(count, seed)])

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


def resolve_ranks(
    model: ModelSpec, form: Form, ranks: Sequence[Rank] | None, multiple: int = 1, used: Sequence[bool] | None = None
) -> list[list[int]]:
    """Candidate ranks of each tensor, a list of R for every tensor of the model, without repeated candidates.

    A percentage is of each tensor's own break-even rank and is rounded down to the multiple (but at least one
    multiple); a plain rank must be a multiple. Without `ranks`: rank 1, or with a multiple above 1 all its multiples
    up to the largest break-even rank. `used` says which tensors count in telling candidates apart.

    Raises:
        InputError: on a rank that is no multiple, or too many ranks.
    """
    if not 1 <= multiple <= 1 << 20:
        raise InputError("rank multiple out of range", value=multiple, allowed=f"1 to {1 << 20}")
    if ranks is None:
        top = max(break_even_rank(t.out_features, t.in_features, form) for t in model.tensors)
        numbers = range(multiple, top + 1, multiple) if multiple > 1 else [1]
        ranks = [Rank(number=number) for number in numbers]
        if not ranks:
            raise InputError("no rank is a multiple of that", value=multiple, allowed=f"at most {top}")
    if not ranks or len(ranks) > MAX_RANKS:
        raise InputError("number of ranks out of range", value=len(ranks), allowed=f"1 to {MAX_RANKS}")
    rows: dict[tuple[int, ...], list[int]] = {}
    for rank in ranks:
        if rank.percent is None and rank.number % multiple:
            raise InputError("rank is no multiple", value=rank.number, allowed=f"multiples of {multiple}")
        row = [max(multiple, rank.of(tensor, form) // multiple * multiple) for tensor in model.tensors]
        rows.setdefault(tuple(value for value, use in zip(row, used or [True] * len(row), strict=True) if use), row)
    return [list(column) for column in zip(*rows.values(), strict=True)]


def design_space(
    model: ModelSpec,
    kind: SpaceKind = "homogeneous",
    *,
    ranks: Sequence[Rank | int] | None = None,
    form: Form = "svd",
    rank_multiple: int = 1,
    keep: Iterable[Site] = (),
) -> DesignSpace:
    """The space of one kind.

    Args:
        model: whose layers and tensors.
        kind: homogeneous, per-layer or per-site.
        ranks: candidates, numbers or shares of break-even; see `resolve_ranks` for what None means.
        form: of every factored site.
        rank_multiple: every rank is a multiple of this.
        keep: sites that stay dense; in the homogeneous space whole layers and whole tensors.

    Raises:
        InputError: when a restriction is impossible or leaves nothing to decompose.
    """
    from costmodel.space.kinds import HomogeneousSpace, PerLayerSpace, PerSiteSpace

    if form not in FORMS:
        raise InputError("unknown form", value=form, allowed=", ".join(FORMS))
    columns = {tensor.name: column for column, tensor in enumerate(model.tensors)}
    free: npt.NDArray[np.bool_] = np.ones((model.num_layers, len(model.tensors)), dtype=np.bool_)
    for site in keep:
        free[site.layer, columns[site.tensor]] = False
    if not free.any():
        raise InputError("nothing is left to decompose: every site is kept dense", hint="keep fewer layers or tensors")
    candidates = [Rank(number=rank) if isinstance(rank, int) else rank for rank in ranks] if ranks is not None else None
    table = resolve_ranks(model, form, candidates, rank_multiple, np.any(free, axis=0).tolist())
    if kind == "homogeneous":
        return HomogeneousSpace(model, form, table, free)
    if kind == "per-layer":
        return PerLayerSpace(model, form, table, free)
    if kind == "per-site":
        return PerSiteSpace(model, form, table, free)
    raise InputError("unknown space", value=kind, allowed=", ".join(KINDS))
