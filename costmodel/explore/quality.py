"""Quality of configurations: additive per site, plus interactions between neighbouring layers; lower is better.

quality = sum over factored sites of value(site, rank) + sum over neighbours of value(layer, state, next layer's state).
A layer's state is the largest state (damage class) among its sites; a dense site has state 0. docs/explore.md has the
file's format. Where no measured file exists there are two stand-ins, and every answer says that it used one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from costmodel.arrays import Choices, Floats, Ints
from costmodel.decomposition.factors import Site, make_factor
from costmodel.errors import InputError, nearest
from costmodel.space.base import DesignSpace

SCHEMA = 1
MAX_STATES = 16
STAND_IN = "standin:"
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


def load_quality(source: str, space: DesignSpace) -> QualityTable:
    """The quality that `--quality` names: a file, `standin:params`, or `standin:energy:FILE` of singular values.

    Raises:
        InputError: when the file cannot be read or is malformed, lacks a site or rank of the space, has a number that
            is not finite, or is of another model.
    """
    if not source.startswith(STAND_IN):
        return _measured(_of_model(_read(source), source, space), source, space)
    kind, _, rest = source.removeprefix(STAND_IN).partition(":")
    if kind == "params" and not rest:
        return params_removed(space)
    if kind == "energy" and rest:
        return _energy_lost(_of_model(_read(rest), rest, space), rest, space)
    raise InputError("unknown stand-in for quality", value=source, allowed="standin:params, standin:energy:FILE")


def params_removed(space: DesignSpace) -> QualityTable:
    """Stand-in: percent of the model's parameters that are removed; negative where factors hold more."""
    value = np.zeros((*space.free.shape, 1 + len(space.ranks[0])), dtype=np.int64)
    for column, tensor in enumerate(space.model.tensors):
        shape = (tensor.out_features, tensor.in_features)
        kept = [make_factor(space.form, rank).weight_params(*shape) for rank in space.ranks[column]]
        value[:, column, 1:] = tensor.weight_params - np.array(kept, dtype=np.int64)
    return QualityTable(
        metric="parameters removed in % (stand-in)",
        stand_in=True,
        quantum=100 / space.model.num_params,
        value=value,
        state=np.zeros_like(value),
        interactions=np.zeros((len(value) - 1, 1, 1), dtype=np.int64),
    )


def _energy_lost(data: Mapping[str, Any], where: str, space: DesignSpace) -> QualityTable:
    spectra: dict[Site, Floats] = {}
    for number, entry in enumerate(_list(data, "spectra", where)):
        at = f"{where}: spectra[{number}]"
        site = _site(entry, at, space)
        values = entry.get("singular_values")
        if not isinstance(values, list) or not values or not all(_is_number(each) and each >= 0 for each in values):
            raise InputError(f"{at}: singular_values is no list of finite numbers of at least 0", value=values)
        spectra[site] = np.sort(np.array(values, dtype=np.float64))[::-1]
    values_of: dict[tuple[Site, int], float] = {}
    for site, numbers in spectra.items():
        energy = np.append(0.0, np.cumsum(numbers**2))
        column = [tensor.name for tensor in space.model.tensors].index(site.tensor)
        for rank in space.ranks[column]:
            kept = energy[min(rank, len(numbers))] / energy[-1] if energy[-1] else 1.0
            values_of[site, rank] = float(100 * (1 - kept)) / space.free.size
    table = _table(values_of, {}, {}, where, space)
    return _quality("spectral energy lost in %, mean over all weights (stand-in)", True, *table)


