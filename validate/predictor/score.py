"""The predictor: a score that adds up over sites and neighbouring layers, and a rising link to the change of NLL.

    score  = sum over touched sites of c(site, rank) + sum over neighbouring layers of pairs(state, next state)
    c      = exp(tensor + layer + prior x ln(energy of the site)) x error(rank) ** exponent(tensor)
    change = ceiling x (1 - exp(-(score / ceiling) ** bend))

`error` is that of the truncation as a share of rank 0. A dropped layer is one whose sites are all lost (error 1), times
a factor of its own. A layer's state is the class of its worst site's c; states cost something per layer and per pair of
neighbours, never less in a worse state. So the score never falls when an error rises, and neither does the prediction.
The sums are those that docs/explore.md allows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from validate.predictor.points import Floats, Ints, Measure

CLASSES = (0.01, 0.04, 0.16, 0.64)
"""Least score of a site in states 1 to 4, in nats as long as the link is straight."""
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
        states: whether neighbouring layers interact.
    """

    name: str
    measure: Measure
    layers: bool = False
    prior: bool = False
    states: bool = False


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
        return cls(log_error=np.log(np.maximum(errors, _TINY)), touched=touched & (errors > 0), dropped=dropped,
                   log_energy=logs - logs.mean())  # fmt: skip

    def subset(self, chosen: Any) -> Inputs:
        """Some of the configurations."""
        return replace(self, log_error=self.log_error[chosen], touched=self.touched[chosen],
                       dropped=self.dropped[chosen])  # fmt: skip


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
        alone: float64 (states), what a layer costs more for being in at least state 1, 2, ...
        pair: float64 (states), what two neighbours cost more for being both in at least state 1, 2, ...
    """

    tensor: Floats
    layer: Floats
    exponent: Floats
    prior: float
    drop: float
    ceiling: float
    bend: float
    alone: Floats
    pair: Floats

    def parts(self, inputs: Inputs) -> Floats:
        """c of every site, float64 (n, layers, tensors); 0 where dense."""
        logs = (self.tensor + self.layer[:, None] + self.prior * inputs.log_energy
                + self.exponent * inputs.log_error + self.drop * inputs.dropped[..., None])  # fmt: skip
        return np.where(inputs.touched, np.exp(np.minimum(logs, 50.0)), 0.0)

    def states(self, parts: Floats) -> Ints:
        """The state of every layer, int64 (n, layers)."""
        return np.asarray(state_of(parts).max(axis=-1))

    def score(self, inputs: Inputs, states: Ints | None = None) -> Floats:
        """float64 (n).

        Args:
            states: of the layers; by default those of the parts.
        """
        parts = self.parts(inputs)
        total = parts.sum(axis=(1, 2))
        if self.alone.any() or self.pair.any():
            alone, pair = counts(self.states(parts) if states is None else states)
            total = total + alone @ self.alone + pair @ self.pair
        return np.asarray(total)

    def link(self, score: Floats) -> Floats:
        """Change of NLL in nats."""
        return np.asarray(-self.ceiling * np.expm1(-((score / self.ceiling) ** self.bend)))

    def predict(self, inputs: Inputs) -> Floats:
        """Change of NLL of configurations, nats, float64 (n)."""
        return self.link(self.score(inputs))


def state_of(parts: Floats) -> Ints:
    """The state of sites by their scores."""
    return np.asarray(np.searchsorted(np.array(CLASSES), parts, side="right"), dtype=np.int64)


def counts(states: Ints) -> tuple[Floats, Floats]:
    """How many layers, and pairs of neighbours, are in at least state 1, 2, ...: float64 (n, states) each."""
    levels = np.arange(1, len(CLASSES) + 1)
    alone = (states[..., None] >= levels).sum(axis=1)
    both = np.minimum(states[:, :-1], states[:, 1:])
    return alone.astype(np.float64), (both[..., None] >= levels).sum(axis=1).astype(np.float64)
