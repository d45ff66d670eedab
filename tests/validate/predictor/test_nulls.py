"""Null models: each is the best of its kind by the error that judges it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("sklearn")
pytest.importorskip("safetensors")

from predicting import made_records, made_sensitivity, write_records
from scipy import optimize

from validate.predictor import nulls
from validate.predictor.evidence import read_evidence
from validate.predictor.points import Floats


@pytest.fixture(scope="module")
def data() -> tuple[Floats, Floats]:
    """A feature with ties, and changes that rise with it, skewed: mean and median differ."""
    rng = np.random.default_rng(0)
    feature = np.round(rng.uniform(0, 1, 80), 2)
    return feature, feature**2 + np.exp(rng.normal(-1, 1.2, 80))


def absolute(predicted: Floats, change: Floats) -> float:
    return float(np.abs(predicted - change).sum())


def test_the_constant_is_the_median(data: tuple[Floats, Floats]) -> None:
    feature, change = data
    found = nulls._constant(feature, change)(feature)
    assert set(found.tolist()) == {float(np.median(change))}


def test_no_line_has_a_smaller_absolute_error(data: tuple[Floats, Floats]) -> None:
    """Some line of the best goes through two of the points: all of those are tried."""
    feature, change = data
    best = np.inf
    for one in range(len(feature)):
        other = feature != feature[one]
        slope = (change[other] - change[one]) / (feature[other] - feature[one])
        lines = change[one] + slope[:, None] * (feature - feature[one])
        best = min(best, float(np.abs(lines - change).sum(axis=1).min()))
    assert absolute(nulls._line(feature, change)(feature), change) == pytest.approx(best, rel=1e-6)


def test_no_rising_function_has_a_smaller_absolute_error(data: tuple[Floats, Floats]) -> None:
    """Beside the same problem as a linear program."""
    feature, change = data
    order = np.argsort(feature, kind="stable")
    x, y, count = feature[order], change[order], len(feature)
    ahead = np.eye(count)[:-1] - np.eye(count)[1:]
    equal = np.flatnonzero(np.diff(x) == 0)
    rising, unit = np.hstack([ahead, np.zeros((count - 1, count))]), np.eye(count)
    limits = np.concatenate([rising, np.hstack([unit, -unit]), np.hstack([-unit, -unit])])
    least = optimize.linprog(
        np.concatenate([np.zeros(count), np.ones(count)]),
        A_ub=limits,
        b_ub=np.concatenate([np.zeros(count - 1), y, -y]),
        A_eq=rising[equal],
        b_eq=np.zeros(len(equal)),
        bounds=(None, None),
    )
    found = nulls._rising(feature, change)(x)
    assert (np.diff(found) >= 0).all()
    assert absolute(found, y) == pytest.approx(least.fun, rel=1e-9)


def test_every_null_model_predicts_each_fold_by_the_others(tmp_path: Path) -> None:
    """From what it is named after: errors summed over sites, counted here from the singular values."""
    found = made_sensitivity(gradients=False)
    evidence = read_evidence([write_records(tmp_path, made_records(found, 60))], found)
    points, folds = evidence.points, np.arange(59) % 3
    frobenius, stable = np.zeros(59), np.zeros(59)
    for place, layer, column in np.argwhere(points.ranks >= 0).tolist():
        name = found.spec.tensors[column].name
        (spectra,) = (site for key, site in found.sites.items() if (key.layer, key.tensor) == (layer, name))
        squares, rank = spectra.singular_values**2, int(points.ranks[place, layer, column])
        frobenius[place] += squares[rank:].sum() / squares.sum()
        own = squares.sum() / squares[0]
        stable[place] += own / (own + rank)
    models = {
        "constant": (nulls._constant, points.removed),
        "line in parameters removed": (nulls._line, points.removed),
        "parameters removed, rising link": (nulls._rising, points.removed),
        "Frobenius error, rising link": (nulls._rising, frobenius),
        "stable rank / rank, rising link": (nulls._rising, stable),
    }
    predictions = nulls.null_predictions(evidence, folds)
    assert list(predictions) == list(models)
    for name, (model, feature) in models.items():
        for fold in range(3):
            out = folds == fold
            expected = model(feature[~out], points.change[~out])(feature[out])
            assert predictions[name][out] == pytest.approx(expected, rel=1e-6)
