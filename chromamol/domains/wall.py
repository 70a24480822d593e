"""The wall of a nucleus of counted molecules: the smooth closed curve that most likely bounds them.

A density that is smoothed until counting allows to read it puts its edge 20 to 40 nm off. The molecules themselves say
more: none lies outside. With the curve moved by u(s) along its inward normal, molecules at the depth d have the density

    λ(d) = ρ_out + (ρ_in(s) - ρ_out) Φ((d - u(s)) / σ),

and u, a Fourier series along the wall, is where log L = Σ log λ(d_i) - ∫ λ is largest. How many waves it has is decided
by the Bayesian information criterion, so a wall is as smooth as the molecules allow.

References
----------
Schwarz, Ann. Stat. 6, 461 (1978), doi:10.1214/aos/1176344136 (the criterion).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.optimize import minimize
from scipy.spatial import cKDTree
from scipy.special import ndtr
from skimage.draw import polygon2mask
from skimage.measure import find_contours

from chromamol.domains.counting import value_at
from chromamol.grid import Grid
from chromamol.shapes import Mask

BAND_UM = 0.15
"""How far from the edge of the density molecules are looked at, and the wall may be."""

START_WAVES = 13
"""Waves around the curve that is moved: none shorter than half a nuclear radius."""

WAVES = (4, 6, 8, 12, 16, 24, 32)
SOFT_UM = 0.004
"""Least σ: a sharper edge has no gradient to climb."""

STRAY = 1e-3
"""Least density outside over that inside, or one false localisation would hold the wall."""

SMOOTHED_UM = 2.0 * BAND_UM
"""Standard deviation of the Gaussian along the wall that the density beside it is measured with."""

MOLECULES_BESIDE = 100.0
"""Where chromatin is thin, in `SMOOTHED_UM` along the wall: so deep is it measured at the second time."""

_POINTS = 1024
_INNER = 0.2  # of the band, beside the wall: left out where the density inside is measured


@dataclass(frozen=True, eq=False)
class Wall:
    """A closed curve.

    Parameters
    ----------
    points : (n,) complex, x + iy in µm.
    inward : (n,) unit normals, likewise.
    """

    points: np.ndarray
    inward: np.ndarray

    @property
    def steps_um(self) -> np.ndarray:
        """Length from each point to the next."""
        return np.abs(np.roll(self.points, -1) - self.points)

    def place(self, y_um: np.ndarray, x_um: np.ndarray, *, within_um: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the nearest point of each position, and its depth (negative outside, infinite beyond `within_um`)."""
        tree = cKDTree(np.column_stack([self.points.real, self.points.imag]))
        distance, nearest = tree.query(np.column_stack([x_um, y_um]), distance_upper_bound=within_um)
        near = np.isfinite(distance)
        nearest = np.where(near, nearest, 0)
        side = ((x_um + 1j * y_um - self.points[nearest]) * np.conj(self.inward[nearest])).real
        return nearest, np.where(near, np.copysign(distance, side), np.inf)

    def mask(self, grid: Grid) -> Mask:
        """Return what lies within, on the pixels of `grid`."""
        rows, columns = (
            (v - o) / h
            for v, o, h in zip((self.points.imag, self.points.real), grid.origin_um, grid.spacing_um, strict=True)
        )  # fmt: skip
        return np.asarray(polygon2mask(grid.shape, np.column_stack([rows, columns])))


def fit_wall(
    mask: Mask,
    grid: Grid,
    y_um: np.ndarray,
    x_um: np.ndarray,
    *,
    low: float,
    high: float,
    precision_um: float,
) -> Wall | None:
    """Fit the wall to the molecules around the edge of a density.

    Parameters
    ----------
    mask : the nucleus as the density shows it, without holes, on `grid`.
    y_um, x_um : molecules.
    low, high : density of both phases, per µm²: between them is what lies beside the wall.
    precision_um : of a position.

    Returns
    -------
    None where no smooth curve follows the density's edge to within half of `BAND_UM`: the nucleus is too ragged.
    """
    edge = max(find_contours(np.pad(mask, 1).astype(np.float32), 0.5), key=len) - 1.0
    edge = edge * np.array(grid.spacing_um) + np.array(grid.origin_um)
    start = wall_along(_smooth(edge))
    _, off = start.place(edge[:, 0], edge[:, 1], within_um=math.inf)
    if np.sqrt(np.mean(np.square(off))) > 0.5 * BAND_UM:
        return None
    inside, outside = (ndimage.distance_transform_edt(part) * grid.spacing_um[0] for part in (mask, ~mask))
    band = (inside + outside) < 2.0 * BAND_UM
    near = value_at(band, grid, y_um, x_um)
    sigma, wall = max(precision_um, SOFT_UM), start
    # A layer on the wall can be thinner than the band: the second time its own density is what ends at the wall.
    soft, needed = min(3.0 * sigma, _INNER * BAND_UM), MOLECULES_BESIDE / (SMOOTHED_UM * low)
    for beside in ((_INNER * BAND_UM, BAND_UM), (soft, min(soft + needed, BAND_UM))):
        nearest, depths = wall.place(y_um[near], x_um[near], within_um=BAND_UM)
        used = np.isfinite(depths)
        moved = _best_shift(wall, nearest[used], depths[used], low=low, high=high, sigma=sigma, beside=beside)
        wall = wall_along(wall.points + moved * wall.inward)
    return wall


