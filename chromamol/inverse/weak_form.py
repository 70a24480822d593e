"""The steady balance tested against a lattice of mollifiers: linear equations for the rates.

Multiply   Δμ_h + Γ_me φ_e - Γ_ac φ_h = 0   by a compact test function ψ_i inside the nucleus and move every
derivative onto it:

    ∫ [ f(φ_h) Δψ_i - ℓ² φ_h ΔΔψ_i + (Γ_me φ_e - Γ_ac φ_h) ψ_i ] = 0

No noisy field is ever differentiated and no boundary condition is needed. With Γ in a basis this is linear,
A_me c_me - A_ac c_ac = b. Noise n in the fields makes the equations wrong by

    e_i = ∫ [ (f'(φ_h) Δψ_i - ℓ² ΔΔψ_i - Γ_ac ψ_i) n_h + Γ_me ψ_i n_e ],

which neighbours share; `weak_noise` has its covariance, so that the equations can be weighted. Functions are
handled in tiles, so memory is bounded by the tile and not by the nucleus.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chromamol.inverse.basis import CosineBasis
from chromamol.inverse.lattice import (
    LatticeTile,
    bilaplacian_terms,
    contract,
    identity_terms,
    laplacian_terms,
)
from chromamol.inverse.problem import RateProblem
from chromamol.physics.free_energy import bulk_curvature, bulk_potential
from chromamol.shapes import FloatField


@dataclass(frozen=True, eq=False)
class WeakEquations:
    """A c = b for the n functions of one tile, c = (c_me, c_ac) with M modes per unknown rate.

    Parameters
    ----------
    columns : A, (n, M) when acetylation is known, else (n, 2 M); dimensionless.
    right_side : b, (n,), um⁻².
    """

    columns: np.ndarray
    right_side: np.ndarray


def weak_equations(problem: RateProblem, basis: CosineBasis, tile: LatticeTile) -> WeakEquations:
    """Write down the weak balance of one tile."""
    ndim, phi_max = problem.grid.ndim, problem.parameters.phi_max
    phi_h = np.where(problem.mask, problem.phi_h.values, 0.0)[tile.window]
    phi_e = np.where(problem.mask, problem.phi_e.values, 0.0)[tile.window]
    # E f(φ + n) = f(φ) + ½ f''(φ) σ²: f is cubic, and without this the noise would bias the rates.
    noise_bias = 0.5 * problem.noise_variance_h()[tile.window] * bulk_curvature(phi_h, phi_max)
    diffusion = tile.integrate(bulk_potential(phi_h, phi_max) - noise_bias, laplacian_terms(ndim))
    surface = tile.integrate(phi_h, bilaplacian_terms(ndim)) * problem.parameters.interface_length_um**2
    right_side = surface - diffusion
    columns = [tested_modes(phi_e, basis, tile)]
    if problem.known_acetylation is None:
        columns.append(-tested_modes(phi_h, basis, tile))
    else:
        known = np.where(problem.mask, problem.known_acetylation, 0.0)[tile.window]
        right_side = right_side + tile.integrate(known * phi_h, identity_terms(ndim))
    return WeakEquations(np.concatenate(columns, axis=1), right_side)


def tested_modes(field: FloatField, basis: CosineBasis, tile: LatticeTile) -> np.ndarray:
    """Return ∫ ψ_i B_k φ, (n, M), axis by axis: ψ and B are products over the axes."""
    ndim = field.ndim
    matrices, split = [], []
    for axis, pixels in enumerate(tile.window):
        tests, cosines = tile.axis_matrices(axis)[0], basis.axis_cosines(axis)[:, pixels]
        matrices.append((tests[:, None, :] * cosines[None]).reshape(-1, tests.shape[1]))
        split += [len(tests), len(cosines)]
    products = contract(field, matrices).reshape(split)
    by_function = products.transpose(*range(0, 2 * ndim, 2), *range(1, 2 * ndim, 2))[tile.inside]
    return by_function[(slice(None), *basis.modes.T)]
