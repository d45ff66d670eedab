"""Where damage adds up: configurations against the sum of their parts; and the misfit of a fitted sum over sites."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from validate.predictor.crossval import Candidate
from validate.predictor.errors import SEED, in_bands, mean_interval
from validate.predictor.evidence import Evidence
from validate.predictor.fitting import fit_score
from validate.predictor.parts import Cover, linked
from validate.predictor.points import Floats, Ints
from validate.predictor.score import compress

REFITS = 1000
"""Of the bootstrap: the 2.5 % end of 100 would have a standard error of 0.24 standard deviations, of 1,000 of 0.08."""


def additivity_rows(
    evidence: Evidence, predicted: Floats, covers: Sequence[Cover], families: Ints
) -> list[dict[str, Any]]:
    """Measured over expected change of NLL, minus 1, by group, with 95 % intervals.

    Means of logarithms, on the compressed scale: of changes far below FLOOR the difference counts, not the ratio. What
    shares a part is resampled together.

    `parts`: configurations whose sites are those of two or more others that were measured too, against the sum of
    these; nothing is fitted. Above 0, damages strengthen each other; below 0, they mask each other. They are grouped by
    `cut` too: across layers where no layer is touched by two parts, else within layers.

    `fitted sum`: held-out predictions of a pure sum over sites (no interactions, a straight link). Its coefficients are
    fitted to configurations of all sizes, so they take in what these have in common of interactions: the rows say where
    a sum is of no use for prediction, not where damage adds up. Even of single sites, where it must, they are not 0.

    Args:
        predicted: of the pure sum, nats, float64 (n).
        covers: configurations with their parts.
        families: as `parts.families`.
    """
    measured = evidence.points.change
    counted = np.flatnonzero(evidence.points.counted)
    rows = _grouped("fitted sum", evidence, counted, predicted[counted], families[counted])
    whole = np.array([cover.whole for cover in covers], dtype=np.int64)
    sums = np.array([measured[list(cover.parts)].sum() for cover in covers])
    layers = np.asarray(evidence.points.touched.any(axis=2))
    within = np.array([bool((layers[list(cover.parts)].sum(axis=0) > 1).any()) for cover in covers], dtype=np.bool_)
    cuts = {"across layers": ~within, "within layers": within}
    return [*rows, *_grouped("parts", evidence, whole, sums, linked(covers), cuts)]


def interaction_rows(candidate: Candidate, change: Floats, families: Ints) -> list[dict[str, Any]]:
    """How far damages interact: coefficients of a form with masking within layers, with 95 % percentile intervals of a
    bootstrap that resamples whole families.

    The fits are penalised, so their coefficients, and with them the intervals, lean towards no interaction.

    Args:
        candidate: the form that was chosen; masking is added if it lacks it.
        change: measured, nats, float64 (n).
        families: as `parts.families`.

    Returns:
        `shared`, 0 where the damages of one layer add up and 1 where the worst of its sites counts alone; `bend`, 1
        where those of unlike layers add up, above 1 where they strengthen each other.
    """
    form, inputs = replace(candidate.form, shared=True, pair=False), candidate.inputs
    members = [np.flatnonzero(families == family) for family in np.unique(families)]
    rng, count = np.random.default_rng(SEED), len(members)
    best = fit_score(form, inputs, change)
    picks = [np.concatenate([members[one] for one in rng.integers(0, count, count)]) for _ in range(REFITS)]
    drawn = [fit_score(form, inputs.subset(pick), change[pick]) for pick in picks]
    rows = []
    for name in ("shared", "bend"):
        low, high = np.quantile([getattr(each, name) for each in drawn], [0.025, 0.975])
        rows.append({"coefficient": name, "value": getattr(best, name), "low": float(low), "high": float(high)})
    return rows


def _grouped(
    kind: str,
    evidence: Evidence,
    places: np.ndarray[Any, Any],
    expected: Floats,
    families: Ints,
    cuts: Mapping[str, np.ndarray[Any, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Rows of every class; `families` of points are resampled together, `cuts` says which are cut how."""
    if not len(places):
        return []
    points = evidence.points
    measured = points.change[places]
    layers = np.array(points.strata("layers"), dtype=object)[places]
    sites = points.touched.sum(axis=(1, 2))[places]
    in_layer = sites / points.touched.any(axis=2).sum(axis=1)[places]
    classes = [(1, 1), (2, 4), (5, 16), (17, 10**9)]
    crowds = {"one": in_layer <= 1, "up to four": (in_layer > 1) & (in_layer <= 4), "more than four": in_layer > 4}
    alone = layers == "1 layer"
    crowd = {
        f"{name}, {many}": inside & (alone if many == "1 layer" else ~alone)
        for name, inside in crowds.items()
        for many in ("1 layer", "more layers")
    }
    groups: dict[str, Mapping[str, Any]] = {
        "layers": {name: layers == name for name in dict.fromkeys(sorted(layers, key=_order))},
        "sites": {_range(low, high): (sites >= low) & (sites <= high) for low, high in classes},
        "sites in a layer": crowd,
        "expected change": in_bands(np.asarray(expected)),
    }
    if cuts is not None:
        bands = {name: band for name, band in in_bands(np.asarray(expected)).items() if name != "all"}
        groups["cut"] = cuts
        for cut, inside in cuts.items():
            groups[f"expected change, {cut}"] = {name: inside & band for name, band in bands.items()}
    rows = []
    for group, members in groups.items():
        for name, inside in members.items():
            if not inside.any():
                continue
            logs = compress(measured[inside]) - compress(expected[inside])
            low, high = mean_interval(logs, families[inside])
            rows.append(
                {
                    "against": kind,
                    "group": group,
                    "class": name,
                    "points": int(inside.sum()),
                    "excess": math.expm1(float(logs.mean())),
                    "excess_low": None if low is None else math.expm1(low),
                    "excess_high": None if high is None else math.expm1(high),
                    "difference_nats": float((measured - expected)[inside].mean()),
                }
            )
    return rows


def _order(name: str) -> int:
    return ["1 layer", "up to half of the layers", "more than half of the layers", "all layers"].index(name)


def _range(low: int, high: int) -> str:
    return "1 site" if high == 1 else f"{low} to {high} sites" if high < 10**9 else f"{low} or more sites"
