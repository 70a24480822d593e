"""Uniform rates and 1 / D that the fit of a film starts from. They weigh the noise, for which rough values do.

Rough, but not far too low: the weights then favour combinations of the equations that hold little but the noise of the
columns, and the fit that takes the expectation of this noise off runs away. From values a few times too high it finds
back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from chromamol.inverse.basis import CosineBasis
from chromamol.inverse.lattice import LatticeTile, TestLattice
from chromamol.inverse.moving_form import WindowedImages, balance_terms, moving_equations

Guess = tuple[float, float, float]
"""Uniform Γ_me / D, Γ_ac / D in um⁻² and 1 / D in s/um²."""

FUNCTIONS = 200
"""Test functions that three numbers are likely enough by: more cost more, and no guess is better than its model."""

TURNOVERS = (0.1, 1.0, 10.0)
"""Durations of the film over 1 / Γ_ac from which the likelihood is climbed; it can have more than one top."""

_LOG_RANGE = 15.0
_TINY = 1e-6


def rough_guess(images: Sequence[WindowedImages], lattice: TestLattice) -> Guess:
    """Return uniform rates and 1 / D by plain least squares: too low, since the columns hold noise.

    Measured at 5 % noise: rates 6 times, 1 / D 5 to 13 times for films of .2 to 2 L0² / D, a hundred and more for .05.
    Without any, the noise of the reaction terms would not count, and the weights would favour combinations of
    equations that hold nothing else.
    """
    gram, cross = np.zeros((3, 3)), np.zeros(3)
    for tile in lattice.tiles():
        for window in images:
            columns, right_side = balance_terms(window, _constant(lattice), tile)
            gram += columns.T @ columns
            cross += columns.T @ right_side
    guess = np.linalg.lstsq(gram, cross, rcond=1e-10)[0]
    methylation, acetylation, slowness = (max(0.0, float(v)) for v in guess)
    return methylation, acetylation, slowness


def likeliest_guess(images: Sequence[WindowedImages], lattice: TestLattice, duration_s: float) -> Guess:
    """Return the uniform rates and 1 / D under which the equations are likeliest, the noise of every column counted.

        -2 log L = Σ r' C⁻¹ r + log |C|,    r = A c - b,    C(c) its covariance

    Rates that vary misfit, which counts as noise: then 1 / D was up to 5 times too high.
    """
    tile = max(lattice.tiles(), key=lambda each: np.count_nonzero(each.inside))
    windows = [_Window.of(each, lattice, tile) for each in images]
    rates = np.maximum(rough_guess(images, lattice)[:2], _TINY)

    def cost(logs: np.ndarray) -> tuple[float, np.ndarray]:
        values = np.exp(logs)
        parts = [window.cost(values) for window in windows]
        return sum(value for value, _ in parts), values * sum(slope for _, slope in parts)

    found = []
    for turnover in TURNOVERS:
        start = np.log([*rates, rates[1] * duration_s / turnover])
        bounds = [(value - _LOG_RANGE, value + _LOG_RANGE) for value in start]
        found.append(minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds))
    methylation, acetylation, slowness = np.exp(min(found, key=lambda each: each.fun).x)
    return float(methylation), float(acetylation), float(slowness)


@dataclass(frozen=True, eq=False)
class _Window:
    """Equations A c = b of uniform rates in one window, and the covariance of their residual.

    Parameters
    ----------
    columns, right_side : A, (n, 3), and b, (n,).
    squares : covariances of the noise of each column, 3 times (n, n).
    crosses : of the noise of b and the columns of the rates, negative, and of both columns, 3 times (n, n).
    constant : of the noise of b.
    """

    columns: np.ndarray
    right_side: np.ndarray
    constant: np.ndarray
    squares: tuple[np.ndarray, np.ndarray, np.ndarray]
    crosses: tuple[np.ndarray, np.ndarray, np.ndarray]

    @classmethod
    def of(cls, images: WindowedImages, lattice: TestLattice, tile: LatticeTile) -> _Window:
        equations = moving_equations(images, _constant(lattice), tile)
        count = len(equations.balance.right_side)
        some = np.unique(np.linspace(0, count - 1, min(count, FUNCTIONS)).round().astype(int))
        grams, pick = equations.grams, np.ix_(some, some)

        def at_some(blocks: np.ndarray) -> np.ndarray:
            return np.asarray(grams.pairs.matrix(blocks)[pick])

        return cls(
            equations.balance.columns[some], equations.balance.right_side[some], at_some(grams.b_b),
            (at_some(grams.me_me), at_some(grams.ac_ac), equations.motion_noise[pick]),
            (at_some(-grams.b_me.sum(axis=0)), at_some(-grams.b_ac.sum(axis=0)), at_some(grams.me_ac.sum(axis=0))),
        )  # fmt: skip

    def cost(self, values: np.ndarray) -> tuple[float, np.ndarray]:
        """Return -2 log L, and its derivatives, at c = (Γ_me / D, Γ_ac / D, 1 / D)."""
        me, ac, slowness = values
        (b_me, b_ac, me_ac), (me_me, ac_ac, motion) = self.crosses, self.squares
        covariance = (
            self.constant + me**2 * me_me + ac**2 * ac_ac + slowness**2 * motion
            + me * b_me + ac * b_ac + me * ac * me_ac
        )  # fmt: skip
        changes = (
            2.0 * me * me_me + b_me + ac * me_ac,
            2.0 * ac * ac_ac + b_ac + me * me_ac,
            2.0 * slowness * motion,
        )
        factor = cho_factor(covariance, lower=True)
        inverse = cho_solve(factor, np.eye(len(covariance)))
        residual = self.columns @ values - self.right_side
        weighted = inverse @ residual
        value = residual @ weighted + 2.0 * np.log(np.diag(factor[0])).sum()
        slopes = [np.sum(inverse * change) - weighted @ change @ weighted for change in changes]
        return float(value), 2.0 * self.columns.T @ weighted + slopes


def _constant(lattice: TestLattice) -> CosineBasis:
    return CosineBasis(lattice.grid, np.zeros((1, lattice.grid.ndim), dtype=int))
