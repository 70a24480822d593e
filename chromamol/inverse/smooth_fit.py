"""Weighted least squares for smooth rate maps, with smoothness and strength chosen by the evidence.

Unknowns are the coefficients c of one or two maps in a cosine basis (see `basis`). Equations A c = b with
error covariance C give, with the prior c ~ N(0, D²) whose scale is the uniform solution,

    (AᵀC⁻¹A / τ² + D⁻²) c = AᵀC⁻¹b / τ²,     covariance (AᵀC⁻¹A / τ² + D⁻²)⁻¹.

The correlation length ℓ and relative amplitude a in D maximise the marginal likelihood of b. τ² >= 1 is the
misfit per equation: where the model explains the data worse than the noise allows (blur, an unsteady
pattern), error bars grow with it.

References
----------
MacKay, Neural Comput. 4, 415 (1992), doi:10.1162/neco.1992.4.3.415.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from chromamol.inverse.basis import CosineBasis
from chromamol.inverse.weak_form import WeakEquations

AMPLITUDES = tuple(float(a) for a in np.geomspace(0.01, 1.0, 15))
"""Relative standard deviations of a rate map that the evidence chooses from; 0.01 is a uniform rate."""

LENGTHS_PER_SHORTEST = tuple(float(r) for r in np.geomspace(1.0, 8.0, 7))
"""Correlation lengths that the evidence chooses from, in units of the shortest that the basis carries."""

_VAGUE = 1e3
"""Prior standard deviation of a map's mean, in units of the uniform solution: no information."""

_COVARIANCE_FLOOR = 1e-4
"""Relative addition to the diagonal of C: keeps sums that the noise model calls noise-free from deciding."""


@dataclass(eq=False)
class NormalEquations:
    """AᵀC⁻¹A, AᵀC⁻¹b, bᵀC⁻¹b and the number of equations, summed over tiles."""

    gram: np.ndarray
    cross: np.ndarray
    power: float
    count: int

    @classmethod
    def zeros(cls, size: int) -> NormalEquations:
        return cls(np.zeros((size, size)), np.zeros(size), 0.0, 0)

    def add(self, equations: WeakEquations, guess: tuple[float, ...], *, device: torch.device) -> None:
        """Add the equations of one tile, weighted by the inverse of their covariance.

        `guess` holds the unknown uniform rates, um⁻²; it weighs the noise of the reaction terms, for which
        a rough value is enough. The noise that A shares with itself and with b would bias the solution
        (errors in variables); its expectation is subtracted, with modes taken as constant over a support.
        """
        methylation, acetylation = (*guess, 0.0)[:2]
        covariance = equations.grams.residual_covariance(methylation, acetylation)
        products, weights = whitened_products(
            covariance, equations.columns, equations.right_side, device=device
        )
        self.gram += products[:-1, :-1] - noise_gram(equations, weights, maps=len(guess))
        self.cross += products[:-1, -1] - noise_cross(equations, weights, maps=len(guess))
        self.power += float(products[-1, -1])
        self.count += len(equations.right_side)

    def with_row(self, row: np.ndarray, value: float, sd: float) -> NormalEquations:
        """Return the equations and one more, independent of them: row · c = value ± sd."""
        return NormalEquations(
            self.gram + np.outer(row, row) / sd**2,
            self.cross + row * value / sd**2,
            self.power + value**2 / sd**2,
            self.count + 1,
        )

    def select(self, columns: np.ndarray) -> NormalEquations:
        """Return the equations with every other unknown fixed at zero."""
        return NormalEquations(
            self.gram[np.ix_(columns, columns)], self.cross[columns], self.power, self.count
        )


