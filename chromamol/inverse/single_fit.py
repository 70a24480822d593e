"""One weighted fit with test functions of one width, and what can be read off it.

Beside the weak equations one more holds for the nucleus as a whole, from ψ = 1 and no flux at the border:

    <Γ_me φ_e> = <Γ_ac φ_h>

It needs no derivative, so it survives blur; it is used with the error that a region cut out of a larger
pattern would have, because a microscope section is one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from chromamol.grid import Grid
from chromamol.inverse.basis import CosineBasis
from chromamol.inverse.lattice import TestLattice
from chromamol.inverse.normal_equations import NormalEquations, WeightedTile
from chromamol.inverse.positive_fit import PositiveFit, positive_fit
from chromamol.inverse.problem import RateProblem
from chromamol.inverse.rates import Outcome, RateMap
from chromamol.inverse.smooth_fit import fit_smooth, fit_uniform
from chromamol.inverse.weak_form import weak_equations
from chromamol.inverse.weak_noise import EquationNoise
from chromamol.shapes import FloatField, Mask

SHORTEST_LENGTH_PX = 12
"""Rate maps never vary faster than this correlation length; larger nuclei are bounded by the basis's size."""

MIN_MODES = 10
FUNCTIONS_PER_MODE = 3
"""No more modes per map than a third of the test functions: the rest would be the prior's alone."""

IDENTIFIED_AT = 2.0
"""A rate is more than noise when it, or its mean, is farther from zero than this many standard errors."""

_TYPICAL_LENGTH = 2.0
"""Of a rate map, in units of the shortest that the basis carries: says which waves the noise taken off may weigh."""

_SETTLED = 0.01
_PASSES = 3
"""Uniform rates explain a pattern of varied rates badly and come out several times too small: the scale of the
prior is renewed from the maps, and with it the misfit, until both change by less than `_SETTLED`. Measured, two rates:
.2, then within 2 % of 1, then unchanged."""


@dataclass(frozen=True, eq=False)
class RegressionFit:
    """A fit at one width, before it is judged.

    Parameters
    ----------
    half_width_um : half of the support of the test functions along each axis.
    lattice, basis : the equations and the unknowns.
    maps : 1 when acetylation is known, else 2.
    solution : the maps, `basis.size` coefficients each.
    beside : how far the mean and the pixels of each map are, root mean square, from a fit of the next width, um⁻²; part
        of every error of `rate_map`.
    """

    half_width_um: tuple[float, ...]
    lattice: TestLattice
    basis: CosineBasis
    maps: int
    solution: PositiveFit
    beside: tuple[tuple[float, float], ...] | None = None

    def mean_over(self, pixels: Mask) -> tuple[np.ndarray, np.ndarray]:
        """Return each map's mean over `pixels` and its standard error, um⁻²."""
        weights = self._averaging(pixels)
        means = weights @ self.solution.coefficients
        if self.solution.slopes is not None:  # bent maps hold finer waves than the basis
            means = np.array(
                [self.solution.rates(i, self._latent(i))[pixels].mean() for i in range(self.maps)]
            )
        variance = ((weights @ self.solution.covariance) * weights).sum(axis=1)
        return means, np.sqrt(variance)

    def rate_map(self, which: int) -> RateMap:
        """Return the map of methylation (0) or acetylation (1) with pointwise standard errors."""
        latent = self._latent(which)
        latent_error = self._error(which, self.solution.latent_covariance)
        mean, mean_se = self.mean_over(self.lattice.valid)
        of_mean, of_pixels = (0.0, 0.0) if self.beside is None else self.beside[which]
        return RateMap(
            self.solution.rates(which, latent),
            np.hypot(self.solution.error(which, latent, latent_error), of_pixels),
            self.lattice.valid, float(mean[which]), float(np.hypot(mean_se[which], of_mean)),
            free=self._free_mean(which),
        )  # fmt: skip

    def away_from(self, other: RegressionFit) -> tuple[tuple[float, float], ...]:
        """Return `beside` for another fit of the same pixels, where that is valid."""
        pixels = other.lattice.valid
        means = self.mean_over(pixels)[0] - other.mean_over(pixels)[0]
        away = []
        for which, mean in enumerate(means):
            mine, theirs = (f.solution.rates(which, f._latent(which))[pixels] for f in (self, other))
            away.append((abs(float(mean)), float(np.sqrt(np.mean((mine - theirs) ** 2)))))
        return tuple(away)

    @property
    def outcome(self) -> Outcome:
        """Whether there is a solution to judge."""
        return Outcome.NOT_JUDGED if self.solution.converged else Outcome.NOT_CONVERGED

    @property
    def flags(self) -> tuple[str, ...]:
        """`negative_rate` where the data alone would make a valid rate negative beyond its error."""
        return ("negative_rate",) if any(self._asks_for_negative(i) for i in range(self.maps)) else ()

    def _asks_for_negative(self, which: int) -> bool:
        linear = self.solution.linear
        values = self.basis.synthesise(linear.coefficients[self._part(which)])
        negative = self.lattice.valid & (values < 0.0)
        if not negative.any():
            return False
        return bool(np.any((values < -IDENTIFIED_AT * self._error(which, linear.covariance))[negative]))

    def _free_mean(self, which: int) -> tuple[float, float]:
        """Return the linear map's mean over the valid pixels and its standard error, um⁻²."""
        linear, weights = self.solution.linear, self._averaging(self.lattice.valid)[which]
        return float(weights @ linear.coefficients), float(np.sqrt(weights @ linear.covariance @ weights))

    def _averaging(self, pixels: Mask) -> np.ndarray:
        """Return what coefficients weigh in the mean of each map, (maps, maps M)."""
        average = self.basis.average(pixels.astype(float)) * (pixels.size / np.count_nonzero(pixels))
        return np.kron(np.eye(self.maps), average)

    def _part(self, which: int) -> slice:
        return slice(which * self.basis.size, (which + 1) * self.basis.size)

    def _latent(self, which: int) -> FloatField:
        return self.basis.synthesise(self.solution.latent[self._part(which)])

    def _error(self, which: int, covariance: np.ndarray) -> FloatField:
        variance = self.basis.variance(covariance[self._part(which), self._part(which)])
        return np.sqrt(np.maximum(variance, 0.0))  # rounding can leave -1e-16 where nothing is uncertain


