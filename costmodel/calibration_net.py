"""A small network of rectified linear units: the smooth correction that a calibration puts on its roofline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from costmodel.roofline import Floats

Singles = npt.NDArray[np.float32]
BLOCK = 256
"""Rows per matrix product. Always the same number, padded at the end, so that a row's result is the same bit by bit
whether it is evaluated alone or among a million: sums are rounded in an order that depends on the product's shape."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Net:
    """y = W_n relu(... relu(W_1 x + b_1) ...) + b_n, in single precision: piecewise linear and continuous in x.

    Attributes:
        layers: (weights (inputs, outputs), bias (outputs,)) from first to last; the last has one output.
    """

    layers: tuple[tuple[Singles, Singles], ...]

    @classmethod
    def of(cls, weights: Sequence[Floats], biases: Sequence[Floats], centre: Floats, scale: Floats) -> Net:
        """The network that expects features x with (x - centre) / scale put into its first layer."""
        first = weights[0] / scale[:, None]
        pairs = [(first, biases[0] - centre @ first), *zip(weights[1:], biases[1:], strict=True)]
        return cls(layers=tuple((w.astype(np.float32), b.astype(np.float32)) for w, b in pairs))

    @property
    def inputs(self) -> int:
        """Number of features."""
        return len(self.layers[0][0])

    def __call__(self, features: Floats) -> Floats:
        """The output for every row.

        Args:
            features: float64 of shape (inputs, rows): one contiguous row per feature, as they are computed.

        Returns:
            float64 of shape (rows,).
        """
        rows = features.shape[1]
        padded = -(-rows // BLOCK) * BLOCK
        x = np.zeros((padded, self.inputs), dtype=np.float32)
        x[:rows] = features.T
        out = np.empty(padded, dtype=np.float32)
        for start in range(0, padded, BLOCK):
            h = x[start : start + BLOCK]
            for weights, bias in self.layers[:-1]:
                h = h @ weights
                h += bias
                np.maximum(h, 0, out=h)
            weights, bias = self.layers[-1]
            out[start : start + BLOCK] = (h @ weights)[:, 0] + bias
        return out[:rows].astype(np.float64)
