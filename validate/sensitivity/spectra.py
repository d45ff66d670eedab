"""What is known of one site: what each direction adds to an error, so that tails of sums are the errors of every rank.

No torch: files of spectra are read, and quality is predicted from them, without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from validate.factors.kinds import Factors

Floats = npt.NDArray[np.float64]
Measure = Literal["plain", "plain_output", "whitened"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LossTerms:
    """How the loss answers to truncation of one site, to second order; float64 (k) of each kind of factors.

    Let L be the negative log-likelihood of all N predictions on the calibration text in nats, and g = dL/dy at the
    output y of a token. Truncation changes L / N, the mean NLL, by about slope + curvature: the slope is the sum over
    tokens of g (W_r - W) x, divided by N; the curvature half the sum of the squares of these terms, divided by N (the
    empirical Fisher information), with x and g taken as independent (K-FAC: Martens and Grosse, arXiv:1503.05671).
    For small changes.

    Attributes:
        slope_plain, slope_whitened: of either sign; near 0 for a model trained to convergence on such text.
        curvature_plain, curvature_whitened: tails are never negative.
        gradient: sum of |g|^2 over tokens / (out x N), so that gradient / 2 x E||W x - W_r x||^2 is the curvature of an
            error without preferred directions.
    """

    slope_plain: Floats
    slope_whitened: Floats
    curvature_plain: Floats
    curvature_whitened: Floats
    gradient: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiteSpectra:
    """Energies of W (out x in) along its k = min(out, in) directions, under M = E[x x^T] of the calibration text.

    Attributes:
        singular_values: float64 (k), s of W = U s V^T, descending.
        plain_output: float64 (k), s_i^2 v_i^T M v_i: the energy of the outputs along the plain directions, in the
            order of the singular values, so not descending.
        whitened: float64 (k), eigenvalues of E[y y^T] for y = W x (no bias), descending: squared singular values of
            W S with S S^T = M.
        loss: None where no gradients were asked for.
    """

    singular_values: Floats
    plain_output: Floats
    whitened: Floats
    loss: LossTerms | None = None

    def energies(self, measure: Measure) -> Floats:
        """What each direction adds to the measure, float64 (k), in the order in which truncation keeps them."""
        if measure == "plain":
            return self.singular_values**2
        return self.plain_output if measure == "plain_output" else self.whitened

    def errors(self, measure: Measure, *, relative: bool = False) -> Floats:
        """Error of each rank from 0, where all is lost, to k, where nothing is: float64 (k + 1).

        Args:
            measure: `plain`, ||W - W_r||_F^2 of the plain truncation; `plain_output`, E||W x - W_r x||^2 of the same;
                `whitened`, E||W x - W_r x||^2 of the whitened truncation, the least of any weight of that rank.
            relative: as a share of the error of rank 0; 0 for a site without energy.
        """
        errors = tails(self.energies(measure))
        if not relative:
            return errors
        return errors / errors[0] if errors[0] > 0 else errors

    def loss_changes(self, factors: Factors) -> tuple[Floats, Floats] | None:
        """Slope and curvature of the loss for each rank from 0 to k, each float64 (k + 1), in nats per prediction."""
        if self.loss is None:
            return None
        if factors == "plain":
            return tails(self.loss.slope_plain), tails(self.loss.curvature_plain)
        return tails(self.loss.slope_whitened), tails(self.loss.curvature_whitened)

    @property
    def stable_rank(self) -> float:
        """||W||_F^2 / ||W||_2^2, 0 for a weight of zeros."""
        squares = self.energies("plain")
        return float(squares.sum() / squares[0]) if squares[0] > 0 else 0.0


def tails(terms: Floats) -> Floats:
    """Sums of what is left out at each rank from 0 to k: float64 (k + 1), summed from the smallest on."""
    return np.append(np.cumsum(terms[::-1])[::-1], 0.0)