def fit_on_lattice(
    problem: RateProblem,
    lattice: TestLattice,
    half_width_um: tuple[float, ...],
    *,
    guess: tuple[float, ...],
    device: torch.device,
    variants: tuple[RateProblem, ...] = (),
) -> tuple[RegressionFit, ...]:
    """Fit the unknown rates with the test functions of one lattice.

    `guess` holds one uniform rate per unknown map, um⁻², for the noise weights only. `variants` are the same
    nucleus with other fields, for instance after another split; they are fitted with the same weights, whose
    computation is most of the cost. Returns the fit of `problem` and those of the variants.
    """
    basis, noise = basis_of(lattice), EquationNoise.of(problem)
    tiles = (WeightedTile.of(noise.grams(tile), basis, guess, device=device) for tile in lattice.tiles())
    return fit_weighted((problem, *variants), tiles, lattice, basis, half_width_um)


def basis_of(lattice: TestLattice) -> CosineBasis:
    """Return the modes of one map that the equations of a lattice can tell."""
    return CosineBasis.smooth_to(
        lattice.grid,
        SHORTEST_LENGTH_PX * min(lattice.grid.spacing_um),
        at_most=max(MIN_MODES, lattice.count // FUNCTIONS_PER_MODE),
    )


def fit_weighted(
    problems: tuple[RateProblem, ...],
    tiles: Iterable[WeightedTile],
    lattice: TestLattice,
    basis: CosineBasis,
    half_width_um: tuple[float, ...],
    *,
    start: PositiveFit | None = None,
    prior: tuple[float, float] | None = None,
) -> tuple[RegressionFit, ...]:
    """Fit problems of one nucleus to equations weighted alike, from `start`, an earlier fit, or else from the first.

    They have the smoothness and amplitude `prior`, or those of highest evidence for the first.
    """
    if not problems:
        return ()
    maps = 1 if problems[0].known_acetylation is not None else 2
    normals = [NormalEquations.zeros(maps * basis.size) for _ in problems]
    for tile in tiles:
        for normal, problem in zip(normals, problems, strict=True):
            normal.add(weak_equations(problem, basis, tile.tile), tile)
    fits = []
    for normal, problem in zip(normals, problems, strict=True):
        balance = Balance.of(problem, basis, 0.5 * max(half_width_um))
        scales = None if start is None else start.scales
        solution = solve_smooth(normal, balance, basis, prior=prior, scales=scales)
        fits.append(RegressionFit(half_width_um, lattice, basis, maps, solution))
        start, prior = start or solution, prior or solution.prior
    return tuple(fits)


def solve_smooth(
    normal: NormalEquations,
    balance: Balance,
    basis: CosineBasis,
    *,
    prior: tuple[float, float] | None = None,
    scales: np.ndarray | None = None,
) -> PositiveFit:
    """Return smooth positive maps whose prior is scaled by their own means.

    `prior` is (ℓ, a) when known; `scales` holds the means of an earlier fit to start from, um⁻².
    """
    normal = normal.without_negative(typical_sizes(basis, len(normal.cross) // basis.size))
    means = np.flatnonzero(np.arange(len(normal.cross)) % basis.size == 0)
    if scales is None:
        uniform, uniform_se = fit_uniform(normal.select(means))
        scales = np.maximum(np.abs(uniform), uniform_se)
    misfit = 1.0
    near: tuple[float, float] | None = None
    for _ in range(_PASSES):
        equations = balance.added_to(normal, scales)
        solution = fit_smooth(equations, basis, scales, misfit=misfit, prior=prior, near=near)
        error = solution.errors_of(means)
        before = np.append(scales, misfit)
        scales = np.maximum(np.abs(solution.coefficients[means]), np.minimum(error, scales))
        misfit = solution.next_misfit
        # The same maps on the new scale.
        near = solution.length_um, solution.amplitude * float(np.mean(before[:-1] / scales))
        if np.allclose(np.append(scales, misfit), before, rtol=_SETTLED, atol=0.0):
            break
    return positive_fit(equations, basis, solution)


def typical_sizes(basis: CosineBasis, maps: int) -> np.ndarray:
    """Return how large the coefficients of maps are by comparison with their means, (maps M,)."""
    return np.tile(
        np.exp(-0.25 * (basis.wavenumbers * basis.shortest_length_um * _TYPICAL_LENGTH) ** 2), maps
    )


@dataclass(frozen=True, eq=False)
class Balance:
    """The equation   <Γ_me φ_e> - <Γ_ac φ_h> = 0   of the whole nucleus.

    Parameters
    ----------
    row_e, row_h : <B_k φ_e> and <B_k φ_h> over the nucleus, (M,).
    known_flow : <Γ_ac φ_h> in um⁻² when acetylation is known, else None.
    relative_error : that of a region cut out of a larger pattern.
    """

    row_e: np.ndarray
    row_h: np.ndarray
    known_flow: float | None
    relative_error: float

    @classmethod
    def of(cls, problem: RateProblem, basis: CosineBasis, scale_um: float) -> Balance:
        """Average over the nucleus; `scale_um` is the size of a patch that exchanges chromatin on its own."""
        pixels = np.count_nonzero(problem.mask)
        row_e, row_h = (
            basis.average(np.where(problem.mask, field.values, 0.0)) * (problem.mask.size / pixels)
            for field in (problem.phi_e, problem.phi_h)
        )
        flow = None
        if problem.known_acetylation is not None:
            flow = float((problem.known_acetylation * problem.phi_h.values)[problem.mask].mean())
        return cls(row_e, row_h, flow, relative_flux_error(problem.mask, problem.grid, scale_um))

    def added_to(self, normal: NormalEquations, scales: np.ndarray) -> NormalEquations:
        """Return `normal` with this equation, whose error is relative to the flow at rates of size `scales`."""
        if self.known_flow is not None:
            return normal.with_row(self.row_e, self.known_flow, self.relative_error * self.known_flow)
        flow = max(scales[0] * self.row_e[0], scales[1] * self.row_h[0])
        return normal.with_row(np.concatenate([self.row_e, -self.row_h]), 0.0, self.relative_error * flow)


def relative_flux_error(mask: Mask, grid: Grid, scale_um: float) -> float:
    """Return the relative error of the integral balance for a region cut out of a larger pattern.

    Patches of size λ along the border exchange chromatin with the outside, independently of each other, and
    each carries about what one patch of the interior converts: √N_border / N_interior. Measured on 2D
    patterns of 5 L0: 0.4 to 1.8 %; this gives 3 %. A whole nucleus has no flux at all.
    """
    spacing, ndim = grid.spacing_um, grid.ndim
    faces = 0.0
    for axis, h in enumerate(spacing):
        padded = np.pad(mask, [(int(i == axis),) * 2 for i in range(ndim)]).astype(np.int8)
        faces += np.abs(np.diff(padded, axis=axis)).sum() * grid.pixel_volume_um / h
    # Faces of pixels overestimate a smooth border by 4 / π in 2D and 3 / 2 in 3D.
    border = faces * {1: 1.0, 2: math.pi / 4, 3: 2 / 3}[ndim]
    interior = np.count_nonzero(mask) * grid.pixel_volume_um
    return float(math.sqrt(border / scale_um ** (ndim - 1)) / (interior / scale_um**ndim))


def outline_flux_error(mask: Mask, grid: Grid) -> float:
    """Return `relative_flux_error` at the scale of a sixteenth of the nucleus: for a border that may not be closed."""
    diameter = (np.count_nonzero(mask) * grid.pixel_volume_um) ** (1 / grid.ndim)
    return relative_flux_error(mask, grid, diameter / 16)
