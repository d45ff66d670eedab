"""Files that say what factoring each weight costs: values and states of sites at ranks, and of neighbouring layers.

docs/explore.md has the format, and docs/schemas/quality.json.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Floats
from costmodel.decomposition.factors import FORMS, Site
from costmodel.decomposition.sites import site_columns
from costmodel.errors import InputError, nearest
from costmodel.files.node import Node
from costmodel.files.read import read_json
from costmodel.space.base import DesignSpace

SCHEMA = 1
MAX_STATES = 16
_LARGEST, _LARGEST_SINGULAR = 1e300, 1e140
"""Bounds of values, which are added up, and of singular values, which are squared before."""
_MAX_RANK = 10**6
_LAYER = re.compile("0|[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityEntries:
    """What a file holds of a space's form.

    Attributes:
        metric: what the numbers are, for people.
        values: of a site at a rank.
        states: of a site at a rank, 0 where the file has none.
        pairs: of (a layer, its state, the next layer's state).
    """

    metric: str
    values: Mapping[tuple[Site, int], float]
    states: Mapping[tuple[Site, int], int]
    pairs: Mapping[tuple[int, int, int], float]


def read_entries(path: str, space: DesignSpace) -> QualityEntries:
    """The entries of a quality file that are of the space's form.

    Raises:
        InputError: when it cannot be read or is malformed, says something twice, or is of another model.
    """
    file = _read(path, space)
    names = _names(file)
    values: dict[tuple[Site, int], float] = {}
    states: dict[tuple[Site, int], int] = {}
    for entry in _listed(file, "entries", path):
        part = entry.entries(["site", "rank", "value"])
        site, rank, value = _site(part["site"], space), _rank(part["rank"]), _value(part["value"])
        state = _state(part["state"], names) if "state" in part else 0
        form = part["form"].choice(FORMS) if "form" in part else "svd"
        if form != space.form:
            continue
        if (site, rank) in values:
            raise InputError(f"{path}: {entry.key}: given twice", value=f"{site} rank {rank}")
        values[site, rank], states[site, rank] = value, state
    pairs: dict[tuple[int, int, int], float] = {}
    for entry in _listed(file, "layer_interactions", path) if "layer_interactions" in file else []:
        part = entry.entries(["layer", "state", "next_state", "value"])
        layer = part["layer"].integer(0, len(space.free) - 2)
        key = (layer, _state(part["state"], names), _state(part["next_state"], names))
        if key in pairs:
            raise InputError(f"{path}: {entry.key}: given twice", value=key)
        pairs[key] = _value(part["value"])
    metric = file["metric"].text() if "metric" in file else "quality"
    return QualityEntries(metric=metric, values=values, states=states, pairs=pairs)


def read_spectra(path: str, space: DesignSpace) -> dict[Site, Floats]:
    """Singular values of sites, falling, of a file of `spectra`.

    Raises:
        InputError: as `read_entries`.
    """
    spectra: dict[Site, Floats] = {}
    for entry in _listed(_read(path, space), "spectra", path):
        part = entry.entries(["site", "singular_values"])
        values = part["singular_values"].array((None,), 0, _LARGEST_SINGULAR)
        if not len(values):
            raise part["singular_values"].wrong("at least one number")
        spectra[_site(part["site"], space)] = np.sort(values)[::-1]
    return spectra


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
