"""A fitted predictor as the quality file of `costmodel explore`: its score by site, its link beside it. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from costmodel.decomposition.factors import Form as FactorForm
from costmodel.decomposition.factors import Site
from costmodel.decomposition.text import Rank
from costmodel.errors import InputError
from costmodel.explore.quality_file import SCHEMA
from costmodel.space.make import resolve_ranks
from validate.predictor.evidence import Evidence
from validate.predictor.interval import Band
from validate.predictor.points import LOST, Floats, Points, energies, site_errors
from validate.predictor.score import STATES, Form, Inputs, Score, state_of
from validate.sensitivity.quality_file import MAX_ENTRIES

_GRID = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Changes of NLL that the link is tabulated at, nats."""


def quality_content(
    evidence: Evidence,
    form: Form,
    score: Score,
    band: Band,
    *,
    kind: FactorForm,
    ranks: Sequence[Rank],
    multiple: int = 1,
    origin: str = "",
) -> dict[str, Any]:
    """What the reader of quality files takes, and more under keys that it leaves alone.

    Args:
        form, score: the predictor.
        band: its intervals.
        kind: form of the factors; both forms have the same errors.
        ranks: as `explore --ranks` takes them; ranks above min(out, in) of a tensor are left out.
        multiple: as `explore --rank-multiple`.
        origin: what the predictor is made from, for people; empty where it was fitted to all measured configurations.

    Raises:
        InputError: when a rank is impossible, or there would be too many entries.
    """
    spec = evidence.spec
    resolved = resolve_ranks(spec, kind, ranks, multiple)
    if (count := spec.num_layers * sum(map(len, resolved))) > MAX_ENTRIES:
        raise InputError(
            "too many entries for a quality file",
            value=count,
            allowed=f"up to {MAX_ENTRIES:,}",
            hint="give fewer --ranks",
        )
    tables = site_errors(evidence.sensitivity, evidence.factors, form.measure)
    entries = []
    for layer in range(spec.num_layers):
        for column, (tensor, row) in enumerate(zip(spec.tensors, resolved, strict=True)):
            values = site_scores(evidence, form, score, tables, layer, column)
            states = state_of(values) if form.states else np.zeros(len(values), dtype=np.int64)
            entries += [
                {
                    "site": str(Site(layer, tensor.name)),
                    "form": kind,
                    "rank": rank,
                    "value": (1 - score.shared) * float(values[rank]),
                    "state": int(states[rank]),
                }
                for rank in sorted(set(row))
                if rank < len(values)
            ]
    origin = origin or f"predicted from {len(evidence.points)} measured configurations"
    metric = f"score of the increase of NLL, {evidence.factors} factors, {origin}; `link` turns it into nats"
    return {
        "schema": SCHEMA,
        "model": spec.name,
        "metric": metric,
        "link": _link(score, band),
        "dropped_layers": _dropped(evidence, form, score),
        "layer_interactions": _interactions(score, spec.num_layers),
        "entries": entries,
    }


def site_scores(
    evidence: Evidence, form: Form, score: Score, tables: Sequence[Sequence[Floats]], layer: int, column: int
) -> Floats:
    """c of one site at every rank from 0 to min(out, in), float64 (k + 1)."""
    energy = energies(evidence.sensitivity, evidence.factors, form.measure)
    count = len(tables[layer][column])
    errors = np.zeros((count, *energy.shape))
    errors[:, layer, column] = tables[layer][column]
    dropped = np.zeros((count, len(energy)), dtype=bool)
    inputs = Inputs.of(errors, errors > 0, dropped, energy if form.prior else np.ones_like(energy))
    return np.asarray(score.parts(inputs)[:, layer, column])


def score_of_change(score: Score, change: float) -> float | None:
    """The inverse of the link; None from the ceiling on."""
    share = change / score.ceiling
    return None if share >= 1 else float(score.ceiling * (-np.log1p(-share)) ** (1 / score.bend))


def _link(score: Score, band: Band) -> dict[str, Any]:
    rows = [(change, score_of_change(score, change)) for change in _GRID]
    known = [(change, value) for change, value in rows if value is not None]
    low, high = band.around(np.array([change for change, _ in known]))
    return {
        "formula": "nll_change = ceiling * (1 - exp(-(score / ceiling) ** bend))",
        "ceiling": score.ceiling,
        "bend": score.bend,
        "nll_change": [change for change, _ in known],
        "score": [value for _, value in known],
        "low": low.tolist(),
        "high": high.tolist(),
        "level": 0.9,
    }


def _dropped(evidence: Evidence, form: Form, score: Score) -> list[float]:
    """The score of leaving out each layer alone."""
    layers, tensors = evidence.spec.num_layers, len(evidence.spec.tensors)
    ranks = np.full((layers, layers, tensors), -1)
    ranks[np.arange(layers), np.arange(layers)] = LOST
    points = Points(records=(), ranks=ranks, change=np.zeros(layers), removed=np.zeros(layers))
    energy = energies(evidence.sensitivity, evidence.factors, form.measure)
    inputs = Inputs.of(
        np.where(points.touched, 1.0, 0.0),
        points.touched,
        points.dropped,
        energy if form.prior else np.ones_like(energy),
    )
    return [float(value) for value in score.score(inputs)]


def _interactions(score: Score, layers: int) -> list[dict[str, Any]]:
    """What a layer's worst site adds goes with the pair that the layer begins; the last layer's with the last pair."""
    found = []
    for layer in range(layers - 1):
        for here, worst in enumerate(STATES):
            for there, other in enumerate(STATES):
                last = other if layer == layers - 2 else 0.0
                value = float(score.shared * (worst + last) + score.pair * np.sqrt(worst * other))
                if value:
                    found.append({"layer": layer, "state": here, "next_state": there, "value": value})
    return found
