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

import math
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from chromamol.inverse.basis import CosineBasis
from chromamol.inverse.lattice import (
    LatticeTile,
    bilaplacian_terms,
    identity_terms,
    laplacian_terms,
)
from chromamol.inverse.problem import RateProblem


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
    ndim = problem.grid.ndim
    phi_h = np.where(problem.mask, problem.phi_h.values, 0.0)[tile.window]
    phi_e = np.where(problem.mask, problem.phi_e.values, 0.0)[tile.window]
    diffusion = tile.integrate(problem.potential[tile.window], laplacian_terms(ndim))
    surface = tile.integrate(phi_h, bilaplacian_terms(ndim)) * problem.parameters.interface_length_um**2
    right_side = surface - diffusion
    if problem.known_acetylation is None:
        columns = tested_modes(np.stack([phi_e, -phi_h]), basis, tile)
    else:
        columns = tested_modes(phi_e[None], basis, tile)
        known = np.where(problem.mask, problem.known_acetylation, 0.0)[tile.window]
        right_side = right_side + tile.integrate(known * phi_h, identity_terms(ndim))
    return WeakEquations(columns, right_side)


def tested_modes(fields: np.ndarray, basis: CosineBasis, tile: LatticeTile) -> np.ndarray:
    """Return ∫ ψ_i B_k φ of every field φ on the window, (fields, ...), side by side: (n, fields M).

    Axis by axis, since ψ and B are products over the axes, and each function over its own box alone.
    """
    ndim, lattice = fields.ndim - 1, tile.lattice
    products = np.ascontiguousarray(fields)
    points: list[int] = []
    waves: list[int] = []
    for axis, pixels in enumerate(tile.window):
        taps, stride = lattice.taps[axis][0], lattice.strides[axis]
        boxes = sliding_window_view(basis.axis_cosines(axis)[:, pixels], len(taps), axis=1)[:, ::stride]
        kernels = (boxes * taps).swapaxes(0, 1)
        products = _over_boxes(products.reshape(-1, *fields.shape[axis + 1 :]), kernels, stride)
        points.insert(0, kernels.shape[0])
        waves.append(kernels.shape[1])
    by_axis = products.reshape(*points, len(fields), *waves)
    by_function = by_axis.transpose(*reversed(range(ndim)), *range(ndim, by_axis.ndim))[tile.inside]
    return by_function[(slice(None), slice(None), *basis.modes.T)].reshape(len(by_function), -1)


def _over_boxes(rows: np.ndarray, kernels: np.ndarray, stride: int) -> np.ndarray:
    """Contract (rows, pixels, ...) with a kernel of its own, (points, k, box), at every `stride` pixels.

    Returns (points, rows, k, ...).
    """
    box, step = kernels.shape[2], rows.strides[1]
    rest = math.prod(rows.shape[2:])
    shape, strides = (len(kernels), len(rows), box), (stride * step, rows.strides[0], step)
    if rest == 1:
        return np.asarray(as_strided(rows, shape, strides, writeable=False) @ kernels.swapaxes(1, 2))
    windows = as_strided(rows, (*shape, rest), (*strides, rows.itemsize), writeable=False)
    return np.asarray(kernels[:, None] @ windows)
