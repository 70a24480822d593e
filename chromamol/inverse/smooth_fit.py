"""Weighted least squares for smooth rate maps, with smoothness and strength chosen by the evidence.

Unknowns are the coefficients c of one or two maps in a cosine basis (see `basis`). Equations A c = b with
error covariance C give, with the prior c ~ N(0, D²) whose scale is the uniform solution,

    (AᵀC⁻¹A / τ² + D⁻²) c = AᵀC⁻¹b / τ²,     covariance (AᵀC⁻¹A / τ² + D⁻²)⁻¹.

The correlation length ℓ and relative amplitude a in D maximise the marginal likelihood of b (see `evidence`).
τ² >= 1 is the misfit (see `NormalEquations.misfit_of`): where the model explains the data worse than the noise
allows (blur, an unsteady pattern), error bars grow with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import lapack

from chromamol.inverse.basis import CosineBasis
from chromamol.inverse.evidence import VAGUE, Evidence, factor_one_plus, prior_sd
from chromamol.inverse.normal_equations import NormalEquations
from chromamol.inverse.weights import mirrored


@dataclass(frozen=True, eq=False)
class SmoothFit:
    """The chosen solution.

    Parameters
    ----------
    coefficients : posterior mean of c, um⁻².
    size, root : prior deviations D of c, um⁻², and the Cholesky factor of 1 + D AᵀC⁻¹A D / τ².
    misfit : τ² that the solution was weighted with; 1 when the equations are met within their noise.
    next_misfit : τ² of this solution's residual.
    length_um, amplitude : chosen smoothness ℓ and relative strength a of the maps.
    scales : size of each rate that the strength is relative to, um⁻².
    """

    coefficients: np.ndarray
    size: np.ndarray
    root: np.ndarray
    misfit: float
    next_misfit: float
    length_um: float
    amplitude: float
    scales: np.ndarray

    @cached_property
    def covariance(self) -> np.ndarray:
        """Posterior covariance of c, um⁻⁴."""
        return _covariance(self.root, self.size)

    def errors_of(self, numbers: np.ndarray) -> np.ndarray:
        """Return the standard errors of a few of the coefficients, um⁻²: far cheaper than `covariance`."""
        unit = np.zeros((len(self.size), len(numbers)))
        unit[numbers, np.arange(len(numbers))] = self.size[numbers]
        whitened, _ = lapack.dtrtrs(self.root, unit, lower=1)
        return np.asarray(np.linalg.norm(whitened, axis=0))

    def fitted(self) -> float:
        """Degrees of freedom that the solution takes from the data: tr (AᵀC⁻¹A / τ² + D⁻²)⁻¹ AᵀC⁻¹A / τ²."""
        return _fitted(self.root)

    @property
    def prior(self) -> tuple[float, float]:
        """ℓ and a."""
        return self.length_um, self.amplitude


def fit_uniform(normal: NormalEquations) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients without a prior, and their standard errors; for a handful of unknowns."""
    unit = np.sqrt(np.maximum(np.diag(normal.gram), np.finfo(float).tiny))
    covariance = posterior_covariance(normal.gram, VAGUE / unit)
    coefficients = covariance @ normal.cross
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
    size = prior_sd(basis, scales, length_um, amplitude)
    root = factor_one_plus(size[:, None] * (normal.gram / misfit) * size)
    coefficients = _mean(root, normal.cross / misfit, size)
    next_misfit = normal.misfit_of(coefficients, fitted=lambda: _fitted(root))
    return SmoothFit(coefficients, size, root, misfit, next_misfit, length_um, amplitude, scales)


def posterior_mean(gram: np.ndarray, cross: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return (AᵀC⁻¹A + D⁻²)⁻¹ AᵀC⁻¹b, for `gram` and `size` as in `posterior_covariance`."""
    return _mean(factor_one_plus(size[:, None] * gram * size), cross, size)


def posterior_covariance(gram: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return (AᵀC⁻¹A + D⁻²)⁻¹ for a positive semidefinite `gram` AᵀC⁻¹A and prior deviations `size` D."""
    return _covariance(factor_one_plus(size[:, None] * gram * size), size)


def _mean(root: np.ndarray, cross: np.ndarray, size: np.ndarray) -> np.ndarray:
    mean, _ = lapack.dpotrs(root, size * cross, lower=1)
    return np.asarray(size * mean)


def _fitted(root: np.ndarray) -> float:
    """Return K - tr (1 + M)⁻¹ from the Cholesky factor of 1 + M, (K, K)."""
    inverse, _ = lapack.dtrtri(root, lower=1)
    return len(root) - float(np.sum(np.tril(inverse) ** 2))


def _covariance(root: np.ndarray, size: np.ndarray) -> np.ndarray:
    inverse, _ = lapack.dpotri(root, lower=1)
    return np.asarray(size[:, None] * mirrored(inverse) * size)
