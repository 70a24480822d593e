"""One weighted fit of D and both rate maps to the frames of a time-lapse, and the choice of its width.

1 / D has no prior and is eliminated: what is left are the equations of a snapshot, whose smooth maps the evidence
chooses as ever (`smooth_fit`). Where the frames show no motion beyond their noise its column is left out, and
the frames are one long exposure of a pattern at rest. Where they do, 1 / D must stand out of its error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from chromamol.inverse.basis import CosineBasis
from chromamol.inverse.lattice import TestLattice
from chromamol.inverse.moving_form import (
    MovingEquations,
    MovingProblem,
    WindowedImages,
    moving_equations,
    windowed_images,
)
from chromamol.inverse.moving_start import Guess, likeliest_guess, rough_guess
from chromamol.inverse.normal_equations import NormalEquations, TakenOff, expected_of_noise
from chromamol.inverse.positive_fit import PositiveFit
from chromamol.inverse.rates import RateMap
from chromamol.inverse.single_fit import (
    FUNCTIONS_PER_MODE,
    IDENTIFIED_AT,
    MIN_MODES,
    SHORTEST_LENGTH_PX,
    Balance,
    RegressionFit,
    solve_smooth,
)
from chromamol.inverse.weights import mirrored, weights_of
from chromamol.inverse.width import candidates, central_window

MOTION_AT = 4.0
"""Standard deviations by which the power of the motion must exceed that of its noise, or <φ_h> change."""

AGREE_WITHIN = 1.5
"""Sums of standard errors by which fits of two widths may differ. Within one sum, noise alone left two of 18 fits at
their widest, the worst there is; that narrow fits are wrong shows in their misfit before (`_explains`)."""

_STARTING_FITS = 2
"""Plain least squares start far below the truth; each fit with the last one's noise comes closer."""

_RUNAWAY = 10.0
"""Factor by which 1 / D may change from one such fit to the next: it was up to 2 where they come to rest, and thousands
where they run away."""


@dataclass(frozen=True, eq=False)
class MovingFit:
    """A fit at one width.

    Parameters
    ----------
    maps : Γ_me / D and Γ_ac / D.
    slowness, slowness_se : 1 / D and its standard error, s/um²; NaN where nothing moves.
    shared : covariance of 1 / D with the coefficients of the maps, s/um⁴; zeros where nothing moves.
    """

    maps: RegressionFit
    slowness: float
    slowness_se: float
    shared: np.ndarray

    @property
    def moves(self) -> bool:
        return math.isfinite(self.slowness)

    @property
    def leads(self) -> bool:
        """Whether the next fit may take its weights from here; with rough ones its own misfit may be large."""
        return self.maps.solution.converged and not self.slowness <= 0.0

    @property
    def resolves(self) -> bool:
        """Whether 1 / D stands out of its error."""
        return self.maps.solution.converged and self.slowness > IDENTIFIED_AT * self.slowness_se

    @property
    def holds(self) -> bool:
        """Whether the frames show no motion, or tell how fast it is."""
        return self.resolves or not self.moves

    def rate_map_per_s(self, which: int) -> RateMap:
        """Return Γ_me (0) or Γ_ac (1) in 1/s: the map over D, times D, with the errors that the two share."""
        over_d = self.maps.rate_map(which)
        basis = self.maps.basis
        shared = self.shared[which * basis.size : (which + 1) * basis.size]
        values = over_d.values / self.slowness
        along = basis.synthesise(shared)
        error = self._quotient_error(over_d.values, over_d.standard_error, along)
        average = float(along[over_d.valid].mean())
        mean_se = float(self._quotient_error(over_d.mean, over_d.mean_se, average))
        return RateMap(values, error, over_d.valid, over_d.mean / self.slowness, mean_se)

    def _quotient_error(self, rate: Any, error: Any, shared: Any) -> Any:
        """Return the standard error of rate / slowness, to first order."""
        value = rate / self.slowness
        variance = error**2 + (value * self.slowness_se) ** 2 - 2.0 * value * shared
        return np.sqrt(np.maximum(variance, 0.0)) / self.slowness


@dataclass(eq=False)
class _Motion:
    """The column of 1 / D in the normal equations.

    Parameters
    ----------
    cross : with the maps' columns, (2 M,).
    power, noise : with itself, its expected noise taken off; and that noise.
    noise_variance : of the power of noise alone.
    right : with the right side.
    taken_off : of the maps' own columns.
    """

    cross: np.ndarray
    taken_off: TakenOff
    power: float = 0.0
    noise: float = 0.0
    noise_variance: float = 0.0
    right: float = 0.0

    @classmethod
    def zeros(cls, size: int) -> _Motion:
        return cls(np.zeros(size), TakenOff.zeros(size))

    @property
    def is_seen(self) -> bool:
        return self.power > MOTION_AT * math.sqrt(self.noise_variance)


