"""Quality of configurations: additive per site, plus interactions between neighbouring layers; lower is better.

quality = sum over factored sites of value(site, rank) + sum over neighbours of value(layer, state, next layer's state).
A layer's state is the largest state (damage class) among its sites; a dense site has state 0. Where no measured file
exists (`quality_file`) there is a prior, and two stand-ins by name; every answer says which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Choices, Floats, Ints
from costmodel.decomposition.factors import Decomposition, Site, make_factor
from costmodel.decomposition.prior import METRIC, layer_weights, rank_damage
from costmodel.decomposition.sites import site_columns, site_mask
from costmodel.errors import InputError
from costmodel.explore.quality_file import QualityEntries, read_entries, read_spectra
from costmodel.space.base import DesignSpace

STAND_IN = "standin:"
PRIOR = "prior"
"""What is used where no quality is named."""
_GRID_BITS = 50


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QualityTable:
    """Quality of a space's choices in integer ticks, so that sums of any order are the same.

    Attributes:
        metric: what the numbers are, for people.
        stand_in: whether they are no measurement of quality at all.
        quantum: quality of one tick.
        value: int64 (layers, tensors, 1 + R), 0 for a dense site.
        state: int64 (layers, tensors, 1 + R), 0 for a dense site.
        interactions: int64 (layers - 1, states, states).
    """

    metric: str
    stand_in: bool
    quantum: float
    value: Ints
    state: Ints
    interactions: Ints

    @property
    def num_states(self) -> int:
        """States that a layer can have, the dense one included."""
        return int(self.interactions.shape[-1])

    def ticks(self, choices: Choices) -> Ints:
        """Quality of configurations in ticks, choices int64 (..., layers, tensors)."""
        layers, tensors = np.ogrid[: choices.shape[-2], : choices.shape[-1]]
        total: Ints = self.value[layers, tensors, choices].sum(axis=(-2, -1))
        if self.interactions.any():
            state = self.state[layers, tensors, choices].max(axis=-1)
            pairs = np.arange(len(self.interactions))
            total = total + self.interactions[pairs, state[..., :-1], state[..., 1:]].sum(axis=-1)
        return total

    def alike(self, space: DesignSpace) -> bool:
        """Whether a choice has the same quality in whatever layer it is made, and layers do not interact."""
        return not self.interactions.any() and space.alike_in_layers(self.value)


class UnknownRankError(InputError):
    """A quality file that lacks a site or rank that it is asked for."""


def load_quality(source: str, space: DesignSpace, only: Decomposition | None = None) -> QualityTable:
    """The quality that `--quality` names: a file, `prior`, `standin:params`, `standin:energy:FILE` of singular values.

    Args:
        only: the one configuration of the space that is asked about; None for all of them.

    Raises:
        UnknownRankError: when the file lacks a site or rank of the space, or of the one configuration.
        InputError: when the file cannot be read or is malformed, has a number that is not finite, or is of another
            model.
    """
    if source == PRIOR:
        return prior_of_damage(space)
    if not source.startswith(STAND_IN):
        entries = read_entries(source, space)
        return _quality(entries.metric, False, *_table(entries, source, space, only))
    kind, _, rest = source.removeprefix(STAND_IN).partition(":")
    if kind == "params" and not rest:
        return params_removed(space)
    if kind == "energy" and rest:
        return _energy_lost(rest, space, only)
    raise InputError(
        "unknown stand-in for quality", value=source, allowed="prior, standin:params, standin:energy:FILE or a file"
    )


def prior_of_damage(space: DesignSpace) -> QualityTable:
    """Damage in nats by the prior that knows no weights (`costmodel.decomposition.prior`)."""
    value = np.zeros((*space.free.shape, 1 + len(space.ranks[0])))
    weights, mask = layer_weights(space.model), site_mask(space.model)
    for column, tensor in enumerate(space.model.tensors):
        kept = rank_damage(np.array(space.ranks[column]), tensor.out_features, tensor.in_features, space.form)
        value[:, column, 1:] = (weights * mask[:, column])[:, None] * kept
    layers = len(value)
    return _quality(METRIC, True, value, np.zeros(value.shape, dtype=np.int64), np.zeros((layers - 1, 1, 1)))


def params_removed(space: DesignSpace) -> QualityTable:
    """Stand-in: percent of the model's parameters that are removed; negative where factors hold more."""
    value = np.zeros((*space.free.shape, 1 + len(space.ranks[0])), dtype=np.int64)
    for column, tensor in enumerate(space.model.tensors):
        shape = (tensor.out_features, tensor.in_features)
        kept = [tensor.copies * make_factor(space.form, rank).weight_params(*shape) for rank in space.ranks[column]]
        own = site_mask(space.model)[:, column, None]
        value[:, column, 1:] = own * (tensor.weight_params - np.array(kept, dtype=np.int64))
    return QualityTable(
        metric="parameters removed in % (stand-in)",
        stand_in=True,
        quantum=100 / space.model.num_params,
        value=value,
        state=np.zeros_like(value),
        interactions=np.zeros((len(value) - 1, 1, 1), dtype=np.int64),
    )


