"""A Gaussian process over a few hundred points: what lies between them, with the roughness that they show. No torch.

Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006), chapters 2 and 5: the exponential (Matern 1/2)
kernel with a length per input, hyperparameters by the marginal likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from validate.calibration.tables import Floats

LEARNING = 500
"""Points that hyperparameters are learned from; all points enter the prediction."""
STEPS = 60
"""Most steps of the search for hyperparameters."""
_JITTER = 1e-8
_CHUNK = 4096


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Process:
    """A fitted process; `__call__` gives its mean."""

    points: Floats
    centre: Floats
    scale: Floats
    mean: float
    weights: Floats
    amplitude: float

    def __call__(self, features: Floats) -> Floats:
        """Predictions (rows,) of features (rows, inputs)."""
        x = (features - self.centre) / self.scale
        parts = [
            self.amplitude * np.exp(-_distance(x[start : start + _CHUNK], self.points)) @ self.weights
            for start in range(0, len(x), _CHUNK)
        ]
        return np.asarray(np.concatenate(parts) + self.mean)


def fit_process(features: Floats, target: Floats, seed: int = 0) -> Process:
    """Fit to features (points, inputs) and target (points,); outliers are clipped to the central 98 %."""
    low, high = np.quantile(target, (0.01, 0.99))
    target = np.clip(target, low, high)
    mean = float(np.median(target))
    y = target - mean
    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale < 1e-9, 1.0, scale)
    x = (features - centre) / scale
    chosen = np.random.default_rng(seed).permutation(len(x))[:LEARNING]
    inputs = x.shape[1]
    start = np.concatenate(
        [[np.log(max(y.var(), 1e-6)), np.log(max(y.var() * 0.1, 1e-6))], np.full(inputs, np.log(4.0))]
    )
    bounds = [(-12.0, 4.0), (-14.0, 2.0), *[(np.log(0.1), np.log(100.0))] * inputs]
    found = minimize(
        _loss,
        start,
        args=(x[chosen], y[chosen]),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": STEPS},
    )
    amplitude, noise = np.exp(found.x[:2])
    lengths = np.exp(found.x[2:])
    scaled = x / lengths
    distance = _distance(scaled, scaled)
    np.fill_diagonal(distance, 0.0)
    kernel = amplitude * np.exp(-distance)
    kernel[np.diag_indices_from(kernel)] += noise + _JITTER
    weights = cho_solve(cho_factor(kernel, lower=True), y)
    return Process(
        points=scaled,
        centre=centre,
        scale=scale * lengths,
        mean=mean,
        weights=np.asarray(weights),
        amplitude=float(amplitude),
    )


def _loss(values: Floats, x: Floats, y: Floats) -> tuple[float, Floats]:
    """Negative log marginal likelihood and its gradient."""
    amplitude, noise = np.exp(values[:2])
    lengths = np.exp(values[2:])
    scaled = x / lengths
    distance = _distance(scaled, scaled)
    np.fill_diagonal(distance, 0.0)
    plain = amplitude * np.exp(-distance)
    kernel = plain.copy()
    kernel[np.diag_indices_from(kernel)] += noise + _JITTER
    try:
        factor = cho_factor(kernel, lower=True)
    except np.linalg.LinAlgError:
        return 1e10, np.zeros_like(values)
    alpha = cho_solve(factor, y)
    inverse = cho_solve(factor, np.eye(len(y)))
    outer = inverse - np.outer(alpha, alpha)
    loss = 0.5 * y @ alpha + np.log(np.diag(factor[0])).sum()
    slope = np.empty_like(values)
    slope[0] = 0.5 * (outer * plain).sum()
    slope[1] = 0.5 * noise * np.trace(outer)
    # d distance / d ln length_i = -(dx_i / length_i)^2 / distance
    shared = outer * plain / np.maximum(distance, 1e-9)
    for index in range(x.shape[1]):
        column = scaled[:, index]
        squares = (column[:, None] - column[None, :]) ** 2
        slope[2 + index] = 0.5 * (shared * squares).sum()
    return float(loss), slope


def _distance(a: Floats, b: Floats) -> Floats:
    """Euclidean distances (rows of a, rows of b)."""
    squares = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None, :] - 2 * a @ b.T
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)))