def _measured(data: Mapping[str, Any], where: str, space: DesignSpace) -> QualityTable:
    names = data.get("states")
    if names is not None and not (isinstance(names, list) and all(isinstance(each, str) for each in names)):
        raise InputError(f"{where}: states is no list of names", value=names)
    values: dict[tuple[Site, int], float] = {}
    states: dict[tuple[Site, int], int] = {}
    for number, entry in enumerate(_list(data, "entries", where)):
        at = f"{where}: entries[{number}]"
        site = _site(entry, at, space)
        form, rank = entry.get("form", "svd"), entry.get("rank")
        if isinstance(rank, list) and len(rank) == 2 and rank[0] == rank[1]:
            rank = rank[0]
        if form not in ("svd", "tucker"):
            raise InputError(f"{at}: unknown form", value=form, allowed="svd, tucker")
        if type(rank) is not int or rank < 1:
            raise InputError(f"{at}: not a rank", value=rank, allowed="a whole number of at least 1")
        value, state = _number(entry, at), _state(entry.get("state", 0), names, at)
        if form != space.form:
            continue
        if (site, rank) in values:
            raise InputError(f"{at}: given twice", value=f"{site} rank {rank}")
        values[site, rank], states[site, rank] = value, state
    pairs: dict[tuple[int, int, int], float] = {}
    listed = _list(data, "layer_interactions", where) if "layer_interactions" in data else []
    for number, entry in enumerate(listed):
        at = f"{where}: layer_interactions[{number}]"
        if not isinstance(entry, dict):
            raise InputError(f"{at}: not an object", value=entry)
        layer = entry.get("layer")
        if type(layer) is not int or not 0 <= layer < len(space.free) - 1:
            raise InputError(f"{at}: layer without a next layer", value=layer, allowed=f"0 to {len(space.free) - 2}")
        key = (layer, _state(entry.get("state"), names, at), _state(entry.get("next_state"), names, at))
        if key in pairs:
            raise InputError(f"{at}: given twice", value=key)
        pairs[key] = _number(entry, at)
    metric = data.get("metric", "quality")
    if not isinstance(metric, str):
        raise InputError(f"{where}: metric is no text", value=metric)
    return _quality(metric, False, *_table(values, states, pairs, where, space))


def _table(
    values: Mapping[tuple[Site, int], float],
    states: Mapping[tuple[Site, int], int],
    pairs: Mapping[tuple[int, int, int], float],
    where: str,
    space: DesignSpace,
) -> tuple[Floats, Ints, Floats]:
    """Arrays of value, state and interactions; every free site needs every possible rank."""
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
                elif space.possible[column, place]:
                    missing.append(f"{site} {space.form} rank {rank}")
    if missing:
        raise InputError(
            f"{where}: no quality for {len(missing)} of the space's sites and ranks",
            value=missing[0],
            hint="restrict the space with --ranks and --keep, or measure them",
        )
    count = 1 + max([0, *states.values(), *(max(key[1:]) for key in pairs)])
    interactions = np.zeros((len(value) - 1, count, count))
    for (layer, here, there), number in pairs.items():
        interactions[layer, here, there] = number
    return value, state, interactions


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


def _read(path: str) -> Mapping[str, Any]:
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("cannot read quality file", value=path, hint=str(error)) from error
    except (ValueError, RecursionError) as error:
        raise InputError("quality file is not JSON", value=path, hint=str(error)) from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: not an object", value=data, allowed="{schema, model, metric, entries, ...}")
    if data.get("schema", SCHEMA) != SCHEMA:
        raise InputError(f"{path}: unknown schema", value=data["schema"], allowed=str(SCHEMA))
    return data


def _of_model(data: Mapping[str, Any], where: str, space: DesignSpace) -> Mapping[str, Any]:
    if data.get("model", space.model.name) != space.model.name:
        raise InputError(f"{where} is of another model", value=data["model"], allowed=space.model.name)
    return data


def _list(data: Mapping[str, Any], key: str, where: str) -> list[Any]:
    found = data.get(key)
    if not isinstance(found, list):
        raise InputError(f"{where}: {key} is no list", value=found)
    return found


def _site(entry: Any, at: str, space: DesignSpace) -> Site:
    name = entry.get("site") if isinstance(entry, dict) else None
    words = name.split(".") if isinstance(name, str) else []
    tensors = [tensor.name for tensor in space.model.tensors]
    if len(words) != 3 or words[0] != "layers" or not (words[1].isascii() and words[1].isdigit()):
        raise InputError(f"{at}: not a site", value=name, allowed="layers.<number>.<tensor>")
    if int(words[1]) >= len(space.free) or words[2] not in tensors:
        raise InputError(f"{at}: {space.model.name} has no such site", value=name, hint=nearest(words[2], tensors))
    return Site(int(words[1]), words[2])


def _number(entry: Mapping[str, Any], at: str) -> float:
    value = entry.get("value")
    if not _is_number(value):
        raise InputError(f"{at}: value is not a finite number", value=value)
    return float(value)  # type: ignore[arg-type]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _state(value: object, names: list[str] | None, at: str) -> int:
    if names is not None and isinstance(value, str) and value in names[:MAX_STATES]:
        return names.index(value)
    if type(value) is int and 0 <= value < MAX_STATES:
        return value
    allowed = f"0 to {MAX_STATES - 1}" if names is None else ", ".join(names[:MAX_STATES])
    raise InputError(f"{at}: not a state", value=value, allowed=allowed)
