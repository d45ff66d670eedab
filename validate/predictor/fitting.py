"""Fits one form of the predictor: regularised least squares on the compressed scale, coefficients in their bounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from validate.predictor.points import Floats
from validate.predictor.score import FLOOR, Form, Inputs, Score, compress

_TENSOR, _EXPONENT, _LAYER, _SMOOTH, _LINK = 0.03, 0.3, 0.3, 0.6, 0.3
"""Weights of the penalties, next to residuals of which a typical one is 0.3: of tensors and exponents away from their
mean, of layers away from none and from their neighbours' mean, of all others away from where they start."""
_PRIOR = 0.8
_STRAIGHT = 1e6
"""A ceiling, in multiples of the largest change, that makes the link a straight line."""


_OTHERS = ("prior", "drop", "ln ceiling", "ln bend", "shared", "pair")


@dataclass(frozen=True, slots=True)
class _Layout:
    """Places of the coefficients in the vector that is searched."""

    layers: int
    tensors: int

    @property
    def sizes(self) -> list[int]:
        return [self.tensors, self.tensors, self.layers, len(_OTHERS)]

    def unpack(self, vector: Floats) -> Score:
        tensor, exponent, layer, others = np.split(vector, np.cumsum(self.sizes)[:-1])
        prior, drop, ceiling, bend, shared, pair = others.tolist()
        return Score(
            tensor=tensor,
            exponent=exponent,
            layer=layer,
            prior=prior,
            drop=drop,
            ceiling=float(np.exp(ceiling)),
            bend=float(np.exp(bend)),
            shared=shared,
            pair=pair,
        )

    def limits(self, top: float) -> tuple[Floats, Floats]:
        """Lower and upper bounds."""
        low = [[-20.0], [0.1], [-4.0], [0.0, -3.0, np.log(top / 2), np.log(0.4), 0.0, 0.0]]
        high = [[6.0], [4.0], [4.0], [2.5, 3.0, np.log(20 * top), np.log(3.0), 0.95, 2.0]]
        return self._joined(low), self._joined(high)

    def start(self, top: float, form: Form, straight: bool) -> Floats:
        """Where the search begins, and where coefficients stay that a form does not have."""
        ceiling = np.log(_STRAIGHT * top if straight else 1.5 * top)
        return self._joined([[-3.0], [1.0], [0.0], [_PRIOR if form.prior else 0.0, 0.0, ceiling, 0.0, 0.0, 0.0]])

    def free(self, form: Form, straight: bool) -> NDArray[np.bool_]:
        """Which coefficients are searched."""
        others = [form.prior, True, not straight, not straight, form.shared, form.pair]
        return self._joined([[1.0], [1.0], [float(form.layers)], [float(flag) for flag in others]]) > 0

    def penalties(self, start: Floats) -> tuple[Floats, Floats]:
        """Rows A and values b of the penalty |A x - b|^2."""
        tensors, size = self.tensors, sum(self.sizes)
        unit, centred = np.eye(size), np.eye(tensors) - 1 / tensors
        first = 2 * tensors
        inner = range(first + 1, first + self.layers - 1)
        others = slice(first + self.layers, size)
        blocks = [
            _TENSOR * centred @ unit[:tensors],
            _EXPONENT * centred @ unit[tensors:first],
            _LAYER * unit[first : first + self.layers],
            *[_SMOOTH * (unit[place] - (unit[place - 1] + unit[place + 1]) / 2)[None] for place in inner],
            _LINK * unit[others],
        ]
        rows = np.concatenate(blocks)
        target = np.zeros(size)
        target[others] = start[others]
        return rows, rows @ target

    def _joined(self, parts: list[list[float]]) -> Floats:
        return np.concatenate([np.broadcast_to(part, size) for part, size in zip(parts, self.sizes, strict=True)])


def fit_score(form: Form, inputs: Inputs, change: Floats, *, straight: bool = False) -> Score:
    """The coefficients that fit measured changes of NLL, nats, float64 (n), best.

    Penalties draw tensors towards each other, layers towards a smooth profile and interactions towards none.

    Args:
        straight: without ceiling and bend, so that the score itself is the prediction.
    """
    layout = _Layout(layers=inputs.touched.shape[1], tensors=inputs.touched.shape[2])
    top = max(float(change.max()), 10 * FLOOR)
    vector = layout.start(top, form, straight)
    penalty = layout.penalties(vector)
    free = layout.free(form, straight)
    return layout.unpack(_solve(layout, vector, free, penalty, layout.limits(top), inputs, compress(change)))


def _solve(
    layout: _Layout,
    start: Floats,
    free: NDArray[np.bool_],
    penalty: tuple[Floats, Floats],
    limits: tuple[Floats, Floats],
    inputs: Inputs,
    target: Floats,
) -> Floats:
    """The vector of least penalised error, found from `start` with its derivatives."""
    rows, values = penalty
    slopes: dict[bytes, Floats] = {}

    def residual(searched: Floats) -> Floats:
        vector = start.copy()
        vector[free] = searched
        score = layout.unpack(vector)
        parts = score.parts(inputs)
        top = parts.max(axis=2)
        both = np.sqrt(top[:, :-1] * top[:, 1:])
        total = (1 - score.shared) * parts.sum(axis=(1, 2)) + score.shared * top.sum(axis=1)
        total = np.maximum(total + score.pair * both.sum(axis=1), 1e-9)
        ratio = total / score.ceiling
        power = ratio**score.bend
        predicted = -score.ceiling * np.expm1(-power)
        outer = 1 / np.hypot(predicted, FLOOR)
        slope = np.maximum(np.exp(-power) * score.bend * power / ratio, 1e-300)  # d predicted / d score
        moved = _moved(parts, top, both, score)
        inner = [
            moved.sum(axis=1),
            (moved * inputs.log_error).sum(axis=1),
            moved.sum(axis=2),
            np.stack(
                [
                    (moved * inputs.log_energy).sum(axis=(1, 2)),
                    (moved * inputs.dropped[..., None]).sum(axis=(1, 2)),
                    predicted / slope - total,
                    total * np.log(ratio),
                    (top - parts.sum(axis=2)).sum(axis=1),
                    both.sum(axis=1),
                ],
                axis=1,
            ),
        ]
        jacobian = (outer * slope)[:, None] * np.concatenate(inner, axis=1)
        slopes.clear()
        slopes[searched.tobytes()] = np.concatenate([jacobian, rows])[:, free]
        return np.concatenate([compress(predicted) - target, rows @ vector - values])

    def jacobian(searched: Floats) -> Floats:
        if searched.tobytes() not in slopes:
            residual(searched)
        return slopes[searched.tobytes()]

    low, high = (limit[free] for limit in limits)
    margin = 1e-4 * (high - low)
    found = optimize.least_squares(
        residual,
        np.clip(start[free], low + margin, high - margin),
        jacobian,
        bounds=(low, high),
        loss="soft_l1",
        x_scale="jac",
        max_nfev=200,
        ftol=1e-5,
        xtol=1e-5,
    )
    best = start.copy()
    best[free] = found.x
    return best


def _moved(parts: Floats, top: Floats, both: Floats, score: Score) -> Floats:
    """Derivative of the score by ln(c) of every site, float64 (n, layers, tensors)."""
    around = np.zeros_like(top)
    around[:, :-1] += both / 2
    around[:, 1:] += both / 2
    worst = np.zeros_like(parts)
    np.put_along_axis(worst, parts.argmax(axis=2)[..., None], 1.0, axis=2)
    return (1 - score.shared) * parts + worst * (score.shared * top + score.pair * around)[..., None]