@dataclass(frozen=True, eq=False)
class ChosenWidth:
    """A width, and what weighs the equations: enough to fit any frames of one nucleus.

    Parameters
    ----------
    half_width_um : of the test functions.
    lattice : where they stand.
    guess : of uniform rates and 1 / D.
    device : that fits run on.
    settled : False where every width sees motion, and none tells how fast: a fit then says nothing.
    """

    half_width_um: tuple[float, ...]
    lattice: TestLattice
    guess: Guess
    device: torch.device
    settled: bool

    def fit(self, problem: MovingProblem) -> MovingFit:
        """Fit D and both maps to frames on the lattice's grid."""
        images = windowed_images(problem)
        return fit_on_lattice(
            problem, images, self.lattice, self.half_width_um, guess=self.guess, device=self.device
        )


def choose_width(problem: MovingProblem, *, device: torch.device) -> ChosenWidth | None:
    """Return the narrowest width whose fit agrees with every wider one and explains the frames as well as it.

    Widths whose fits see motion and don't resolve it are passed over, and with them wider ones that see none. None when
    no width is possible.
    """
    trial = problem.crop(central_window(problem.average()))
    images = windowed_images(trial)
    accepted: list[MovingFit] = []
    start: Guess | None = None
    width: tuple[float, ...] = ()
    for width, lattice in candidates(trial.average()):
        fit_with = partial(fit_on_lattice, trial, images, lattice, width, device=device)
        if accepted:
            fit = fit_with(guess=_positive_means(accepted[-1]))
            if _follows(fit, accepted, windows=len(images)):
                accepted.append(fit)
                continue
            if accepted[-1].moves or not fit.moves:
                break
            accepted.clear()
        found = None if start is not None else _renewed(fit_with, rough_guess(images, lattice))
        if found is None:
            start = start or likeliest_guess(images, lattice, trial.duration_s)
            found = _renewed(fit_with, start)
        if found is not None:
            accepted.append(found)
    if accepted:
        width, start = accepted[-1].maps.half_width_um, _positive_means(accepted[-1])
    if start is None:
        return None
    lattice = TestLattice.inside_mask(problem.grid, problem.mask, width)
    return ChosenWidth(width, lattice, start, device, settled=bool(accepted))


def _renewed(fit_with: Callable[..., MovingFit], guess: Guess) -> MovingFit | None:
    """Fit, and fit again with the weights of what was found; None where that runs away or tells no 1 / D."""
    fits: list[MovingFit] = []
    for _ in range(_STARTING_FITS + 1):
        fits.append(fit_with(guess=guess))
        if not fits[-1].leads or not _near(*fits[-2:]):
            return None
        guess = _positive_means(fits[-1])
    return fits[-1] if fits[-1].holds else None


def _near(fit: MovingFit, following: MovingFit | None = None) -> bool:
    """Whether the 1 / D of a fit is that of the one that followed, by order of magnitude."""
    if following is None or not (fit.moves and following.moves):
        return True
    return 1.0 / _RUNAWAY < following.slowness / fit.slowness < _RUNAWAY


