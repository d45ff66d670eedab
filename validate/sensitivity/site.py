"""Spectra of one site from its weight and the second moment of its input: one factorisation for all ranks."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from validate.errors import MeasurementError
from validate.sensitivity.gradients import SiteGradients
from validate.sensitivity.spectra import Floats, LossTerms, SiteSpectra


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteInput:
    """What the spectra of a site are computed from; see `site_spectra`."""

    weight: torch.Tensor
    moment: torch.Tensor
    gradients: SiteGradients | None

    def to(self, device: torch.device | str) -> SiteInput:
        """The same on a device."""
        gradients = None if self.gradients is None else self.gradients.to(device)
        return SiteInput(weight=self.weight.to(device), moment=self.moment.to(device), gradients=gradients)


def site_spectra(weight: torch.Tensor, moment: torch.Tensor, gradients: SiteGradients | None = None) -> SiteSpectra:
    """Energies of a site, computed in float64 on the weight's device.

    An eigen-decomposition of the smaller Gram matrix of W gives s and, say, U; with R = U^T W the matrix
    B = R M R^T is E[y y^T] in the basis of U: its diagonal holds the outputs' energies along the plain directions, its
    eigenvalues those of the whitened truncation. No root or inverse of M is formed, so M may be singular. Squared
    singular values are exact to about k eps ||W||^2 (1e-13 of the largest), which is what sums of them need; singular
    values below 1e-7 of the largest are rounding.

    Args:
        weight: (out, in), any float type.
        moment: float64 (in, in), E[x x^T].
        gradients: of the same site, for the loss terms.

    Raises:
        MeasurementError: when an input is not finite or a decomposition fails.
    """
    wide = weight.detach().to(torch.float64) if gradients is None else gradients.reduced
    moment = moment.to(device=wide.device, dtype=torch.float64)
    for name, matrix in (("weight", wide), ("input moment", moment)):
        if not bool(torch.isfinite(matrix).all()):
            raise MeasurementError("non-finite", f"{name} of shape {tuple(matrix.shape)} holds NaN or infinity")
    tall = wide.shape[0] > wide.shape[1]
    try:
        squares, vectors = torch.linalg.eigh(wide.T @ wide if tall else wide @ wide.T)
        squares, vectors = squares.flip(0).clamp_min(0), vectors.flip(1)
        rows = squares.sqrt()[:, None] * vectors.T if tall else vectors.T @ wide
        product = rows @ moment @ rows.T
        product = (product + product.T) / 2
        if gradients is None:
            whitened, loss = torch.linalg.eigvalsh(product).flip(0).clamp_min(0), None
        else:
            whitened, turn = torch.linalg.eigh(product)
            whitened, turn = whitened.flip(0).clamp_min(0), turn.flip(1)
            loss = _loss_terms(gradients, vectors, product, whitened, turn)
    except RuntimeError as error:
        raise MeasurementError("factorisation", f"spectra of {tuple(weight.shape)} failed: {error}") from error
    return SiteSpectra(
        singular_values=_array(squares.sqrt()),
        plain_output=_array(product.diagonal().clamp_min(0)),
        whitened=_array(whitened),
        loss=loss,
    )


def _loss_terms(
    gradients: SiteGradients, vectors: torch.Tensor, product: torch.Tensor, whitened: torch.Tensor, turn: torch.Tensor
) -> LossTerms:
    """Loss terms along the plain directions `vectors` and the whitened ones `vectors @ turn`.

    Truncation to rank r takes off the outputs' part along directions beyond r, so the slope is a sum over directions.
    The curvature is a sum over pairs of them, of which those of whitened directions, uncorrelated, vanish; what pairs
    of plain directions add at each rank is the row of the upper triangle.
    """
    both = vectors @ turn
    squares = vectors.T @ gradients.squares @ vectors
    pairs = squares * product / 2
    return LossTerms(
        slope_plain=_array(-_diagonal(vectors, gradients.crosses)),
        slope_whitened=_array(-_diagonal(both, gradients.crosses)),
        curvature_plain=_array(2 * pairs.triu().sum(1) - pairs.diagonal()),
        curvature_whitened=_array(_diagonal(turn, squares) * whitened / 2),
        gradient=gradients.mean_square,
    )


def _diagonal(basis: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """The diagonal of basis^T matrix basis."""
    return (basis * (matrix @ basis)).sum(0)


def _array(tensor: torch.Tensor) -> Floats:
    array: Floats = tensor.cpu().numpy().copy()
    return array