def _energy_lost(path: str, space: DesignSpace, only: Decomposition | None) -> QualityTable:
    values_of: dict[tuple[Site, int], float] = {}
    for site, numbers in read_spectra(path, space).items():
        energy = np.append(0.0, np.cumsum(numbers**2))
        column = site_columns(space.model)[site]
        for rank in space.ranks[column]:
            kept = energy[min(rank, len(numbers))] / energy[-1] if energy[-1] else 1.0
            values_of[site, rank] = float(100 * (1 - kept)) / int(site_mask(space.model).sum())
    table = _table(QualityEntries(metric="", values=values_of, states={}, pairs={}), path, space, only)
    return _quality("spectral energy lost in %, mean over all weights (stand-in)", True, *table)


def _table(
    entries: QualityEntries, where: str, space: DesignSpace, only: Decomposition | None
) -> tuple[Floats, Ints, Floats]:
    """Arrays of value, state and interactions; every free site needs every possible rank, or every site of the one
    configuration its own."""
    value = np.zeros((*space.free.shape, 1 + len(space.ranks[0])))
    state = np.zeros(value.shape, dtype=np.int64)
    missing = []
    for column, tensor in enumerate(space.model.tensors):
        for layer in np.flatnonzero(space.free[:, column]).tolist():
            site = Site(layer, tensor.name)
            for place, rank in enumerate(space.ranks[column]):
                if (site, rank) in entries.values:
                    value[layer, column, 1 + place] = entries.values[site, rank]
                    state[layer, column, 1 + place] = entries.states.get((site, rank), 0)
                elif space.possible[column, place] and (only is None or rank in _ranks(only, site)):
                    missing.append(f"{site} {space.form} rank {rank}")
    if missing:
        asked = "space" if only is None else "configuration"
        raise UnknownRankError(
            f"{where}: no quality for {len(missing)} of the {asked}'s sites and ranks",
            value=missing[0],
            hint="restrict the space with --ranks and --keep, or measure them" if only is None else "measure them",
        )
    count = 1 + max([0, *entries.states.values(), *(max(key[1:]) for key in entries.pairs)])
    interactions = np.zeros((len(value) - 1, count, count))
    for (layer, here, there), number in entries.pairs.items():
        interactions[layer, here, there] = number
    return value, state, interactions


def _ranks(config: Decomposition, site: Site) -> tuple[int, ...]:
    """Ranks of a site's factors; none where it is dense."""
    factor = config.factors.get(site)
    return () if factor is None else factor.ranks


def _quality(metric: str, stand_in: bool, value: Floats, state: Ints, interactions: Floats) -> QualityTable:
    largest = float(np.abs(value).max(axis=-1).sum() + np.abs(interactions).max(axis=(-2, -1), initial=0.0).sum())
    if not math.isfinite(largest):
        raise InputError("quality values are too large to add up", value=float(np.abs(value).max()))
    quantum = 2.0 ** (math.ceil(math.log2(largest)) - _GRID_BITS) if largest > 0 else 1.0
    quantum = max(quantum, 2.0**-1000)
    return QualityTable(
        metric=metric,
        stand_in=stand_in,
        quantum=quantum,
        value=np.rint(value / quantum).astype(np.int64),
        state=state,
        interactions=np.rint(interactions / quantum).astype(np.int64),
    )
