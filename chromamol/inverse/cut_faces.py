"""What the edge of the image does to the ratio of a nucleus that it cuts: chromatin turns over through the cut.

A domain is fed by its surroundings, so the balance closes over a domain and what feeds it, and a cut through them
leaves it open. How large they are the pattern shows: its correlation length ξ, the first zero of the autocorrelation
of φ_h. Patches of size λ = .48 ξ of a cut of area A exchange chromatin independently, each about what a patch of the
interior converts, so that the ratio of a region of volume V is off by √(λ^(n+1) A) / V in n dimensions. Where the
region is thinner than a domain, what goes in through one face goes out of the other: below V / A = .31 ξ the error
grows no more, and a single plane scatters by .52 ξ / √area.

Both numbers are from periodic patterns, five in 2D (box 7.7 L0, Γ_me / Γ_ac .5 to 1.4) and three in 3D (3 L0, .65 to
1), cut to squares, cubes, strips, columns and slabs. They are the same in both: λ / ξ is .3 to .65, planes scatter by
.46 to .56, and strips of a few pixels in 2D by .5 to 1.0 √(ξ / length) (.75 here).
"""

from __future__ import annotations

import math

import numpy as np

from chromamol.grid import Grid
from chromamol.inverse.pattern_length import pattern_length_um
from chromamol.inverse.problem import RateProblem
from chromamol.shapes import Mask

PATCH = 0.48
"""λ / ξ."""

THINNEST = 0.31
"""V / A in units of ξ, below which both faces of a slab cut the same domains."""


def cut_flux_error(problem: RateProblem) -> float:
    """Return the relative error of the integral balance for what the edges of the array cut; 0 for a whole nucleus."""
    grid, mask = problem.grid, problem.mask
    faces = _cut_areas(mask, grid)
    if not any(faces):
        return 0.0
    volume = np.count_nonzero(mask) * grid.pixel_volume_um
    length = pattern_length_um(problem.phi_h)
    depths = [(area, math.hypot((volume / area) ** 2, (THINNEST * length) ** 2)) for area in faces if area]
    return math.sqrt(sum((PATCH * length) ** (grid.ndim + 1) / (area * depth) for area, depth in depths))


def is_cut(mask: Mask) -> bool:
    """Whether the edge of the array cuts the nucleus."""
    return any(mask.take((0, -1), axis).any() for axis in range(mask.ndim))


def _cut_areas(mask: Mask, grid: Grid) -> list[float]:
    """Area of the cut across each axis, um in 2D and um² in 3D."""
    return [
        np.count_nonzero(mask.take((0, -1), axis)) * grid.pixel_volume_um / h
        for axis, h in enumerate(grid.spacing_um)
    ]
