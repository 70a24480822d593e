"""One weighted fit with test functions of one width, and what can be read off it.

Beside the weak equations one more holds for the nucleus as a whole, from ψ = 1 and no flux at the border:

    <Γ_me φ_e> = <Γ_ac φ_h>

It needs no derivative, so it survives blur; it is used with the error that a region cut out of a larger
pattern would have, because a microscope section is one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from chromamol.inverse.basis import CosineBasis
from chromamol.inverse.lattice import TestLattice
from chromamol.inverse.problem import RateProblem
from chromamol.inverse.rates import RateMap
from chromamol.inverse.smooth_fit import NormalEquations, SmoothFit, fit_smooth, fit_uniform
from chromamol.inverse.weak_form import weak_equations
from chromamol.inverse.weak_noise import noise_grams
from chromamol.shapes import Mask

SHORTEST_LENGTH_PX = 12
"""Rate maps never vary faster than this correlation length; larger nuclei are bounded by the basis's size."""

_SCALE_PASSES = 3
"""Uniform rates explain a pattern of varied rates badly and come out several times too small: the scale of
the prior is renewed from the maps. Measured, two rates: .2, then within 2 % of 1, then unchanged."""

_ROWS_PER_CHUNK = 64


@dataclass(frozen=True, eq=False)
class RegressionFit:
    """A fit at one width, before it is judged.

    Parameters
    ----------
    half_width_um : half of the support of the test functions along each axis.
    lattice, basis : the equations and the unknowns.
    maps : 1 when acetylation is known, else 2.
    solution : coefficients of the maps, `basis.size` each.
    """

    half_width_um: tuple[float, ...]
    lattice: TestLattice
    basis: CosineBasis
    maps: int
    solution: SmoothFit

    def mean_over(self, pixels: Mask) -> tuple[np.ndarray, np.ndarray]:
        """Return each map's mean over `pixels` and its standard error, um⁻²."""
        average = np.zeros(self.basis.size)
        for rows, modes in _chunks(self.basis):
            average += modes.reshape(len(modes), -1) @ pixels[rows].ravel().astype(float)
        average /= np.count_nonzero(pixels)
        weights = np.kron(np.eye(self.maps), average)
        variance = np.einsum("ip,pq,iq->i", weights, self.solution.covariance, weights)
        return weights @ self.solution.coefficients, np.sqrt(variance)

    def rate_map(self, which: int) -> RateMap:
        """Return the map of methylation (0) or acetylation (1) with pointwise standard errors."""
        part = slice(which * self.basis.size, (which + 1) * self.basis.size)
        root = np.linalg.cholesky(_symmetric(self.solution.covariance[part, part]))
        values = np.empty(self.basis.grid.shape)
        error = np.empty(self.basis.grid.shape)
        for rows, modes in _chunks(self.basis):
            values[rows] = np.tensordot(self.solution.coefficients[part], modes, axes=1)
            error[rows] = np.sqrt(np.einsum("k...,k...->...", *(2 * [np.tensordot(root.T, modes, axes=1)])))
        mean, mean_se = self.mean_over(self.lattice.valid)
        return RateMap(values, error, self.lattice.valid, float(mean[which]), float(mean_se[which]))


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
    basis = CosineBasis.smooth_to(problem.grid, SHORTEST_LENGTH_PX * min(problem.grid.spacing_um))
    problems = (problem, *variants)
    maps = 1 if problem.known_acetylation is not None else 2
    normals = [NormalEquations.zeros(maps * basis.size) for _ in problems]
    for tile in lattice.tiles():
        grams = noise_grams(problem, tile)
        for normal, variant in zip(normals, problems, strict=True):
            normal.add(weak_equations(variant, basis, tile, grams), guess, device=device)
    return tuple(
        RegressionFit(
            half_width_um, lattice, basis, maps, _solve(normal, variant, basis, 0.5 * max(half_width_um))
        )
        for normal, variant in zip(normals, problems, strict=True)
    )


def _solve(normal: NormalEquations, problem: RateProblem, basis: CosineBasis, scale_um: float) -> SmoothFit:
    """Return smooth maps whose prior is scaled by their own means."""
    means = np.flatnonzero(np.arange(len(normal.cross)) % basis.size == 0)
    uniform, uniform_se = fit_uniform(normal.select(means))
    scales = np.maximum(np.abs(uniform), uniform_se)
    for _ in range(_SCALE_PASSES):
        balanced = _with_balance(normal, problem, basis, scales, scale_um=scale_um)
        solution = fit_smooth(balanced, basis, scales)
        error = np.sqrt(np.diag(solution.covariance)[means])
        scales = np.maximum(np.abs(solution.coefficients[means]), np.minimum(error, scales))
    return solution


def _with_balance(
    normal: NormalEquations, problem: RateProblem, basis: CosineBasis, scales: np.ndarray, *, scale_um: float
) -> NormalEquations:
    """Return `normal` with   <Γ_me φ_e> - <Γ_ac φ_h> = 0   at the error of a region cut out of a pattern."""
    row_e, row_h = np.zeros(basis.size), np.zeros(basis.size)
    for rows, modes in _chunks(basis):
        flat = modes.reshape(len(modes), -1)
        row_e += flat @ np.where(problem.mask, problem.phi_e.values, 0.0)[rows].ravel()
        row_h += flat @ np.where(problem.mask, problem.phi_h.values, 0.0)[rows].ravel()
    pixels = np.count_nonzero(problem.mask)
    row_e, row_h = row_e / pixels, row_h / pixels
    error = relative_flux_error(problem, scale_um)
    if problem.known_acetylation is None:
        flow = max(scales[0] * row_e[0], scales[1] * row_h[0])
        return normal.with_row(np.concatenate([row_e, -row_h]), 0.0, error * flow)
    flow = float((problem.known_acetylation * problem.phi_h.values)[problem.mask].mean())
    return normal.with_row(row_e, flow, error * flow)


def relative_flux_error(problem: RateProblem, scale_um: float) -> float:
    """Return the relative error of the integral balance for a region cut out of a larger pattern.

    Patches of size λ along the border exchange chromatin with the outside, independently of each other, and
    each carries about what one patch of the interior converts: √N_border / N_interior. Measured on 2D
    patterns of 5 L0: 0.4 to 1.8 %; this gives 3 %. A whole nucleus has no flux at all.
    """
    spacing, ndim = problem.grid.spacing_um, problem.grid.ndim
    faces = 0.0
    for axis, h in enumerate(spacing):
        padded = np.pad(problem.mask, [(int(i == axis),) * 2 for i in range(ndim)]).astype(np.int8)
        faces += np.abs(np.diff(padded, axis=axis)).sum() * problem.grid.pixel_volume_um / h
    # Faces of pixels overestimate a smooth border by 4 / π in 2D and 3 / 2 in 3D.
    border = faces * {1: 1.0, 2: math.pi / 4, 3: 2 / 3}[ndim]
    interior = np.count_nonzero(problem.mask) * problem.grid.pixel_volume_um
    return float(math.sqrt(border / scale_um ** (ndim - 1)) / (interior / scale_um**ndim))


def _chunks(basis: CosineBasis) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (rows, modes at those rows): all modes at all pixels would not fit into memory."""
    for start in range(0, basis.grid.shape[0], _ROWS_PER_CHUNK):
        rows = slice(start, min(start + _ROWS_PER_CHUNK, basis.grid.shape[0]))
        yield rows, basis.evaluate_rows(rows)


def _symmetric(matrix: np.ndarray) -> np.ndarray:
    return 0.5 * (matrix + matrix.T)
