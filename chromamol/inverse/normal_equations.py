"""The weighted normal equations of the weak form, summed tile by tile.

Equations A c = b with error covariance C enter as AᵀC⁻¹A and AᵀC⁻¹b. The noise that A shares with itself and with b
would bias the solution (errors in variables); its expectation is subtracted, with modes taken as constant over a
support.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from chromamol.inverse.basis import CosineBasis
from chromamol.inverse.lattice import LatticeTile
from chromamol.inverse.weak_form import WeakEquations
from chromamol.inverse.weak_noise import NoiseGrams

_ROUNDING = 1e-12
"""Eigenvalues below this share of the largest may be negative by rounding."""

_COVARIANCE_FLOOR = 1e-4
"""Relative addition to the diagonal of C: keeps sums that the noise model calls noise-free from deciding."""


@dataclass(frozen=True, eq=False)
class Weights:
    """C⁻¹ of one tile's equations, as the lower Cholesky factor of C."""

    root: Tensor

    @classmethod
    def of(cls, covariance: np.ndarray, *, device: torch.device) -> Weights:
        """Factor C, with a floor under its diagonal."""
        floor = _COVARIANCE_FLOOR * np.median(np.diag(covariance))
        floored = torch.as_tensor(covariance, device=device).clone()
        floored.diagonal().add_(floor)
        return cls(torch.linalg.cholesky(floored))

    def products(self, columns: np.ndarray, right_side: np.ndarray) -> np.ndarray:
        """Return [A b]ᵀ C⁻¹ [A b]."""
        stacked = torch.as_tensor(np.column_stack([columns, right_side]), device=self.root.device)
        whitened = torch.linalg.solve_triangular(self.root, stacked, upper=False)
        return (whitened.T @ whitened).cpu().numpy()

    def inverse(self) -> np.ndarray:
        """Return C⁻¹."""
        return torch.cholesky_inverse(self.root).cpu().numpy()


@dataclass(frozen=True, eq=False)
class WeightedTile:
    """What the equations of one tile are weighted with, whatever the fields: most of the cost of a fit.

    Parameters
    ----------
    tile : the test functions.
    weights : C⁻¹.
    noise_gram, noise_cross : E[δAᵀ C⁻¹ δA] and E[δAᵀ C⁻¹ δb].
    """

    tile: LatticeTile
    weights: Weights
    noise_gram: np.ndarray
    noise_cross: np.ndarray

    @classmethod
    def of(
        cls, grams: NoiseGrams, basis: CosineBasis, guess: tuple[float, ...], *, device: torch.device
    ) -> WeightedTile:
        """Weigh by the noise at the uniform rates `guess`, um⁻², one per unknown map; a rough value is enough."""
        methylation, acetylation = (*guess, 0.0)[:2]
        weights = Weights.of(grams.residual_covariance(methylation, acetylation), device=device)
        tile, inverse, maps = grams.pairs.tile, weights.inverse(), len(guess)
        modes = basis.evaluate_at(tile.positions)
        expected = noise_gram(grams, modes, inverse, maps=maps), noise_cross(grams, modes, inverse, maps=maps)
        return cls(tile, weights, *expected)


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

    def add(self, equations: WeakEquations, tile: WeightedTile) -> None:
        """Add the equations of one tile, less what their noise is expected to add."""
        products = tile.weights.products(equations.columns, equations.right_side)
        self.gram += products[:-1, :-1] - tile.noise_gram
        self.cross += products[:-1, -1] - tile.noise_cross
        self.power += float(products[-1, -1])
        self.count += len(equations.right_side)

    def misfit_of(self, coefficients: np.ndarray) -> float:
        """Return τ² of a solution, its squared residual per equation; at least 1."""
        c = coefficients
        residual = self.power - 2 * self.cross @ c + c @ self.gram @ c
        return max(1.0, float(residual) / self.count)

    def without_negative(self, unit: np.ndarray) -> NormalEquations:
        """Return the equations without the directions in which less than the expected noise is left of AᵀC⁻¹A.

        They hold nothing but noise; what is left is positive semidefinite. Directions are orthogonal in units of
        `unit`, the size that coefficients have, so that what is missing in fine waves is not taken from long ones.
        """
        values, vectors = np.linalg.eigh(unit[:, None] * self.gram * unit)
        if values[0] > _ROUNDING * values[-1]:
            return self
        kept = vectors[:, values > 0.0] * np.sqrt(values[values > 0.0]) / unit[:, None]
        return NormalEquations(kept @ kept.T, self.cross, self.power, self.count)

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


def noise_gram(grams: NoiseGrams, modes: np.ndarray, inverse: np.ndarray, *, maps: int) -> np.ndarray:
    """Return E[δAᵀ C⁻¹ δA] for `maps` unknown rates."""
    if maps == 1:
        (sums,) = grams.weighted_sums(inverse, [grams.me_me])
        return np.asarray(modes.T @ (sums[:, None] * modes))
    both = [grams.me_me, grams.me_ac, grams.me_ac[::-1], grams.ac_ac]
    me_me, me_ac, ac_me, ac_ac = (
        modes.T @ (sums[:, None] * modes) for sums in grams.weighted_sums(inverse, both)
    )
    return np.block([[me_me, me_ac], [ac_me, ac_ac]])


def noise_cross(grams: NoiseGrams, modes: np.ndarray, inverse: np.ndarray, *, maps: int) -> np.ndarray:
    """Return E[δAᵀ C⁻¹ δb] for `maps` unknown rates."""
    sums = grams.weighted_sums(inverse, [grams.b_me, grams.b_ac][:maps])
    return np.concatenate([modes.T @ each for each in sums])
