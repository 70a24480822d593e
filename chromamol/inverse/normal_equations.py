"""The weighted normal equations of the weak form, summed tile by tile.

Equations A c = b with error covariance C enter as AᵀC⁻¹A and AᵀC⁻¹b. The noise that A shares with itself and with b
would bias the solution (errors in variables); its expectation is subtracted, with modes taken as constant over a
support.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import linalg

from chromamol.inverse.basis import CosineBasis
from chromamol.inverse.lattice import LatticeTile
from chromamol.inverse.weak_form import WeakEquations
from chromamol.inverse.weak_noise import NoiseGrams
from chromamol.inverse.weights import Weights, weights_of

_ROUNDING = 1e-12
"""Eigenvalues below this share of the largest may be negative by rounding."""


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
        covariance = grams.residual_covariance(methylation, acetylation)
        weights = weights_of(covariance, device=device, blocks=grams.pairs.blocks())
        modes = basis.evaluate_at(grams.pairs.tile.positions)
        expected = expected_of_noise(grams, modes, weights.inverse(), maps=len(guess))
        return cls(grams.pairs.tile, weights, *expected)


@dataclass(eq=False)
class TakenOff:
    """What was taken off the normal equations as the expected noise of A."""

    gram: np.ndarray
    cross: np.ndarray
    power: float = 0.0

    @classmethod
    def zeros(cls, size: int) -> TakenOff:
        return cls(np.zeros((size, size)), np.zeros(size))


@dataclass(eq=False)
class NormalEquations:
    """AᵀC⁻¹A, AᵀC⁻¹b, bᵀC⁻¹b and the number of equations, summed over tiles.

    `taken_off` is kept for a film alone, whose misfit needs it (see `misfit_of`).
    """

    gram: np.ndarray
    cross: np.ndarray
    power: float
    count: int
    taken_off: TakenOff | None = None

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

    def misfit_of(self, coefficients: np.ndarray, *, fitted: Callable[[], float]) -> float:
        """Return τ² of a solution that fits as many degrees of freedom as `fitted` returns; at least 1.

        For a snapshot it is the squared residual per equation, less the noise that A is expected to add. For a film,

            τ² = rᵀC⁻¹r / (n - fitted),     r = A c - b with the noise of A left in, which C counts,

        since a perfect fit of its maps, of many more modes, would leave .5 to .8 by the former and a τ² up to 1.5 would
        not show.
        """
        c = coefficients
        residual = float(self.power - 2 * self.cross @ c + c @ self.gram @ c)
        if self.taken_off is None:
            return max(1.0, residual / self.count)
        off = self.taken_off
        residual += float(off.power - 2 * off.cross @ c + c @ off.gram @ c)
        return max(1.0, residual / max(self.count - fitted(), 1.0))

    def without_negative(self, unit: np.ndarray) -> NormalEquations:
        """Return the equations without the directions in which less than the expected noise is left of AᵀC⁻¹A.

        They hold nothing but noise. Directions are orthogonal in units of `unit`, the size that coefficients have, so
        that what is missing in fine waves is not taken from long ones. What is left is put together from its own
        directions: taking the negative ones off would leave rounding, and a matrix that is not positive semidefinite.
        """
        values, vectors = linalg.eigh(unit[:, None] * self.gram * unit, driver="evd", check_finite=False)
        if values[0] > _ROUNDING * values[-1]:
            return self
        kept = vectors[:, values > 0.0] * np.sqrt(values[values > 0.0]) / unit[:, None]
        gram = kept @ kept.T
        off = self.taken_off
        if off is not None:
            off = replace(off, gram=off.gram + self.gram - gram)
        return NormalEquations(gram, self.cross, self.power, self.count, off)

    def with_row(self, row: np.ndarray, value: float, sd: float) -> NormalEquations:
        """Return the equations and one more, independent of them: row · c = value ± sd."""
        return NormalEquations(
            self.gram + np.outer(row, row) / sd**2,
            self.cross + row * value / sd**2,
            self.power + value**2 / sd**2,
            self.count + 1,
            self.taken_off,
        )

    def select(self, columns: np.ndarray) -> NormalEquations:
        """Return the equations with every other unknown fixed at zero."""
        return NormalEquations(
            self.gram[np.ix_(columns, columns)], self.cross[columns], self.power, self.count
        )


def expected_of_noise(
    grams: NoiseGrams, modes: np.ndarray, inverse: np.ndarray, *, maps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return E[δAᵀ C⁻¹ δA] and E[δAᵀ C⁻¹ δb] for `maps` unknown rates, from the lower triangle of C⁻¹."""
    blocks = {(0, 0): grams.me_me, (0,): grams.b_me}
    if maps == 2:
        blocks |= {(0, 1): grams.me_ac, (1, 0): grams.me_ac[::-1], (1, 1): grams.ac_ac, (1,): grams.b_ac}
    shared = {place: block for place, block in blocks.items() if block.any()}  # two channels share no noise
    size = modes.shape[1]
    gram, cross = np.zeros((maps, size, maps, size)), np.zeros((maps, size))
    for place, sums in zip(shared, grams.weighted_sums(inverse, list(shared.values())), strict=True):
        if len(place) == 1:
            cross[place[0]] = modes.T @ sums
        else:
            gram[place[0], :, place[1]] = modes.T @ (sums[:, None] * modes)
    return gram.reshape(maps * size, maps * size), cross.ravel()
