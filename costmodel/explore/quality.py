"""Quality of configurations: additive per site, plus interactions between neighbouring layers; lower is better.

quality = sum over factored sites of value(site, rank) + sum over neighbours of value(layer, state, next layer's state).
A layer's state is the largest state (damage class) among its sites; a dense site has state 0. docs/explore.md has the
file's format. Where no measured file exists there is a prior, and two stand-ins by name; every answer says which.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Choices, Floats, Ints
from costmodel.decomposition.factors import FORMS, Decomposition, Site, make_factor
from costmodel.decomposition.prior import METRIC, layer_weights, rank_damage
from costmodel.decomposition.sites import site_columns, site_mask
from costmodel.errors import InputError, nearest
from costmodel.files.node import Node
from costmodel.files.read import read_json
from costmodel.space.base import DesignSpace

SCHEMA = 1
MAX_STATES = 16
STAND_IN = "standin:"
PRIOR = "prior"
"""What is used where no quality is named."""
_GRID_BITS = 50
_LARGEST, _LARGEST_SINGULAR = 1e300, 1e140
"""Bounds of values, which are added up, and of singular values, which are squared before."""
_MAX_RANK = 10**6
_LAYER = re.compile("0|[1-9][0-9]{0,8}")


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
        return _measured(_read(source, space), source, space, only)
    kind, _, rest = source.removeprefix(STAND_IN).partition(":")
    if kind == "params" and not rest:
        return params_removed(space)
    if kind == "energy" and rest:
        return _energy_lost(_read(rest, space), rest, space, only)
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


def _energy_lost(file: Mapping[str, Node], where: str, space: DesignSpace, only: Decomposition | None) -> QualityTable:
    spectra: dict[Site, Floats] = {}
    for entry in _listed(file, "spectra", where):
        part = entry.entries(["site", "singular_values"])
        values = part["singular_values"].array((None,), 0, _LARGEST_SINGULAR)
        if not len(values):
            raise part["singular_values"].wrong("at least one number")
        spectra[_site(part["site"], space)] = np.sort(values)[::-1]
    values_of: dict[tuple[Site, int], float] = {}
    for site, numbers in spectra.items():
        energy = np.append(0.0, np.cumsum(numbers**2))
        column = site_columns(space.model)[site]
        for rank in space.ranks[column]:
            kept = energy[min(rank, len(numbers))] / energy[-1] if energy[-1] else 1.0
            values_of[site, rank] = float(100 * (1 - kept)) / int(site_mask(space.model).sum())
    table = _table(values_of, {}, {}, where, space, only)
    return _quality("spectral energy lost in %, mean over all weights (stand-in)", True, *table)


def _measured(file: Mapping[str, Node], where: str, space: DesignSpace, only: Decomposition | None) -> QualityTable:
    names = _names(file)
    values: dict[tuple[Site, int], float] = {}
    states: dict[tuple[Site, int], int] = {}
    for entry in _listed(file, "entries", where):
        part = entry.entries(["site", "rank", "value"])
        site, rank, value = _site(part["site"], space), _rank(part["rank"]), _value(part["value"])
        state = _state(part["state"], names) if "state" in part else 0
        form = part["form"].choice(FORMS) if "form" in part else "svd"
        if form != space.form:
            continue
        if (site, rank) in values:
            raise InputError(f"{where}: {entry.key}: given twice", value=f"{site} rank {rank}")
        values[site, rank], states[site, rank] = value, state
    pairs: dict[tuple[int, int, int], float] = {}
    for entry in _listed(file, "layer_interactions", where) if "layer_interactions" in file else []:
        part = entry.entries(["layer", "state", "next_state", "value"])
        layer = part["layer"].integer(0, len(space.free) - 2)
        key = (layer, _state(part["state"], names), _state(part["next_state"], names))
        if key in pairs:
            raise InputError(f"{where}: {entry.key}: given twice", value=key)
        pairs[key] = _value(part["value"])
    metric = file["metric"].text() if "metric" in file else "quality"
    return _quality(metric, False, *_table(values, states, pairs, where, space, only))


def _table(
    values: Mapping[tuple[Site, int], float],
    states: Mapping[tuple[Site, int], int],
    pairs: Mapping[tuple[int, int, int], float],
    where: str,
    space: DesignSpace,
    only: Decomposition | None,
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
                if (site, rank) in values:
                    value[layer, column, 1 + place] = values[site, rank]
                    state[layer, column, 1 + place] = states.get((site, rank), 0)
                elif space.possible[column, place] and (only is None or rank in _ranks(only, site)):
                    missing.append(f"{site} {space.form} rank {rank}")
    if missing:
        asked = "space" if only is None else "configuration"
        raise UnknownRankError(
            f"{where}: no quality for {len(missing)} of the {asked}'s sites and ranks",
            value=missing[0],
            hint="restrict the space with --ranks and --keep, or measure them" if only is None else "measure them",
        )
    count = 1 + max([0, *states.values(), *(max(key[1:]) for key in pairs)])
    interactions = np.zeros((len(value) - 1, count, count))
    for (layer, here, there), number in pairs.items():
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


def _read(path: str, space: DesignSpace) -> Mapping[str, Node]:
    """The keys of a file of this schema and of the space's model."""
    file = Node(path, read_json(path, "quality file", InputError), InputError).entries()
    schema, model = file.get("schema"), file.get("model")
    if schema is not None and (type(schema.value) is not int or schema.value != SCHEMA):
        raise schema.wrong(str(SCHEMA))
    if model is not None and model.value != space.model.name:
        raise InputError(f"{path} is of another model", value=model.value, allowed=space.model.name)
    return file


def _listed(file: Mapping[str, Node], key: str, where: str) -> list[Node]:
    if key not in file:
        raise InputError(f"{where}: {key} is missing", allowed="a list")
    return file[key].items()


def _site(node: Node, space: DesignSpace) -> Site:
    words = node.text().split(".", 2)
    if len(words) != 3 or words[0] != "layers" or not _LAYER.fullmatch(words[1]):
        raise node.wrong("a site, layers.NUMBER.TENSOR")
    site = Site(int(words[1]), words[2])
    if site not in site_columns(space.model):
        raise InputError(
            f"{node.file}: {node.key}: {space.model.name} has no such site",
            value=node.value,
            hint=nearest(words[2], space.model.groups["all"]),
        )
    return site


def _rank(node: Node) -> int:
    """A rank, or the two equal ones of three factors."""
    if isinstance(node.value, list) and len(node.value) == 2 and node.value[0] == node.value[1]:
        return node.items()[0].integer(1, _MAX_RANK)
    return node.integer(1, _MAX_RANK)


def _value(node: Node) -> float:
    return node.number(-_LARGEST, _LARGEST)


def _names(file: Mapping[str, Node]) -> list[str] | None:
    """The names of states in their order, where the file has names."""
    named = file.get("states")
    if named is None or named.value is None:
        return None
    names = list[str]()
    for each in named.items():
        if each.text() in names:
            raise InputError(f"{each.file}: {each.key}: given twice", value=each.value)
        names.append(each.text())
    return names


def _state(node: Node, names: list[str] | None) -> int:
    if names is not None and isinstance(node.value, str):
        return names.index(node.choice(names[:MAX_STATES]))
    if names is not None and type(node.value) is not int:
        raise node.wrong(", ".join(names[:MAX_STATES]))
    return node.integer(0, MAX_STATES - 1)
