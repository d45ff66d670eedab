"""What a predictor has to beat: models that anyone could use without it, fitted to the same training parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy import optimize

from validate.predictor.evidence import Evidence
from validate.predictor.points import Floats, Ints, lookup, site_errors
from validate.predictor.score import compress, expand

Model = Callable[[Floats, Floats], Callable[[Floats], Floats]]


def null_predictions(evidence: Evidence, folds: Ints) -> dict[str, Floats]:
    """Held-out predictions of every null model, nats, float64 (n) each."""
    points = evidence.points
    sums = {
        measure: lookup(site_errors(evidence.sensitivity, evidence.factors, measure), points.ranks).sum(axis=(1, 2))
        for measure in ("frobenius", "stable rank")
    }
    models: Mapping[str, tuple[Model, Floats]] = {
        "constant": (_constant, points.removed),
        "line in parameters removed": (_line, points.removed),
        "parameters removed, rising link": (_rising, points.removed),
        "Frobenius error, rising link": (_rising, sums["frobenius"]),
        "stable rank / rank, rising link": (_rising, sums["stable rank"]),
    }
    found = {}
    for name, (model, feature) in models.items():
        predicted = np.zeros(len(points))
        for fold in range(int(folds.max()) + 1):
            out = folds == fold
            predicted[out] = model(feature[~out], points.change[~out])(feature[out])
        found[name] = predicted
    return found


def _constant(feature: Floats, change: Floats) -> Callable[[Floats], Floats]:
    return lambda others: np.full(len(others), change.mean())


def _line(feature: Floats, change: Floats) -> Callable[[Floats], Floats]:
    line = np.polynomial.Polynomial.fit(feature, change, 1)
    return lambda others: np.asarray(line(others))


def _rising(feature: Floats, change: Floats) -> Callable[[Floats], Floats]:
    """The best rising function of the feature on the predictor's own scale (isotonic), straight between its points."""
    places, inverse = np.unique(feature, return_inverse=True)
    weights = np.bincount(inverse).astype(np.float64)
    means = np.bincount(inverse, compress(change)) / weights
    fitted = optimize.isotonic_regression(means, weights=weights).x
    return lambda others: expand(np.interp(others, places, fitted))