def whitened_products(
    covariance: np.ndarray, columns: np.ndarray, right_side: np.ndarray, *, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Return [A b]ᵀ C⁻¹ [A b] and C⁻¹, with a floor under the diagonal of C."""
    floored = covariance + _COVARIANCE_FLOOR * np.median(np.diag(covariance)) * np.eye(len(covariance))
    root = torch.linalg.cholesky(torch.as_tensor(floored, device=device))
    stacked = np.concatenate([columns, right_side[:, None]], axis=1)
    whitened = torch.linalg.solve_triangular(root, torch.as_tensor(stacked, device=device), upper=False)
    return (whitened.T @ whitened).cpu().numpy(), torch.cholesky_inverse(root).cpu().numpy()


def noise_gram(equations: WeakEquations, weights: np.ndarray, *, maps: int) -> np.ndarray:
    """Return E[δAᵀ C⁻¹ δA] for `maps` unknown rates."""
    grams, modes = equations.grams, equations.modes
    blocks = [[grams.me_me, grams.me_ac], [grams.me_ac[::-1], grams.ac_ac]]
    sums = [[grams.weighted_sums(weights, block)[:, None] for block in row[:maps]] for row in blocks[:maps]]
    return np.block([[modes.T @ (each * modes) for each in row] for row in sums])


def noise_cross(equations: WeakEquations, weights: np.ndarray, *, maps: int) -> np.ndarray:
    """Return E[δAᵀ C⁻¹ δb] for `maps` unknown rates."""
    grams = equations.grams
    return np.concatenate(
        [equations.modes.T @ grams.weighted_sums(weights, block) for block in (grams.b_me, grams.b_ac)[:maps]]
    )


@dataclass(frozen=True, eq=False)
class SmoothFit:
    """The chosen solution.

    Parameters
    ----------
    coefficients, covariance : posterior mean and covariance of c, um⁻² and um⁻⁴.
    misfit : τ² that the solution was weighted with; 1 when the equations are met within their noise.
    next_misfit : τ² of this solution's residual.
    length_um, amplitude : chosen smoothness ℓ and relative strength a of the maps.
    """

    coefficients: np.ndarray
    covariance: np.ndarray
    misfit: float
    next_misfit: float
    length_um: float
    amplitude: float


def fit_uniform(normal: NormalEquations) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients without a prior, and their standard errors; for a handful of unknowns."""
    unit = np.sqrt(np.maximum(np.diag(normal.gram), np.finfo(float).tiny))
    coefficients, covariance = _posterior(normal, _VAGUE / unit, 1.0)
    misfit = max(1.0, (normal.power - normal.cross @ coefficients) / normal.count)
    return coefficients, np.sqrt(misfit * np.diag(covariance))


def fit_smooth(
    normal: NormalEquations,
    basis: CosineBasis,
    scales: np.ndarray,
    *,
    misfit: float,
    prior: tuple[float, float] | None = None,
) -> SmoothFit:
    """Return the solution at the smoothness and amplitude of highest evidence.

    Parameters
    ----------
    normal : equations for `len(scales)` maps of `basis.size` modes each.
    scales : size of each rate, um⁻²: the unit in which amplitudes are relative.
    misfit : τ², from an earlier solution.
    prior : correlation length and amplitude, in place of those of highest evidence.
    """
    length_um, amplitude = prior or _most_evident(normal, basis, scales, misfit)
    coefficients, covariance = _posterior(normal, _prior_sd(basis, scales, length_um, amplitude), misfit)
    residual = normal.power - 2 * normal.cross @ coefficients + coefficients @ normal.gram @ coefficients
    next_misfit = max(1.0, float(residual) / normal.count)
    return SmoothFit(coefficients, covariance, misfit, next_misfit, length_um, amplitude)


def _most_evident(
    normal: NormalEquations, basis: CosineBasis, scales: np.ndarray, misfit: float
) -> tuple[float, float]:
    """Return the correlation length and amplitude that maximise the marginal likelihood.

    The maps' means have a flat prior and are eliminated first. For one length the rest is diagonal in the
    eigenvectors of the scaled normal matrix, which serves every amplitude at once.
    """
    means = np.arange(len(scales)) * basis.size
    waves = np.setdiff1d(np.arange(len(normal.cross)), means)
    lift = np.linalg.solve(normal.gram[np.ix_(means, means)], normal.gram[np.ix_(means, waves)])
    gram = normal.gram[np.ix_(waves, waves)] - normal.gram[np.ix_(waves, means)] @ lift
    cross = normal.cross[waves] - lift.T @ normal.cross[means]
    best = (-math.inf, 0.0, 0.0)
    for length in LENGTHS_PER_SHORTEST:
        length_um = length * basis.shortest_length_um
        unit = _prior_sd(basis, scales, length_um, 1.0)[waves]
        values, vectors = np.linalg.eigh(unit[:, None] * gram * unit[None, :] / misfit)
        values = np.maximum(values, 0.0)
        projection = (vectors.T @ (unit * cross)) ** 2 / misfit**2
        for amplitude in AMPLITUDES:
            gain = amplitude**2 / (1.0 + amplitude**2 * values)
            score = 0.5 * float(gain @ projection - np.log1p(amplitude**2 * values).sum())
            best = max(best, (score, length_um, amplitude))
    return best[1], best[2]


def _prior_sd(basis: CosineBasis, scales: np.ndarray, length_um: float, amplitude: float) -> np.ndarray:
    shape = amplitude * np.sqrt(basis.relative_spectrum(length_um))
    shape[0] = _VAGUE
    return np.concatenate([scale * shape for scale in scales])


def _posterior(normal: NormalEquations, prior_sd: np.ndarray, misfit: float) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and covariance of the coefficients for one prior."""
    # Subtracting the expected noise can leave directions that hold nothing but noise slightly negative.
    values, vectors = np.linalg.eigh(prior_sd[:, None] * normal.gram * prior_sd[None, :] / misfit)
    spread = prior_sd[:, None] * vectors / np.sqrt(1.0 + np.maximum(values, 0.0))
    covariance = spread @ spread.T
    return covariance @ normal.cross / misfit, covariance
