"""The predictor that ranks are allocated by: the curvature of the loss at every weight, one link for all. No torch.

    score  = scale x sum over touched sites of the curvature of the loss at (site, rank); a dropped layer's times `drop`
    change = ceiling x (1 - exp(-(score / ceiling) ** bend))

A search goes to where a predictor errs on the low side: with a coefficient for each tensor and layer, fitted to some
hundred random configurations, there is always such a place among 200 weights. Here nothing that is fitted tells one
site from another: the order of configurations is that of second-order terms (`SiteSpectra.loss_changes`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from validate.predictor.crossval import inputs_of, random_folds
from validate.predictor.evidence import Evidence
from validate.predictor.interval import Band
from validate.predictor.points import Floats, energies
from validate.predictor.score import FLOOR, Form, Inputs, Score, compress

FORM = Form(name="curvature of the loss, one link", measure="curvature", prior=True)
FEWEST_FOUND = 8
"""Configurations that searches found, from which on the link is fitted to them alone."""
_FOLDS, _SEED = 5, 0
_WEIGHTS = np.array([0.1, 0.1, 0.3])
"""Of the penalties for leaving a scale of 1, the first ceiling and a bend of 1, next to residuals of about 0.1."""
_BELOW, _ABOVE = np.log([20.0, 1.5, 3.0]), np.log([20.0, 10.0, 3.0])
"""How far they may be left, as factors: no ceiling is below the largest loss that was measured."""
_LOST = 0.3
"""Weight of the penalty for leaving a factor of 1 for dropped layers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """The predictor of a search.

    Attributes:
        score: its coefficients.
        scale: of the curvature's sum.
        band: 90 % intervals, from held-out residuals where something was fitted.
        fitted: configurations that the link was fitted to; 0 for the curvature as it is.
    """

    score: Score
    scale: float
    band: Band
    fitted: int

    @property
    def origin(self) -> str:
        """What the predictor is made from, for people."""
        return f"its link fitted to {self.fitted} configurations" if self.fitted else "as it is"

    def coefficients(self) -> dict[str, float]:
        """What a quality file says of the link."""
        return {name: float(getattr(self.score, name)) for name in ("ceiling", "bend", "drop")} | {"scale": self.scale}


def fit_allocation(evidence: Evidence, found: NDArray[np.bool_]) -> Allocation:
    """The curvature as it is until searches have found `FEWEST_FOUND` configurations, then with a link fitted to these.

    Random ones would mislead: ranks that were chosen by curvature lose about twice as much at the same score, for what
    is wrong with it is what they were chosen for. Configurations with dropped layers give the factor of these alone.

    Args:
        found: which points a search has found, bool (n).

    Raises:
        FitError: for a sensitivity without gradients.
    """
    points = evidence.points
    dropping = points.dropped.any(axis=1)
    found = found & ~dropping
    inputs = inputs_of(evidence, FORM, points)
    level = float(np.log(energies(evidence.sensitivity, evidence.factors, FORM.measure)).mean())
    start = np.array([0.0, np.log(1.5 * max(float(points.change.max()), 10 * FLOOR)), 0.0])
    enough = bool(found.sum() >= FEWEST_FOUND)
    chosen = found if enough else ~dropping
    seen, change = inputs.subset(chosen), points.change[chosen]
    score, predicted = _score(seen, level, start), np.zeros(len(change))
    if enough:
        folds = random_folds(np.arange(len(change)), _FOLDS, _SEED)
        for fold in range(_FOLDS):
            out = folds == fold
            predicted[out] = _link(seen.subset(~out), change[~out], level, start).predict(seen.subset(out))
        score = _link(seen, change, level, start)
    else:
        predicted = score.predict(seen)
    score = _with_drop(score, inputs.subset(dropping), points.change[dropping])
    return Allocation(
        score=score,
        scale=float(np.exp(score.tensor[0] - level)),
        band=Band.of(predicted, change),
        fitted=len(change) if enough else 0,
    )


def _link(inputs: Inputs, change: Floats, level: float, start: Floats) -> Score:
    """Least squares of scale, ceiling and bend on the compressed scale."""

    def residual(vector: Floats) -> Floats:
        predicted = _score(inputs, level, vector).predict(inputs)
        return np.append(compress(predicted) - compress(change), _WEIGHTS * (vector - start))

    found = optimize.least_squares(residual, start, bounds=(start - _BELOW, start + _ABOVE), loss="soft_l1")
    return _score(inputs, level, found.x)


def _with_drop(score: Score, inputs: Inputs, change: Floats) -> Score:
    """With the factor of dropped layers that fits measured ones best; 1 where none are."""
    if not len(change):
        return score

    def residual(vector: Floats) -> Floats:
        predicted = replace(score, drop=float(vector[0])).predict(inputs)
        return np.append(compress(predicted) - compress(change), _LOST * vector)

    return replace(score, drop=float(optimize.least_squares(residual, [0.0], bounds=(-6, 6), loss="soft_l1").x[0]))


def _score(inputs: Inputs, level: float, vector: Floats) -> Score:
    """Coefficients for a vector of ln scale, ln ceiling and ln bend."""
    layers, tensors = inputs.touched.shape[1:]
    scale, ceiling, bend = vector.tolist()
    return Score(
        tensor=np.full(tensors, level + scale),
        exponent=np.ones(tensors),
        layer=np.zeros(layers),
        prior=1.0,
        drop=0.0,
        ceiling=float(np.exp(ceiling)),
        bend=float(np.exp(bend)),
        shared=0.0,
        pair=0.0,
    )
