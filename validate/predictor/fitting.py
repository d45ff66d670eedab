"""Fits one form of the predictor: regularised least squares on the compressed scale, coefficients in their bounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from validate.predictor.points import Floats, Ints
from validate.predictor.score import CLASSES, FLOOR, Form, Inputs, Score, compress, counts

_TENSOR, _EXPONENT, _LAYER, _SMOOTH, _LINK, _STATE = 0.03, 0.3, 0.3, 0.6, 0.3, 0.05
"""Weights of the penalties, next to residuals of which a typical one is 0.3: of tensors and exponents away from their
mean, of layers away from none and from their neighbours' mean, of prior, drop and link away from where they start, of
interactions away from none."""
_PRIOR = 0.8
_STRAIGHT = 1e6
"""A ceiling, in multiples of the largest change, that makes the link a straight line."""
_ROUNDS = 3
"""States depend on the coefficients, so they are taken from the fit before, the first one without interactions."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Places of the coefficients in the vector that is searched."""

    layers: int
    tensors: int

    @property
    def sizes(self) -> list[int]:
        return [self.tensors, self.tensors, self.layers, 4, len(CLASSES), len(CLASSES)]

    @property
    def link(self) -> int:
        """Place of the ceiling; prior and drop are before it, the bend behind it."""
        return 2 * self.tensors + self.layers + 2

    def unpack(self, vector: Floats) -> Score:
        tensor, exponent, layer, four, alone, pair = np.split(vector, np.cumsum(self.sizes)[:-1])
        return Score(tensor=tensor, exponent=exponent, layer=layer, prior=float(four[0]), drop=float(four[1]),
                     ceiling=float(np.exp(four[2])), bend=float(np.exp(four[3])), alone=alone, pair=pair)  # fmt: skip

    def limits(self, top: float) -> tuple[Floats, Floats]:
        """Lower and upper bounds."""
        low = [[-20.0], [0.1], [-4.0], [0.0, -3.0, np.log(top / 2), np.log(0.4)], [0.0], [0.0]]
        high = [[6.0], [4.0], [4.0], [2.5, 3.0, np.log(20 * top), np.log(3.0)], [4.0], [4.0]]
        return self._joined(low), self._joined(high)

    def start(self, top: float, form: Form, straight: bool) -> Floats:
        """Where the search begins, and where coefficients stay that a form does not have."""
        four = [_PRIOR if form.prior else 0.0, 0.0, np.log(_STRAIGHT * top if straight else 1.5 * top), 0.0]
        return self._joined([[-3.0], [1.0], [0.0], four, [0.0], [0.0]])

    def free(self, form: Form, straight: bool, states: bool) -> NDArray[np.bool_]:
        """Which coefficients are searched."""
        link = not straight
        four = [float(flag) for flag in (form.prior, True, link, link)]
        return self._joined([[1.0], [1.0], [float(form.layers)], four, [float(states)], [float(states)]]) > 0

    def penalties(self, start: Floats) -> tuple[Floats, Floats]:
        """Rows A and values b of the penalty |A x - b|^2."""
        tensors, size = self.tensors, sum(self.sizes)
        unit, centred = np.eye(size), np.eye(tensors) - 1 / tensors
        first = 2 * tensors
        inner = range(first + 1, first + self.layers - 1)
        four, states = slice(first + self.layers, first + self.layers + 4), slice(first + self.layers + 4, size)
        blocks = [
            _TENSOR * centred @ unit[:tensors], _EXPONENT * centred @ unit[tensors:first],
            _LAYER * unit[first : first + self.layers],
            *[_SMOOTH * (unit[place] - (unit[place - 1] + unit[place + 1]) / 2)[None] for place in inner],
            _LINK * unit[four], _STATE * unit[states],
        ]  # fmt: skip
        rows = np.concatenate(blocks)
        target = np.zeros(size)
        target[four] = start[four]
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
    states: Ints | None = None
    for _ in range(_ROUNDS if form.states else 1):
        free = layout.free(form, straight, states is not None)
        vector = _solve(layout, vector, free, penalty, layout.limits(top), inputs, compress(change), states)
        score = layout.unpack(vector)
        states = score.states(score.parts(inputs))
    tail = sum(layout.sizes[:4])
    vector[tail:] = np.where(vector[tail:] < 1e-6, 0.0, vector[tail:])  # the search stays inside its bounds
    return layout.unpack(vector)


def _solve(
    layout: _Layout, start: Floats, free: NDArray[np.bool_], penalty: tuple[Floats, Floats],
    limits: tuple[Floats, Floats], inputs: Inputs, target: Floats, states: Ints | None,
) -> Floats:  # fmt: skip
    """One search; states held, and without interactions where they are None."""
    nothing = np.zeros((len(target), len(CLASSES)))
    alone, pair = (nothing, nothing) if states is None else counts(states)
    rows, values = penalty
    slopes: dict[bytes, Floats] = {}

    def residual(searched: Floats) -> Floats:
        vector = start.copy()
        vector[free] = searched
        score = layout.unpack(vector)
        parts = score.parts(inputs)
        total = np.maximum(parts.sum(axis=(1, 2)) + alone @ score.alone + pair @ score.pair, 1e-9)
        ratio = total / score.ceiling
        power = ratio**score.bend
        predicted = -score.ceiling * np.expm1(-power)
        outer = 1 / np.hypot(predicted, FLOOR)
        slope = np.exp(-power) * score.bend * power / ratio  # d predicted / d score
        lost = (parts * inputs.dropped[..., None]).sum(axis=(1, 2))
        energy = (parts * inputs.log_energy).sum(axis=(1, 2))
        ceiling = predicted / slope - total
        bend = total * np.log(ratio)
        inner = [parts.sum(axis=1), (parts * inputs.log_error).sum(axis=1), parts.sum(axis=2),
                 np.stack([energy, lost, ceiling, bend], axis=1), alone, pair]  # fmt: skip
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
        residual, np.clip(start[free], low + margin, high - margin), jacobian, bounds=(low, high), loss="soft_l1",
        x_scale="jac", max_nfev=200, ftol=1e-5, xtol=1e-5,
    )  # fmt: skip
    best = start.copy()
    best[free] = found.x
    return best
