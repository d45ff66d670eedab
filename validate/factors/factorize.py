"""From a weight to its factors: one factorisation of a tensor serves every rank. Knows tensors, not models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from costmodel.decomposition.factors import Factor, LowRank
from validate.errors import MeasurementError


@dataclass(frozen=True, slots=True, kw_only=True)
class Factorization:
    """W (out x in) as `left @ core @ right`, exact at full rank k = min(out, in), truncated to any rank below.

    Attributes:
        left: (out, k), orthonormal columns.
        core: k lengths, none below 0, for the SVD; for Tucker (k, k) with them on its diagonal and 0 elsewhere.
        right: (k, in), rows of length 1, or 0 where their length in the core is 0.
        tucker: which of the two it is.

    Of a plain factorisation the rows of `right` are orthonormal and the lengths are the singular values, descending;
    of a whitened one neither holds: its order is that of the outputs' energy. Either way the columns of `left` are
    orthonormal, so ||W - W_r||_F is the root of the sum of the squared lengths left out.
    """

    left: torch.Tensor
    core: torch.Tensor
    right: torch.Tensor
    tucker: bool

    def stages(self, factor: Factor) -> list[torch.Tensor]:
        """Weights of the linears that replace W, in the order they run, each (out, in) of its own linear.

        SVD of rank r: (r, in) and (out, r), the singular values split evenly between them, so that neither overflows
        a narrow type. Tucker: (rank_in, in), (rank_out, rank_in), (out, rank_out).

        Raises:
            MeasurementError: when the factor is of the other form.
        """
        if isinstance(factor, LowRank) == self.tucker:
            raise MeasurementError("factorisation", f"a {'Tucker' if self.tucker else 'SVD'} does not give {factor}")
        first, last = factor.ranks
        if self.tucker:
            return [self.right[:first], self.core[:last, :first], self.left[:, :last]]
        root = self.core[:first].sqrt()
        return [root[:, None] * self.right[:first], self.left[:, :first] * root]


def factorize_svd(weight: torch.Tensor) -> Factorization:
    """Singular value decomposition in fp32 (fp64 stays), on the weight's device; any float type in.

    Raises:
        MeasurementError: when the weight is not finite or the decomposition fails.
    """
    matrix = _wide(weight)
    try:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    except RuntimeError as error:
        raise MeasurementError("factorisation", f"SVD of {tuple(weight.shape)} failed: {error}") from error
    return Factorization(left=left, core=values, right=right, tucker=False)


def factorize_tucker(weight: torch.Tensor) -> Factorization:
    """Tucker decomposition at full rank, in fp32 (fp64 stays): the higher-order SVD with a diagonal core.

    The factors of a matrix are singular vectors of its two unfoldings, W and W^T (De Lathauwer et al., SIAM J. Matrix
    Anal. Appl. 21, 2000). `tensorly.decomposition.tucker` takes them from one SVD each, so that where singular values
    repeat the two sides are turned against each other: the core is not diagonal and its truncation no longer the best
    one. Here both sides are of one SVD, and every truncation to (r, r) is exactly the truncated SVD.

    Raises:
        MeasurementError: when the weight is not finite or the decomposition fails.
    """
    import tensorly
    from tensorly.tucker_tensor import TuckerTensor

    svd = factorize_svd(weight)
    with tensorly.backend_context("pytorch", local_threadsafe=True):
        core, (left, right) = TuckerTensor((torch.diag(svd.core), [svd.left, svd.right.T]))
    return Factorization(left=left, core=core, right=right.T, tucker=True)


def factorize(weight: torch.Tensor, *, tucker: bool) -> Factorization:
    """The factorisation of one form; see `factorize_svd` and `factorize_tucker`."""
    return factorize_tucker(weight) if tucker else factorize_svd(weight)


def random_stages(
    out_features: int,
    in_features: int,
    factor: Factor,
    *,
    dtype: torch.dtype,
    device: torch.device,
    scale: float,
    generator: torch.Generator,
) -> list[torch.Tensor]:
    """Random weights of the right shapes whose product has entries of standard deviation `scale`, for timing alone.

    Each later factor has entries of deviation 1 / sqrt(its in_features), which keeps the variance, so outputs are as
    finite as those of a dense random weight.
    """
    first, last = factor.ranks
    shapes = [(first, in_features), (out_features, last)]
    if not isinstance(factor, LowRank):
        shapes.insert(1, (last, first))
    stages = []
    for index, (n, k) in enumerate(shapes):
        deviation = scale if index == 0 else k**-0.5
        values = torch.randn(n, k, generator=generator, device=generator.device) * deviation
        stages.append(values.to(device=device, dtype=dtype))
    return stages


def _wide(weight: torch.Tensor) -> torch.Tensor:
    matrix = weight.detach()
    if matrix.dtype is not torch.float64:
        matrix = matrix.to(torch.float32)  # CPU decompositions have no 16-bit types
    if not bool(torch.isfinite(matrix).all()):
        raise MeasurementError("non-finite", f"weight of shape {tuple(weight.shape)} holds NaN or infinity")
    return matrix


def product(stages: Sequence[torch.Tensor]) -> torch.Tensor:
    """The dense weight that factors stand for, (out, in), in fp32 or fp64: for checking, never for running.

    Args:
        stages: weights in the order they run, each (out, in) of its own linear.
    """
    wide = [each.detach() if each.dtype is torch.float64 else each.detach().to(torch.float32) for each in stages]
    result = wide[0]
    for each in wide[1:]:
        result = each @ result
    return result