def fit_on_lattice(
    problem: MovingProblem, images: list[WindowedImages], lattice: TestLattice, half_width_um: tuple[float, ...],
    *, guess: Guess, device: torch.device,
) -> MovingFit:  # fmt: skip
    """Fit D and both maps with the test functions of one lattice."""
    basis = CosineBasis.smooth_to(
        problem.grid, SHORTEST_LENGTH_PX * min(problem.grid.spacing_um),
        at_most=max(MIN_MODES, lattice.count * len(images) // FUNCTIONS_PER_MODE),
    )  # fmt: skip
    normal, motion = NormalEquations.zeros(2 * basis.size), _Motion.zeros(2 * basis.size)
    for tile in lattice.tiles():
        for window in images:
            _add(normal, motion, moving_equations(window, basis, tile), guess, device=device)
    balance = Balance.of(problem.average(), basis, 0.5 * max(half_width_um))
    if not (motion.is_seen or (motion.power > 0.0 and drifts(problem))):
        solution = _solved(normal, motion.taken_off, balance, basis)
        maps = RegressionFit(half_width_um, lattice, basis, 2, solution)
        return MovingFit(maps, math.nan, math.nan, np.zeros(2 * basis.size))
    solution = _solved(*_without_motion(normal, motion), balance, basis)
    along = solution.covariance @ motion.cross
    slowness = (motion.right - motion.cross @ solution.coefficients) / motion.power
    variance = solution.misfit / motion.power + motion.cross @ along / motion.power**2
    # As for the maps: what was taken off as expected noise has a scatter of its own.
    variance += variance**2 * motion.noise
    maps = RegressionFit(half_width_um, lattice, basis, 2, solution)
    return MovingFit(maps, float(slowness), float(math.sqrt(variance)), -along / motion.power)


def drifts(problem: MovingProblem) -> bool:
    """Whether <φ_h> changes beyond its noise: that shows before the motion of single places does."""
    return abs(problem.drift()) > MOTION_AT


def _add(
    normal: NormalEquations,
    motion: _Motion,
    equations: MovingEquations,
    guess: Guess,
    *,
    device: torch.device,
) -> None:
    """Add one tile in one window, weighted by the inverse covariance of its noise."""
    methylation, acetylation, slowness = guess
    balance, grams, modes = equations.balance, equations.grams, equations.modes
    covariance = grams.residual_covariance(methylation, acetylation)
    weights = weights_of(covariance + slowness**2 * equations.motion_noise, device=device)
    products, inverse = weights.products(balance.columns, balance.right_side), weights.inverse()
    maps = slice(0, balance.columns.shape[1] - 1)
    expected, expected_cross = expected_of_noise(grams, modes, inverse, maps=2)
    normal.gram += products[maps, maps] - expected
    motion.taken_off.gram += expected
    motion.taken_off.cross += expected_cross
    normal.cross += products[maps, -1] - expected_cross
    normal.power += float(products[-1, -1])
    normal.count += len(balance.right_side)
    shared = mirrored(inverse) @ equations.motion_noise
    noise = float(np.trace(shared))
    motion.cross += products[maps, -2]
    motion.power += float(products[-2, -2]) - noise
    motion.right += float(products[-2, -1])
    motion.noise += noise
    motion.noise_variance += 2.0 * float(np.sum(shared * shared.T))


def _without_motion(normal: NormalEquations, motion: _Motion) -> tuple[NormalEquations, TakenOff]:
    """Return the equations for the maps alone, at the 1 / D that fits best, (right - cross · c) / power.

    What was taken off the power is taken off these, at that 1 / D.
    """
    cross, right, off = motion.cross / motion.power, motion.right / motion.power, motion.taken_off
    equations = NormalEquations(
        normal.gram - np.outer(motion.cross, cross),
        normal.cross - motion.cross * right,
        normal.power - motion.right * right,
        normal.count - 1,
    )
    return equations, TakenOff(
        off.gram + np.outer(cross, cross) * motion.noise,
        off.cross + cross * (right * motion.noise),
        right**2 * motion.noise,
    )


def _solved(
    normal: NormalEquations, taken_off: TakenOff, balance: Balance, basis: CosineBasis
) -> PositiveFit:
    """Return the maps, their misfit per degree of freedom, their errors with the scatter of what was taken off."""
    equations = replace(normal, taken_off=taken_off)
    return solve_smooth(equations, balance, basis).with_scatter_of(taken_off.gram)


def _follows(fit: MovingFit, accepted: list[MovingFit], *, windows: int) -> bool:
    """Whether a fit may stand for wider ones."""
    agrees = fit.holds and all(_agree(fit, wider, on=accepted[0]) for wider in accepted)
    return agrees and _explains(fit, accepted[-1], windows=windows)


def _agree(fit: MovingFit, wider: MovingFit, *, on: MovingFit) -> bool:
    """Whether two fits give the same mean rates where the fit `on` is valid, and the same D."""
    pixels = on.maps.lattice.valid
    (mean, error), (other, other_error) = (f.maps.mean_over(pixels) for f in (fit, wider))
    if not np.all(np.abs(mean - other) <= AGREE_WITHIN * (error + other_error)):
        return False
    if not (fit.moves and wider.moves):
        return True
    return abs(fit.slowness - wider.slowness) <= AGREE_WITHIN * (fit.slowness_se + wider.slowness_se)


def _explains(fit: MovingFit, wider: MovingFit, *, windows: int) -> bool:
    """Whether the misfit per equation is no larger than that of a wider fit, within twice its own scatter.

    Frames average noise, so that the aliasing of the interfaces at narrow widths shows: it raises the misfit, with it
    the standard errors, and so lets means agree that are not the same.
    """
    scatter = math.sqrt(2.0 / (fit.maps.lattice.count * windows))
    return fit.maps.solution.misfit <= wider.maps.solution.misfit * (1.0 + 2.0 * scatter)


def _positive_means(fit: MovingFit) -> Guess:
    mean, _ = fit.maps.mean_over(fit.maps.lattice.valid)
    slowness = fit.slowness if fit.moves else 0.0
    methylation, acetylation, slowness = (max(0.0, float(v)) for v in (*mean, slowness))
    return methylation, acetylation, slowness
