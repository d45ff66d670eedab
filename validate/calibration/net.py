"""Trains the small network of a calibration: least absolute deviations, and growing work does not get cheaper.

Adam (Kingma and Ba, arXiv 1412.6980) with decoupled weight decay (arXiv 1711.05101) and one cycle of the learning rate
(arXiv 1708.07120), in numpy: thirty inputs and a few thousand weights train in seconds. No torch.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]
_WARM_UP = 0.3
"""Share of the steps in which the learning rate rises."""
_START = 0.04
_MOMENTS = (0.9, 0.999)


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Settings of a training.

    Attributes:
        hidden: units of each hidden layer.
        epochs, batch, rate, decay: passes over the data, points per step, peak learning rate, weight decay.
        order: weight of the penalty on pairs of which the larger is predicted to take less time.
        pairs: such pairs per step.
        seed: of initial weights and of the order of points.
    """

    hidden: tuple[int, ...] = (64, 64)
    epochs: int = 200
    batch: int = 256
    rate: float = 5e-3
    decay: float = 1e-4
    order: float = 1.0
    pairs: int = 128
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pairs:
    """Shapes of which the second is the first grown in one dimension.

    Attributes:
        smaller, larger: features (pairs, inputs).
        gap: ln base(smaller) - ln base(larger), (pairs,).
    """

    smaller: Floats
    larger: Floats
    gap: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainedNet:
    """Weights as a file keeps them; `__call__` evaluates them as `costmodel.timing.calibration.net.Net` does."""

    centre: Floats
    scale: Floats
    weights: tuple[Singles, ...]
    biases: tuple[Singles, ...]

    def __call__(self, features: Floats) -> Floats:
        """Outputs (points,) of features (points, inputs)."""
        h = ((features - self.centre) / self.scale).astype(np.float32)
        for weights, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            h = np.maximum(h @ weights + bias, 0)
        return np.asarray((h @ self.weights[-1] + self.biases[-1])[:, 0], dtype=np.float64)


def train(features: Floats, target: Floats, settings: Training, pairs: Pairs | None = None) -> TrainedNet:
    """A network that maps features (points, inputs) to target (points,), minimising the mean absolute error plus
    `order` times the mean of max(0, net(smaller) - net(larger) + gap) over pairs."""
    rng = np.random.default_rng(settings.seed)
    centre, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale < 1e-9, 1.0, scale)

    def standard(x: Floats) -> Singles:
        return np.asarray((x - centre) / scale, dtype=np.float32)

    x, y = standard(features), target.astype(np.float32)
    sizes = [x.shape[1], *settings.hidden, 1]
    weights = [_uniform(rng, (a, b), a) for a, b in itertools.pairwise(sizes)]
    weights[0][features.std(axis=0) < 1e-9] = 0  # what never varied says nothing where it does
    biases = [_uniform(rng, (b,), a) for a, b in itertools.pairwise(sizes)]
    small, large, gap = None, None, None
    if pairs is not None and settings.order:
        small, large, gap = standard(pairs.smaller), standard(pairs.larger), pairs.gap.astype(np.float32)
    batch = min(settings.batch, len(x))
    per_epoch = len(x) // batch
    steps = settings.epochs * per_epoch
    adam = _Adam([*weights, *biases], settings.decay, len(weights))
    step = 0
    for _ in range(settings.epochs):
        order = rng.permutation(len(x))
        for start in range(0, per_epoch * batch, batch):
            chosen = order[start : start + batch]
            inputs = x[chosen]
            if small is not None and large is not None:
                drawn = rng.integers(0, len(small), settings.pairs)
                inputs = np.concatenate([inputs, small[drawn], large[drawn]])
            activations = _forward(inputs, weights, biases)
            out = activations.pop()[:, 0]
            slope = np.zeros_like(out)
            slope[:batch] = np.sign(out[:batch] - y[chosen]) / batch
            if gap is not None:
                first, second = out[batch : batch + settings.pairs], out[batch + settings.pairs :]
                wrong = (first - second + gap[drawn] > 0) * np.float32(settings.order / settings.pairs)
                slope[batch : batch + settings.pairs], slope[batch + settings.pairs :] = wrong, -wrong
            step += 1
            adam.step(_backward(slope[:, None], activations, weights), settings.rate * _cycle(step / steps))
    return TrainedNet(centre=centre, scale=scale, weights=tuple(weights), biases=tuple(biases))


class _Adam:
    """Updates arrays in place."""

    def __init__(self, parameters: list[Singles], decay: float, decayed: int) -> None:
        self.parameters, self.decay, self.decayed, self.count = parameters, decay, decayed, 0
        self.mean = [np.zeros_like(each) for each in parameters]
        self.square = [np.zeros_like(each) for each in parameters]

    def step(self, slopes: list[Singles], rate: float) -> None:
        self.count += 1
        one, two = (1 - each**self.count for each in _MOMENTS)
        for index, (parameter, slope) in enumerate(zip(self.parameters, slopes, strict=True)):
            mean, square = self.mean[index], self.square[index]
            mean += (1 - _MOMENTS[0]) * (slope - mean)
            square += (1 - _MOMENTS[1]) * (slope * slope - square)
            if index < self.decayed:
                parameter *= np.float32(1 - rate * self.decay)
            parameter -= np.float32(rate / one) * mean / (np.sqrt(square / np.float32(two)) + np.float32(1e-8))


def _uniform(rng: np.random.Generator, shape: tuple[int, ...], inputs: int) -> Singles:
    return np.asarray(rng.uniform(-1, 1, shape) / np.sqrt(inputs), dtype=np.float32)


def _cycle(progress: float) -> float:
    """The learning rate as a share of its peak: half a cosine up, half a cosine down to 0."""
    if progress < _WARM_UP:
        return float(_START + (1 - _START) * (1 - np.cos(np.pi * progress / _WARM_UP)) / 2)
    return float(1 + np.cos(np.pi * (progress - _WARM_UP) / (1 - _WARM_UP))) / 2


def _forward(x: Singles, weights: list[Singles], biases: list[Singles]) -> list[Singles]:
    """The inputs of each layer, then the output."""
    values = [x]
    for w, b in zip(weights[:-1], biases[:-1], strict=True):
        values.append(np.maximum(values[-1] @ w + b, 0))
    values.append(values[-1] @ weights[-1] + biases[-1])
    return values


def _backward(slope: Singles, activations: list[Singles], weights: list[Singles]) -> list[Singles]:
    """Slopes of the weights, then of the biases."""
    of_weights, of_biases = [], []
    for layer in range(len(weights) - 1, -1, -1):
        of_weights.append(activations[layer].T @ slope)
        of_biases.append(slope.sum(axis=0))
        if layer:
            slope = (slope @ weights[layer].T) * (activations[layer] > 0)
    return [*reversed(of_weights), *reversed(of_biases)]
