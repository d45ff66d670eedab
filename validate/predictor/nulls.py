"""What a predictor has to beat: models that anyone could use without it, fitted to the same training parts.

All are fitted by least absolute deviations in nats, the error that they are judged by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from validate.predictor.evidence import Evidence
from validate.predictor.points import Floats, Ints, lookup, site_errors

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
    middle = np.median(change)
    return lambda others: np.full(len(others), middle)


def _line(feature: Floats, change: Floats) -> Callable[[Floats], Floats]:
    from sklearn.linear_model import QuantileRegressor

    line = QuantileRegressor(quantile=0.5, alpha=0.0).fit(feature[:, None], change)
    return lambda others: np.asarray(line.predict(others[:, None]))


def _rising(feature: Floats, change: Floats) -> Callable[[Floats], Floats]:
    """The best rising function of the feature, straight between its points.

    Isotonic regression by medians: neighbours whose medians fall are pooled (Robertson and Wright, The Annals of
    Statistics 8, 1980); scikit-learn's and scipy's are by means.
    """
    places, starts = np.unique(np.sort(feature), return_index=True)
    pooled: list[Floats] = []
    widths: list[int] = []
    for values in np.split(change[np.argsort(feature, kind="stable")], starts[1:]):
        width = 1
        while pooled and np.median(pooled[-1]) > np.median(values):
            values, width = np.concatenate([pooled.pop(), values]), width + widths.pop()
        pooled.append(values)
        widths.append(width)
    fitted = np.repeat([np.median(values) for values in pooled], widths)
    return lambda others: np.interp(others, places, fitted)
