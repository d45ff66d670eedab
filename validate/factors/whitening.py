"""Activation-aware factors: the rank-r weight that changes a layer's outputs least on calibration text.

With M = E[x x^T] = S S^T, E||W x - W_r x||^2 = ||(W - W_r) S||_F^2, which the truncated SVD of W S = U s V^T minimises
(Eckart and Young): W_r = U_r s_r V_r^T S^-1 = U_r U_r^T W, and the error is the sum of the s^2 left out. U and s^2 are
eigenvectors and eigenvalues of W M W^T = E[y y^T], so neither a root nor an inverse of M is ever formed: a singular M
(fewer tokens than features) is nothing special, and at full rank W comes back exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import get_args

import torch
from torch import nn

from costmodel.decomposition.factors import Site
from costmodel.errors import InputError
from validate.errors import MeasurementError
from validate.factors.factorize import Factorization
from validate.factors.kinds import Factors
from validate.factors.moments import Moments, collect_moments
from validate.factors.replace import StageMaker, WeightFactors
from validate.models.pretrained import Pretrained
from validate.models.weights import dense_weight


def numerical_rank(values: torch.Tensor) -> int:
    """How many eigenvalues of a positive semi-definite float64 matrix stand above rounding: size x eps x the largest.

    The rule of numpy's and torch's `matrix_rank`.
    """
    threshold = float(values.max().clamp_min(0)) * len(values) * torch.finfo(values.dtype).eps
    return int((values > threshold).sum())


def factorize_whitened(weight: torch.Tensor, moment: torch.Tensor, *, tucker: bool) -> Factorization:
    """W as `left @ core @ right`, ordered so that every truncation is the best of its rank for E||W x - W_r x||^2.

    left is U, orthonormal; right is U^T W with rows scaled to length 1, core their lengths (see `Factorization`).
    Directions in which calibration outputs have no energy above rounding come last, in the order of the plain SVD of
    what is left of W there.

    Args:
        weight: (out, in), any float type.
        moment: float64 (in, in), E[x x^T].
        tucker: for three factors rather than two.

    Returns:
        In fp32 (fp64 for an fp64 weight) on the weight's device, k = min(out, in).

    Raises:
        MeasurementError: when weight or moment is not finite or the decomposition fails.
    """
    wide = weight.detach().to(torch.float64)
    moment = moment.to(device=wide.device, dtype=torch.float64)
    for name, matrix in (("weight", wide), ("input moment", moment)):
        if not bool(torch.isfinite(matrix).all()):
            raise MeasurementError("non-finite", f"{name} of shape {tuple(matrix.shape)} holds NaN or infinity")
    try:
        left, right = _output_directions(wide, moment)
    except RuntimeError as error:
        raise MeasurementError("factorisation", f"whitening of {tuple(weight.shape)} failed: {error}") from error
    lengths = right.norm(dim=1)
    right = right / torch.where(lengths > 0, lengths, 1.0)[:, None]
    dtype = torch.float64 if weight.dtype is torch.float64 else torch.float32
    core = torch.diag(lengths) if tucker else lengths
    return Factorization(left=left.to(dtype), core=core.to(dtype), right=right.to(dtype), tucker=tucker)


def _output_directions(weight: torch.Tensor, moment: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """U (out, k), by falling energy of the outputs, and U^T W (k, in)."""
    tall = weight.shape[0] > weight.shape[1]
    base, reduced = torch.linalg.qr(weight) if tall else (None, weight)
    product = reduced @ moment @ reduced.T
    values, vectors = torch.linalg.eigh((product + product.T) / 2)
    values, vectors = values.flip(0), vectors.flip(1)
    seen = numerical_rank(values)
    if seen < len(values):  # the rest of the basis is arbitrary: turn it to the weight's own directions
        rest = vectors[:, seen:].T @ reduced
        turn = torch.linalg.eigh(rest @ rest.T).eigenvectors.flip(1)
        vectors = torch.cat([vectors[:, :seen], vectors[:, seen:] @ turn], dim=1)
    return (vectors if base is None else base @ vectors), vectors.T @ reduced


class WhitenedFactors(WeightFactors):
    """Factors that fit calibration activations, otherwise as `WeightFactors`.

    Args:
        moments: of the dense model, for every site that will be factored.
        weight: as of `WeightFactors`.
    """

    def __init__(self, moments: Moments, weight: Callable[[nn.Module], torch.Tensor] = dense_weight) -> None:
        super().__init__(weight)
        self._moments = moments

    def factorize(self, site: Site, weight: torch.Tensor, *, tucker: bool) -> Factorization:
        """All that is known of a weight, to be truncated to any rank."""
        return factorize_whitened(weight, self._moments.of(site), tucker=tucker)


def make_factors(
    kind: str,
    pretrained: Pretrained,
    blocks: torch.Tensor | None,
    *,
    layers: Collection[int] | None = None,
    weight: Callable[[nn.Module], torch.Tensor] = dense_weight,
) -> StageMaker:
    """The source of factors that `--factors` names: plain from the weights alone, whitened with calibration text.

    Call it while the model is dense.

    Args:
        blocks: calibration text, int64 (blocks, length); needed for whitened, ignored for plain.
        layers: those that will be factored, to save memory (see `collect_moments`); None for all.
        weight: gives the weight of a linear to factor, such as `stored_weights`.

    Raises:
        InputError: for another kind, and for whitened without text.
    """
    if kind == "plain":
        return WeightFactors(weight)
    if kind != "whitened":
        raise InputError("unknown factors", value=kind, allowed=", ".join(get_args(Factors)))
    if blocks is None:
        raise InputError("whitened factors need calibration text", hint="give --calibration-text FILE")
    return WhitenedFactors(collect_moments(pretrained, blocks, layers=layers), weight)
