"""A small network of rectified linear units: the smooth correction that a calibration puts on its roofline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Floats

BLOCK = 512
"""Rows per matrix product: what they need at once fits the caches."""
_DIGITS = 2.0**30
"""The output is rounded to multiples of its inverse, 1e-9, far below the error of any calibration. BLAS rounds the sums
of a row by where it stands in a product; without the rounding, a shape priced alone and among others would differ."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Net:
    """y = W_n relu(... relu(W_1 x + b_1) ...) + b_n: piecewise linear and continuous in x.

    Attributes:
        layers: (weights (outputs, inputs), bias (outputs, 1)) from first to last; the last has one output.
    """

    layers: tuple[tuple[Floats, Floats], ...]

    @classmethod
    def of(cls, weights: Sequence[Floats], biases: Sequence[Floats], centre: Floats, scale: Floats) -> Net:
        """The network that expects features x with (x - centre) / scale put into its first layer.

        Args:
            weights: (inputs, outputs) of each layer.
            biases: (outputs,) of each layer.
            centre, scale: of the features.
        """
        first = weights[0] / scale[:, None]
        pairs = [(first, biases[0] - centre @ first), *zip(weights[1:], biases[1:], strict=True)]
        return cls(layers=tuple((np.ascontiguousarray(w.T), b[:, None].copy()) for w, b in pairs))

    @property
    def inputs(self) -> int:
        """Number of features."""
        return int(self.layers[0][0].shape[1])

    def __call__(self, features: Floats) -> Floats:
        """The output for every row: float64 (inputs, rows) in, (rows,) out."""
        rows = features.shape[1]
        out = np.empty(rows)
        for start in range(0, rows, BLOCK):
            h = features[:, start : start + BLOCK]
            for weights, bias in self.layers[:-1]:
                h = weights @ h
                h += bias
                np.maximum(h, 0, out=h)
            weights, bias = self.layers[-1]
            out[start : start + BLOCK] = (weights @ h + bias)[0]
        return np.round(out * _DIGITS) / _DIGITS
