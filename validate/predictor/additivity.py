"""Where damage adds up: sets of sites against the sum of their parts, and the misfit of sums by size and damage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from costmodel.decomposition import Decomposition
from validate.predictor.errors import in_bands, mean_interval
from validate.predictor.points import Evidence, Floats
from validate.predictor.score import compress

_PARTS = 400
"""Parts of one configuration that are looked through."""
Items = frozenset[Any]


def additivity_rows(evidence: Evidence, predicted: Floats) -> list[dict[str, Any]]:
    """Measured over expected change of NLL, minus 1, by group, with 95 % intervals.

    Means of logarithms, on the compressed scale: of changes far below FLOOR the difference counts, not the ratio.

    `parts`: configurations whose sites are those of two or more others that were measured too, against the sum of
    these; nothing is fitted. `sum`: held-out predictions of a pure sum over sites (no interactions, a straight link).
    Above 0, damages strengthen each other; below 0, they mask each other.

    Args:
        predicted: of the pure sum, nats, float64 (n).
    """
    measured = evidence.points.change
    rows = _grouped("sum", evidence, np.arange(len(measured)), predicted)
    whole, sums = sums_of_parts(evidence)
    return [*rows, *_grouped("parts", evidence, whole, sums)]


def sums_of_parts(evidence: Evidence) -> tuple[np.ndarray[Any, Any], Floats]:
    """Places of configurations that others make up, and the sums of the others' measured changes, nats."""
    points = evidence.points
    items = [_items(record.decomposition(evidence.spec)) for record in points.records]
    places, sums = [], []
    for place, whole in enumerate(items):
        parts = [other for other in range(len(items)) if items[other] < whole]
        cover = _cover(whole, sorted(parts, key=lambda other: -len(items[other]))[:_PARTS], items)
        if cover is not None:
            places.append(place)
            sums.append(sum(points.change[other] for other in cover))
    return np.array(places, dtype=np.int64), np.array(sums, dtype=np.float64)


def _cover(whole: Items, parts: Sequence[int], items: Sequence[Items], steps: int = 2000) -> list[int] | None:
    """Disjoint parts that make up the whole, the smallest parts first tried: the finest division that is found."""
    budget = [steps]

    def search(left: Items, start: int) -> list[int] | None:
        if not left:
            return []
        for place in range(start, len(order)):
            budget[0] -= 1
            if budget[0] < 0:
                return None
            if items[order[place]] <= left:
                rest = search(left - items[order[place]], place + 1)
                if rest is not None:
                    return [order[place], *rest]
        return None

    order = list(reversed(parts))
    return search(whole, 0)


def _items(decomposition: Decomposition) -> Items:
    return frozenset(decomposition.factors.items()) | decomposition.dropped


def _grouped(
    kind: str, evidence: Evidence, places: np.ndarray[Any, Any], expected: Floats
) -> list[dict[str, Any]]:  # fmt: skip
    if not len(places):
        return []
    points = evidence.points
    measured = points.change[places]
    layers = np.array(points.strata("layers"), dtype=object)[places]
    sites = points.touched.sum(axis=(1, 2))[places]
    classes = [(1, 1), (2, 4), (5, 16), (17, 10**9)]
    groups: dict[str, Mapping[str, Any]] = {
        "layers": {name: layers == name for name in dict.fromkeys(sorted(layers, key=_order))},
        "sites": {_range(low, high): (sites >= low) & (sites <= high) for low, high in classes},
        "expected change": in_bands(np.asarray(expected)),
    }
    rows = []
    for group, members in groups.items():
        for name, inside in members.items():
            if not inside.any():
                continue
            logs = compress(measured[inside]) - compress(expected[inside])
            low, high = mean_interval(logs)
            rows.append({
                "against": kind, "group": group, "class": name, "points": int(inside.sum()),
                "excess": math.expm1(float(logs.mean())),
                "excess_low": None if low is None else math.expm1(low),
                "excess_high": None if high is None else math.expm1(high),
                "difference_nats": float((measured - expected)[inside].mean()),
            })  # fmt: skip
    return rows


def _order(name: str) -> int:
    return ["1 layer", "up to half of the layers", "more than half of the layers", "all layers"].index(name)


def _range(low: int, high: int) -> str:
    return "1 site" if high == 1 else f"{low} to {high} sites" if high < 10**9 else f"{low} or more sites"