def wall_along(points: np.ndarray) -> Wall:
    """Return the wall through points of a closed curve, with normals that point inwards."""
    waves = np.fft.fftfreq(points.size, 1.0 / points.size)
    along = np.fft.ifft(1j * waves * np.fft.fft(points))
    turn = np.sign(np.sum((np.conj(points) * along).imag))
    return Wall(points, 1j * turn * along / np.maximum(np.abs(along), 1e-12))


def _smooth(edge: np.ndarray) -> np.ndarray:
    """Return evenly spaced points of an edge (rows, columns) in µm, without its short waves."""
    points = edge[:, 1] + 1j * edge[:, 0]
    if points[0] != points[-1]:
        points = np.append(points, points[0])
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(points)))])
    even = np.arange(_POINTS) / _POINTS * length[-1]
    curve = np.interp(even, length, points.real) + 1j * np.interp(even, length, points.imag)
    waves = np.abs(np.fft.fftfreq(_POINTS, 1.0 / _POINTS))
    return np.asarray(np.fft.ifft(np.fft.fft(curve) * np.exp(-((waves / START_WAVES) ** 4))))


def _best_shift(
    wall: Wall, nearest: np.ndarray, depth: np.ndarray, *, low: float, high: float, sigma: float,
    beside: tuple[float, float],
) -> np.ndarray:  # fmt: skip
    """Return u at the points of the wall, µm: that of the most likely series, by its number of waves and the criterion.

    `beside` are the depths between which the density inside is measured, µm.
    """
    steps = wall.steps_um
    inner = (depth > beside[0]) & (depth < beside[1])
    counted = np.bincount(nearest[inner], minlength=steps.size).astype(np.float64)
    wide = SMOOTHED_UM / steps.mean()
    inside = ndimage.gaussian_filter1d(counted, wide, mode="wrap")
    inside /= ndimage.gaussian_filter1d(steps, wide, mode="wrap") * (beside[1] - beside[0])
    inside = np.clip(inside, 0.7 * low, high)
    far = np.count_nonzero(depth < -(1.0 - _INNER) * BAND_UM) / (steps.sum() * _INNER * BAND_UM)
    outside = min(max(STRAY * low, far), 0.5 * low)
    best, least, held = np.zeros(steps.size), math.inf, 0
    coefficients = np.zeros(1)
    edge = max(int(np.count_nonzero(np.abs(depth) < BAND_UM / 3.0)), 2)
    for waves, basis in _bases(steps, unit=sigma):
        start = np.concatenate([coefficients, np.zeros(len(basis) - coefficients.size)])
        found = minimize(_unlikely, start, args=(basis, nearest, depth, inside, outside, steps, sigma), jac=True,
                         method="L-BFGS-B", options={"maxiter": 400})  # fmt: skip
        coefficients = found.x
        criterion = 2.0 * found.fun + len(basis) * math.log(edge)
        if criterion < least:
            best, least, held = found.x @ basis, criterion, waves
        elif waves > 2 * held:
            break
    return np.clip(best, -BAND_UM, BAND_UM)


def _bases(steps: np.ndarray, *, unit: float) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (number of waves, cosines and sines along the wall of height `unit`), no wave but the first shorter than
    twice `BAND_UM`.

    The minimiser's first trial step has the length of one: with a micrometre the wall jumped inwards past all
    molecules, where ∫ λ, linear in the shift, has no floor.
    """
    along = 2.0 * np.pi * np.cumsum(steps) / steps.sum()
    for waves in WAVES:
        if waves * 2.0 * BAND_UM > steps.sum() and waves > WAVES[0]:
            return
        parts = [part(k * along) for k in range(1, waves + 1) for part in (np.cos, np.sin)]
        yield waves, unit * np.stack([np.ones_like(along), *parts])


def _unlikely(
    coefficients: np.ndarray, basis: np.ndarray, nearest: np.ndarray, depth: np.ndarray, inside: np.ndarray,
    outside: float, steps: np.ndarray, sigma: float,
) -> tuple[float, np.ndarray]:  # fmt: skip
    """Return -log L and its gradient."""
    shift = coefficients @ basis
    behind = (depth - shift[nearest]) / sigma
    step = (inside - outside)[nearest]
    density = outside + step * ndtr(behind)
    value = -float(np.log(density).sum()) - float(np.sum((inside - outside) * shift * steps))
    pull = step * np.exp(-0.5 * np.square(behind)) / (math.sqrt(2.0 * math.pi) * sigma * density)
    gradient = np.bincount(nearest, weights=pull, minlength=steps.size) - (inside - outside) * steps
    return value, basis @ gradient
