"""Weighted least squares for smooth rate maps, with smoothness and strength chosen by the evidence.

Unknowns are the coefficients c of one or two maps in a cosine basis (see `basis`). Equations A c = b with
error covariance C give, with the prior c ~ N(0, D²) whose scale is the uniform solution,

    (AᵀC⁻¹A / τ² + D⁻²) c = AᵀC⁻¹b / τ²,     covariance (AᵀC⁻¹A / τ² + D⁻²)⁻¹.

The correlation length ℓ and relative amplitude a in D maximise the marginal likelihood of b (see `evidence`).
τ² >= 1 is the misfit per equation: where the model explains the data worse than the noise allows (blur, an
unsteady pattern), error bars grow with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

from chromamol.inverse.basis import CosineBasis
from chromamol.inverse.evidence import VAGUE, Evidence, factor_one_plus, prior_sd
from chromamol.inverse.normal_equations import NormalEquations


@dataclass(frozen=True, eq=False)
class SmoothFit:
    """The chosen solution.

    Parameters
    ----------
    coefficients, covariance : posterior mean and covariance of c, um⁻² and um⁻⁴.
    misfit : τ² that the solution was weighted with; 1 when the equations are met within their noise.
    next_misfit : τ² of this solution's residual.
    length_um, amplitude : chosen smoothness ℓ and relative strength a of the maps.
    scales : size of each rate that the strength is relative to, um⁻².
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    misfit: float
    next_misfit: float
    length_um: float
    amplitude: float
    scales: np.ndarray

    @property
    def prior(self) -> tuple[float, float]:
        """ℓ and a."""
        return self.length_um, self.amplitude


def fit_uniform(normal: NormalEquations) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients without a prior, and their standard errors; for a handful of unknowns."""
    unit = np.sqrt(np.maximum(np.diag(normal.gram), np.finfo(float).tiny))
    coefficients, covariance = _posterior(normal, VAGUE / unit, 1.0)
    misfit = max(1.0, (normal.power - normal.cross @ coefficients) / normal.count)
    return coefficients, np.sqrt(misfit * np.diag(covariance))


def fit_smooth(
    normal: NormalEquations,
    basis: CosineBasis,
    scales: np.ndarray,
    *,
    misfit: float,
    prior: tuple[float, float] | None = None,
    near: tuple[float, float] | None = None,
) -> SmoothFit:
    """Return the solution at the smoothness and amplitude of highest evidence.

    Parameters
    ----------
    normal : equations for `len(scales)` maps of `basis.size` modes each, positive semidefinite.
    scales : size of each rate, um⁻²: the unit in which amplitudes are relative.
    misfit : τ², from an earlier solution.
    prior : correlation length and amplitude, in place of those of highest evidence.
    near : where to look for them, from an earlier solution.
    """
    if prior is None:
        prior = Evidence(normal.gram / misfit, normal.cross / misfit, basis, scales).best(near=near)
    length_um, amplitude = prior
    coefficients, covariance = _posterior(normal, prior_sd(basis, scales, length_um, amplitude), misfit)
    next_misfit = normal.misfit_of(coefficients)
    return SmoothFit(coefficients, covariance, misfit, next_misfit, length_um, amplitude, scales)


def _posterior(normal: NormalEquations, size: np.ndarray, misfit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance of the coefficients for one prior."""
    covariance = posterior_covariance(normal.gram / misfit, size)
    return covariance @ normal.cross / misfit, covariance


def posterior_mean(gram: np.ndarray, cross: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return (AᵀC⁻¹A + D⁻²)⁻¹ AᵀC⁻¹b, for `gram` and `size` as in `posterior_covariance`."""
    mean, _ = lapack.dpotrs(factor_one_plus(size[:, None] * gram * size), size * cross, lower=1)
    return np.asarray(size * mean)


def posterior_covariance(gram: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return (AᵀC⁻¹A + D⁻²)⁻¹ for a positive semidefinite `gram` AᵀC⁻¹A and prior deviations `size` D."""
    inverse, _ = lapack.dpotri(factor_one_plus(size[:, None] * gram * size), lower=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    return np.asarray(size[:, None] * inverse * size)
