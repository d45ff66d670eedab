"""The predictor: a score that adds up over sites and neighbouring layers, and a rising link to the change of NLL.

    score  = sum over layers of damage(layer) + pair x sum over neighbouring layers of sqrt(worst x next worst)
    damage = (1 - shared) x sum over touched sites of c(site, rank) + shared x worst, the largest c of the layer
    c      = exp(tensor + layer + prior x ln(energy of the site)) x error(rank) ** exponent(tensor)
    change = ceiling x (1 - exp(-(score / ceiling) ** bend))

`error` is that of the truncation as a share of rank 0. A dropped layer is one whose sites are all lost (error 1), times
a factor of its own. `shared` says how far damages of one layer mask each other, `pair` how far those of neighbours
strengthen each other, `bend` how far all of them do. No coefficient lets the score fall when an error rises.

A quality file (docs/explore.md) adds up values of sites and of pairs of layer states. So in predictions, though not
while fitting, `worst` is one of the STATES: the middle of the class that the layer's worst site is in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from validate.predictor.points import Floats, Ints, Measure

_FIRST, _STEP = 0.001, 1.75
CLASSES = _FIRST * _STEP ** np.arange(15)
"""Least c of the worst site of a layer in states 1 to 15, the most that a quality file can tell apart: 0.001 to 2.5."""
STATES = np.append(0.0, CLASSES * np.sqrt(_STEP))
"""What `worst` is in states 0 to 15."""
FLOOR = 0.02
"""Nats; changes far above count by their ratio, far below by their difference: asinh(change / FLOOR)."""
_TINY = 1e-12


def compress(change: Floats) -> Floats:
    """The scale on which changes are fitted, so that 0.01 and 3 nats both count."""
    return np.asarray(np.arcsinh(change / FLOOR))


def expand(value: Floats) -> Floats:
    """The inverse of `compress`."""
    return np.asarray(FLOOR * np.sinh(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Which terms a predictor has.

    Attributes:
        name: for people.
        measure: whose errors are summed.
        layers: whether layers have weights of their own.
        prior: whether sites start from their energies in nats.
        shared: whether damages of one layer mask each other.
        pair: whether damages of neighbouring layers strengthen each other.
    """

    name: str
    measure: Measure
    layers: bool = False
    prior: bool = False
    shared: bool = False
    pair: bool = False

    @property
    def states(self) -> bool:
        """Whether the states of layers count."""
        return self.shared or self.pair


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """What one form sees of n configurations.

    Attributes:
        log_error: float64 (n, layers, tensors), ln(error), 0 where a site is lost; anything where it is dense.
        touched: bool (n, layers, tensors), factored or lost.
        dropped: bool (n, layers).
        log_energy: float64 (layers, tensors), centred; 0 without a prior.
    """

    log_error: Floats
    touched: NDArray[np.bool_]
    dropped: NDArray[np.bool_]
    log_energy: Floats

    @classmethod
    def of(cls, errors: Floats, touched: NDArray[np.bool_], dropped: NDArray[np.bool_], energy: Floats) -> Inputs:
        """From errors (n, layers, tensors) and energies (layers, tensors)."""
        logs = np.log(energy)
        return cls(
            log_error=np.log(np.maximum(errors, _TINY)),
            touched=touched & (errors > 0),
            dropped=dropped,
            log_energy=logs - logs.mean(),
        )

    def subset(self, chosen: Any) -> Inputs:
        """Some of the configurations."""
        return replace(
            self, log_error=self.log_error[chosen], touched=self.touched[chosen], dropped=self.dropped[chosen]
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Score:
    """The coefficients of a fitted predictor.

    Attributes:
        tensor: float64 (tensors), ln of the score of a lost site of a layer like the others.
        layer: float64 (layers), ln of a layer's factor.
        exponent: float64 (tensors).
        prior: exponent of the energies.
        drop: ln of the factor of a dropped layer.
        ceiling: nats that no damage exceeds.
        bend: above 1, damages strengthen each other; below 1, they mask each other.
        shared: 0 where damages of a layer add up, 1 where its worst site alone counts.
        pair: at least 0.
    """

    tensor: Floats
    layer: Floats
    exponent: Floats
    prior: float
    drop: float
    ceiling: float
    bend: float
    shared: float
    pair: float

    def parts(self, inputs: Inputs) -> Floats:
        """c of every site, float64 (n, layers, tensors); 0 where dense."""
        logs = (
            self.tensor
            + self.layer[:, None]
            + self.prior * inputs.log_energy
            + self.exponent * inputs.log_error
            + self.drop * inputs.dropped[..., None]
        )
        return np.where(inputs.touched, np.exp(np.minimum(logs, 50.0)), 0.0)

    def score(self, inputs: Inputs) -> Floats:
        """float64 (n)."""
        parts = self.parts(inputs)
        total = (1 - self.shared) * parts.sum(axis=(1, 2))
        if self.shared or self.pair:
            worst = STATES[state_of(parts.max(axis=2))]
            total = total + self.shared * worst.sum(axis=1)
            total = total + self.pair * np.sqrt(worst[:, :-1] * worst[:, 1:]).sum(axis=1)
        return np.asarray(total)

    def link(self, score: Floats) -> Floats:
        """Change of NLL in nats."""
        return np.asarray(-self.ceiling * np.expm1(-((score / self.ceiling) ** self.bend)))

    def predict(self, inputs: Inputs) -> Floats:
        """Change of NLL of configurations, nats, float64 (n)."""
        return self.link(self.score(inputs))


def state_of(parts: Floats) -> Ints:
    """The state of sites, or of layers by their worst sites."""
    return np.asarray(np.searchsorted(CLASSES, parts, side="right"), dtype=np.int64)
