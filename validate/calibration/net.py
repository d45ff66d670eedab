"""Trains the small network of a calibration: least absolute deviations, and growing work does not get cheaper.

Adam (Kingma and Ba, arXiv 1412.6980) with decoupled weight decay (arXiv 1711.05101) and one cycle of the learning rate
(arXiv 1708.07120). torch trains and is loaded by `train` alone; what it leaves is numpy's, and so is inference.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

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
    return train_several(features, target, settings, [settings.seed], pairs)[0]


def train_several(
    features: Floats, target: Floats, settings: Training, seeds: Sequence[int], pairs: Pairs | None = None
) -> list[TrainedNet]:
    """The networks of several seeds in place of the settings' own, side by side: what a step costs is mostly its start.

    Weights begin, and points and pairs come in the order, that a seed gives; on one thread, so that the same seed
    gives the same network however many cores there are.
    """
    import torch

    centre, scale = features.mean(axis=0), features.std(axis=0)
    varies = scale >= 1e-9
    scale = np.where(varies, scale, 1.0)

    def standard(x: Floats) -> torch.Tensor:
        return torch.from_numpy(((x - centre) / scale).astype(np.float32))

    rngs = [np.random.default_rng(seed) for seed in seeds]
    weights, biases = _start(rngs, [features.shape[1], *settings.hidden, 1], varies)
    x, y = standard(features), torch.from_numpy(target.astype(np.float32))
    small = large = gap = None
    if pairs is not None and settings.order:
        small, large = standard(pairs.smaller), standard(pairs.larger)
        gap = torch.from_numpy(pairs.gap.astype(np.float32))
    batch = min(settings.batch, len(x))
    per_epoch = len(x) // batch
    groups = [{"params": weights, "weight_decay": settings.decay}, {"params": biases, "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=settings.rate, betas=_MOMENTS, fused=True)
    step = 0
    with _one_thread():
        for _ in range(settings.epochs):
            order = torch.from_numpy(np.stack([rng.permutation(len(x)) for rng in rngs]))
            for begin in range(0, per_epoch * batch, batch):
                chosen = order[:, begin : begin + batch]
                inputs = x[chosen]
                if small is not None and large is not None and gap is not None:
                    drawn = torch.from_numpy(np.stack([rng.integers(0, len(small), settings.pairs) for rng in rngs]))
                    inputs = torch.cat([inputs, small[drawn], large[drawn]], dim=1)
                out = _forward(inputs, weights, biases)
                loss = (out[:, :batch] - y[chosen]).abs().mean(dim=1)
                if gap is not None:
                    smaller, larger = out[:, batch : batch + settings.pairs], out[:, batch + settings.pairs :]
                    loss = loss + settings.order * (smaller - larger + gap[drawn]).clamp_min(0).mean(dim=1)
                step += 1
                for group in adam.param_groups:
                    group["lr"] = settings.rate * _cycle(step / (settings.epochs * per_epoch))
                adam.zero_grad()
                loss.sum().backward()
                adam.step()
    return [
        TrainedNet(
            centre=centre,
            scale=scale,
            weights=tuple(each[place].detach().numpy() for each in weights),
            biases=tuple(each[place, 0].detach().numpy() for each in biases),
        )
        for place in range(len(seeds))
    ]


def _start(
    rngs: Sequence[np.random.Generator], sizes: Sequence[int], varies: npt.NDArray[np.bool_]
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Weights (networks, inputs, outputs) and biases (networks, 1, outputs) of each layer where training begins."""
    import torch

    shapes = list(itertools.pairwise(sizes))
    weights, biases = [], []
    for rng in rngs:
        weights.append([_uniform(rng, (a, b), a) for a, b in shapes])
        weights[-1][0][~varies] = 0  # what never varied says nothing where it does
        biases.append([_uniform(rng, (1, b), a) for a, b in shapes])
    stacked = [[torch.from_numpy(np.stack(layer)) for layer in zip(*each, strict=True)] for each in (weights, biases)]
    for layer in itertools.chain(*stacked):
        layer.requires_grad_()
    return stacked[0], stacked[1]


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """torch on one thread: matrices this small gain nothing from more."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _uniform(rng: np.random.Generator, shape: tuple[int, ...], inputs: int) -> Singles:
    return np.asarray(rng.uniform(-1, 1, shape) / np.sqrt(inputs), dtype=np.float32)


def _cycle(progress: float) -> float:
    """The learning rate as a share of its peak: half a cosine up, half a cosine down to 0."""
    if progress < _WARM_UP:
        return float(_START + (1 - _START) * (1 - np.cos(np.pi * progress / _WARM_UP)) / 2)
    return float(1 + np.cos(np.pi * (progress - _WARM_UP) / (1 - _WARM_UP))) / 2


def _forward(x: torch.Tensor, weights: list[torch.Tensor], biases: list[torch.Tensor]) -> torch.Tensor:
    """Outputs (networks, rows) of inputs (networks, rows, inputs)."""
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        x = bias.baddbmm(x, weight).relu()
    return biases[-1].baddbmm(x, weights[-1])[..., 0]
