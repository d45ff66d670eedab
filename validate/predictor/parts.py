"""Configurations that others make up, and halves of configurations to measure next. No torch."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from costmodel.decomposition.factors import Decomposition, Site
from costmodel.model import ModelSpec
from validate.predictor.evidence import Evidence
from validate.predictor.points import Floats, Ints, Points
from validate.predictor.score import compress

_LARGEST = 3.0
"""Nats: of what is near its ceiling, halves say that and no more."""

_PARTS, _STEPS = 400, 2000
"""Parts of one configuration that are looked through, and steps of the search for a division."""
Items = frozenset[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """A measured configuration and disjoint ones that make it up, as places.

    Attributes:
        whole: what is made up.
        parts: two or more.
    """

    whole: int
    parts: tuple[int, ...]


def find_covers(evidence: Evidence) -> list[Cover]:
    """Every configuration whose sites are, with the same factors, those of others; the finest division found."""
    items = [_items(record.decomposition(evidence.spec)) for record in evidence.points.records]
    found = []
    for place, whole in enumerate(items):
        parts = sorted((other for other in range(len(items)) if items[other] < whole), key=lambda n: len(items[n]))
        cover = _cover(whole, parts[:_PARTS], items)
        if cover is not None:
            found.append(Cover(whole=place, parts=tuple(cover)))
    return found


def families(evidence: Evidence, covers: Sequence[Cover]) -> Ints:
    """A number for each configuration, the same for those that are held out together, int64 (n).

    These are a whole with the parts of its cover, and with halves of it (`halves_of`) that were both measured. A single
    dropped layer is in no family: every set of dropped layers contains some, and would be held out with every other.
    """
    wholes = [record.decomposition(evidence.spec) for record in evidence.points.records]
    items = [_items(whole) for whole in wholes]
    places = {each: place for place, each in enumerate(items)}
    groups = [[cover.whole, *cover.parts] for cover in covers]
    for place, whole in enumerate(wholes):
        for pair in halves_of(whole, evidence.spec):
            halves = [places[each] for each in map(_items, pair) if each in places]
            groups += [[place, *halves]] if len(halves) == len(pair) else []
    family = np.arange(len(wholes))
    for group in groups:
        members = [place for place in group if not _is_dropped_layer(items[place])]
        if members:
            family[np.isin(family, family[members])] = family[members].min()
    return family


def linked(covers: Sequence[Cover]) -> Ints:
    """A number for each cover, the same for those that share a configuration, int64: their sums err together."""
    link = np.arange(len(covers))
    first: dict[int, int] = {}
    for index, cover in enumerate(covers):
        others = [first.setdefault(place, index) for place in (cover.whole, *cover.parts)]
        link[np.isin(link, link[[index, *others]])] = link[[index, *others]].min()
    return link


def halves_of(whole: Decomposition, spec: ModelSpec) -> list[tuple[Decomposition, Decomposition]]:
    """Up to two ways to halve a configuration: by layers, every other touched one, and by tensors within layers."""
    order = {tensor.name: place for place, tensor in enumerate(spec.tensors)}
    return [pair for pair in (_by_layers(whole), _by_tensors(whole, order)) if pair is not None]


def parts_content(evidence: Evidence, count: int) -> bytes:
    """A file for `validate quality --configs`: two halves of each of up to `count` measured configurations.

    Wholes are spread evenly over the measured changes, each halved once: by layers or by tensors, in turn. Beside the
    wholes' own records, the parts' give `additivity_rows` sums to compare.
    """
    spec, points = evidence.spec, evidence.points
    found: list[dict[str, Any]] = []
    for turn, place in enumerate(_spread(points, count)):
        ways = halves_of(points.records[place].decomposition(spec), spec)
        found += [half.to_json() for half in (ways[turn % len(ways)] if ways else ())]
    unique = {json.dumps(config, sort_keys=True): config for config in found}
    return (json.dumps(list(unique.values()), indent=1, allow_nan=False) + "\n").encode()


def _spread(points: Points, count: int) -> Iterator[int]:
    """Places of configurations of at least two sites or layers, evenly over the compressed scale of change."""
    many = (points.touched.sum(axis=(1, 2)) > 1) & (points.change < _LARGEST) & (points.change > 0)
    many &= ~(points.dropped.any(axis=1) & (points.touched.any(axis=2).sum(axis=1) == 1))
    places = np.flatnonzero(many)
    values: Floats = compress(points.change[places])
    rng, taken = random.Random("parts 0"), set()
    for target in np.linspace(values.min(), values.max(), count) if len(places) else ():
        free = [place for place in range(len(places)) if place not in taken]
        if not free:
            return
        nearest = min(free, key=lambda place: (abs(values[place] - target), rng.random()))
        taken.add(nearest)
        yield int(places[nearest])


def _by_layers(whole: Decomposition) -> tuple[Decomposition, Decomposition] | None:
    layers = sorted({site.layer for site in whole.factors} | whole.dropped)
    return None if len(layers) < 2 else _split(whole, lambda site: site.layer in layers[::2], set(layers[::2]))


def _by_tensors(whole: Decomposition, order: dict[str, int]) -> tuple[Decomposition, Decomposition] | None:
    """Of every layer the tensors first in the forward pass, with what is dropped, and the rest."""
    by_layer: dict[int, list[Site]] = {}
    for site in sorted(whole.factors, key=lambda site: order[site.tensor]):
        by_layer.setdefault(site.layer, []).append(site)
    first = {site for sites in by_layer.values() for site in sites[: len(sites) // 2]}
    return _split(whole, lambda site: site in first, set(whole.dropped)) if first else None


def _split(whole: Decomposition, chosen: Any, layers: set[int]) -> tuple[Decomposition, Decomposition]:
    one = {site: factor for site, factor in whole.factors.items() if chosen(site)}
    rest = {site: factor for site, factor in whole.factors.items() if site not in one}
    return Decomposition(one, whole.dropped & layers), Decomposition(rest, whole.dropped - layers)


def _cover(whole: Items, parts: Sequence[int], items: Sequence[Items]) -> list[int] | None:
    """Disjoint parts that make up the whole, small ones tried first."""
    steps = 0

    def search(left: Items, start: int) -> list[int] | None:
        nonlocal steps
        if not left:
            return []
        for place in range(start, len(parts)):
            steps += 1
            if steps > _STEPS:
                return None
            if items[parts[place]] <= left:
                rest = search(left - items[parts[place]], place + 1)
                if rest is not None:
                    return [parts[place], *rest]
        return None

    return search(whole, 0)


def _is_dropped_layer(items: Items) -> bool:
    return len(items) == 1 and all(isinstance(each, int) for each in items)


def _items(decomposition: Decomposition) -> Items:
    return frozenset(decomposition.factors.items()) | decomposition.dropped
