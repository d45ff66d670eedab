"""A Gaussian process over a few hundred points: what lies between them, with the roughness that they show.

Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006), chapters 2 and 5: the exponential (Matern 1/2)
kernel with a length per input, hyperparameters by the marginal likelihood.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import minimize

from validate.calibration.tables import Floats

if TYPE_CHECKING:
    from sklearn.gaussian_process import GaussianProcessRegressor

LEARNING = 500
"""Points that hyperparameters are learned from; all points enter the prediction."""
STEPS = 60
"""Most steps of the search for hyperparameters."""
_JITTER = 1e-8
_CHUNK = 4096
"""Rows predicted at once, which bounds the memory for their kernel."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Process:
    """A fitted process; `__call__` gives its mean.

    Attributes:
        regressor: of standardised features and of the target's distance from its median.
        centre, scale: of the features.
        mean: the target's median.
    """

    regressor: GaussianProcessRegressor
    centre: Floats
    scale: Floats
    mean: float

    def __call__(self, features: Floats) -> Floats:
        """Predictions (rows,) of features (rows, inputs)."""
        x = (features - self.centre) / self.scale
        parts = [self.regressor.predict(x[start : start + _CHUNK]) for start in range(0, len(x), _CHUNK)]
        return np.asarray(np.concatenate(parts) + self.mean)


def fit_process(features: Floats, target: Floats) -> Process:
    """Fit to features (points, inputs) and target (points,); outliers are clipped to the central 98 %."""
    from sklearn.exceptions import ConvergenceWarning

    low, high = np.quantile(target, (0.01, 0.99))
    target = np.clip(target, low, high)
    mean = float(np.median(target))
    y = target - mean
    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale < 1e-9, 1.0, scale)
    x = (features - centre) / scale
    chosen = np.random.default_rng(0).permutation(len(x))[:LEARNING]
    learned = _regressor(_kernel(y.var(), x.shape[1]), _search)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound: an input that says nothing
        learned.fit(x[chosen], y[chosen])
    return Process(regressor=_regressor(learned.kernel_, None).fit(x, y), centre=centre, scale=scale, mean=mean)


def _kernel(variance: float, inputs: int) -> Any:
    """amplitude x exp(-distance) + noise, where the search begins, and its bounds."""
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    amplitude = ConstantKernel(max(variance, 1e-6), (np.exp(-12.0), np.exp(4.0)))
    shape = Matern(np.full(inputs, 4.0), (0.1, 100.0), nu=0.5)
    return amplitude * shape + WhiteKernel(max(variance * 0.1, 1e-6), (np.exp(-14.0), np.exp(2.0)))


def _regressor(kernel: Any, optimizer: Callable[..., tuple[Floats, float]] | None) -> GaussianProcessRegressor:
    from sklearn.gaussian_process import GaussianProcessRegressor

    return GaussianProcessRegressor(kernel, alpha=_JITTER, optimizer=optimizer)


def _search(objective: Callable[..., Any], start: Floats, bounds: Floats) -> tuple[Floats, float]:
    """The hyperparameters of least negative log marginal likelihood, after at most STEPS steps."""
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS})
    return found.x, found.fun
