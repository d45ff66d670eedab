"""Configurations that others make up, and halves of configurations to measure next. No torch."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from costmodel.decomposition import Decomposition, Site
from validate.predictor.points import Evidence, Floats, Ints, Points
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


def families(count: int, covers: Sequence[Cover]) -> Ints:
    """A number for each configuration, the same for a whole and its parts: what is held out together."""
    family = np.arange(count)
    for cover in covers:
        members = [cover.whole, *cover.parts]
        family[np.isin(family, family[members])] = family[members].min()
    return family


def parts_content(evidence: Evidence, count: int, seed: int = 0) -> bytes:
    """A file for `validate quality --configs`: two halves of each of up to `count` measured configurations.

    Wholes are spread evenly over the measured changes, each halved once: by layers (every other touched one), or by
    tensors within layers, in turn. Beside the wholes' own records, the parts' give `additivity_rows` sums to compare.
    """
    spec, points = evidence.spec, evidence.points
    order = {tensor.name: place for place, tensor in enumerate(spec.tensors)}
    found: list[dict[str, Any]] = []
    for turn, place in enumerate(_spread(points, count, seed)):
        whole = points.records[place].decomposition(spec)
        ways = [_by_layers(whole), _by_tensors(whole, order)]
        halves = next((pair for pair in (ways[turn % 2], ways[1 - turn % 2]) if pair is not None), None)
        found += [half.to_json() for half in halves or ()]
    unique = {json.dumps(config, sort_keys=True): config for config in found}
    return (json.dumps(list(unique.values()), indent=1) + "\n").encode()


def _spread(points: Points, count: int, seed: int) -> Iterator[int]:
    """Places of configurations of at least two sites or layers, evenly over the compressed scale of change."""
    many = (points.touched.sum(axis=(1, 2)) > 1) & (points.change < _LARGEST) & (points.change > 0)
    many &= ~(points.dropped.any(axis=1) & (points.touched.any(axis=2).sum(axis=1) == 1))
    places = np.flatnonzero(many)
    values: Floats = compress(points.change[places])
    rng, taken = random.Random(f"parts {seed}"), set()
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


def _items(decomposition: Decomposition) -> Items:
    return frozenset(decomposition.factors.items()) | decomposition.dropped
