"""Solved problems from materials science and flow, with known coefficient maps.

Conservative finite differences on a grid three times as fine as the data, walls without flux, and SciPy's adaptive
Runge-Kutta in time: nothing of it is shared with `chromamol.InverseProblem`, which these problems test.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.integrate import solve_ivp

from chromamol.shapes import FloatField

FINER = 3
"""Samples of the solver per sample of the data, along each axis; odd, so that one lies on it."""


@dataclass(frozen=True, eq=False)
class SolvedProblem:
    """One solved problem in a unit square.

    Parameters
    ----------
    field : u, (t, y, x).
    coefficients : by name, the maps to find, (y, x).
    known : by name, numbers and maps that the equation holds and that are given, (y, x).
    spacing : by axis.
    """

    field: FloatField
    coefficients: dict[str, FloatField]
    known: dict[str, FloatField | float]
    spacing: dict[str, float]


def allen_cahn(
    pixels: int = 64, *, frames: int = 21, duration: float = 2.0, interface: float = 0.04, seed: int = 0
) -> SolvedProblem:
    """Grains that coarsen,   ∂u/∂t = -M(x) (u³ - u - ε² Δu),   with a mobility map M between 0.5 and 2.

    Parameters
    ----------
    pixels, frames : of the data.
    duration : from the first frame, which follows a start from noise, to the last.
    interface : ε.
    seed : of the start and of the map.
    """
    rng = np.random.default_rng(seed)
    n = pixels * FINER
    mobility = np.exp(np.log(2.0) * _smooth(rng, n, 0.25))
    start = np.clip(2.0 * _smooth(rng, n, 0.06), -1.0, 1.0)

    def slope(u: FloatField) -> FloatField:
        return -mobility * (u**3 - u - interface**2 * _divergence(*_gradient(u, n), n))

    times = np.linspace(0.5, 0.5 + duration, frames)
    field = _sampled(slope, start, times)
    return SolvedProblem(
        field, {"M": _at_samples(mobility)}, {"interface": interface},
        {"t": float(times[1] - times[0]), "y": 1.0 / pixels, "x": 1.0 / pixels},
    )  # fmt: skip


def advection_diffusion(
    pixels: int = 48, *, frames: int = 25, duration: float = 0.5, seed: int = 0
) -> SolvedProblem:
    """Dye in a vortex,   ∂u/∂t + ∇·(v u) = ∇·(D(x) ∇u) + s(x),   v known, D and the source s smooth maps.

    v = curl of a stream function that vanishes at the walls. D lies between 0.005 and 0.02, s has two springs.
    """
    rng = np.random.default_rng(seed)
    n = pixels * FINER
    edges, centres = np.linspace(0.0, 1.0, n + 1), (np.arange(n) + 0.5) / n
    diffusivity = 0.01 * np.exp(np.log(2.0) * _smooth(rng, n, 0.25))
    y, x = np.meshgrid(centres, centres, indexing="ij")
    source = _bump(y, x, 0.3, 0.35) + 0.7 * _bump(y, x, 0.65, 0.7)
    stream = 0.5 / np.pi * np.outer(np.sin(np.pi * edges), np.sin(np.pi * edges))
    # Velocity on the faces, as differences of the stream function on the corners: free of divergence exactly.
    v_y, v_x = np.diff(stream, axis=1) * n, -np.diff(stream, axis=0) * n
    start = _bump(y, x, 0.7, 0.3) + _bump(y, x, 0.3, 0.7)

    def slope(u: FloatField) -> FloatField:
        flux_y, flux_x = _gradient(u, n)
        flux_y = flux_y * _faces(diffusivity, 0) - _faces(u, 0) * v_y[1:-1]
        flux_x = flux_x * _faces(diffusivity, 1) - _faces(u, 1) * v_x[:, 1:-1]
        return _divergence(flux_y, flux_x, n) + source

    times = np.linspace(0.0, duration, frames)
    velocity = [0.5 * (v_y[1:] + v_y[:-1]), 0.5 * (v_x[:, 1:] + v_x[:, :-1])]
    return SolvedProblem(
        _sampled(slope, start, times), {"D": _at_samples(diffusivity), "s": _at_samples(source)},
        {"v_y": _at_samples(velocity[0]), "v_x": _at_samples(velocity[1])},
        {"t": float(times[1] - times[0]), "y": 1.0 / pixels, "x": 1.0 / pixels},
    )  # fmt: skip


def _sampled(slope: Callable[[FloatField], FloatField], start: FloatField, times: FloatField) -> FloatField:
    """Return the solution at `times` and at the samples of the data."""
    shape = start.shape
    solved = solve_ivp(
        lambda _, flat: slope(flat.reshape(shape)).ravel(), (0.0, times[-1]), start.ravel(),
        t_eval=times, method="RK23", rtol=1e-5, atol=1e-7,
    )  # fmt: skip
    return np.stack([_at_samples(flat.reshape(shape)) for flat in solved.y.T])


def _gradient(u: FloatField, n: int) -> tuple[FloatField, FloatField]:
    """Differences on the inner faces."""
    return np.diff(u, axis=0) * n, np.diff(u, axis=1) * n


def _divergence(flux_y: FloatField, flux_x: FloatField, n: int) -> FloatField:
    """Divergence of fluxes on the inner faces; none through the walls."""
    padded = np.pad(flux_y, ((1, 1), (0, 0))), np.pad(flux_x, ((0, 0), (1, 1)))
    return (np.diff(padded[0], axis=0) + np.diff(padded[1], axis=1)) * n


def _faces(values: FloatField, axis: int) -> FloatField:
    low, high = (np.take(values, range(i, values.shape[axis] - 1 + i), axis=axis) for i in (0, 1))
    return 0.5 * (low + high)


def _at_samples(values: FloatField) -> FloatField:
    return values[FINER // 2 :: FINER, FINER // 2 :: FINER]


def _bump(y: FloatField, x: FloatField, y0: float, x0: float, width: float = 0.15) -> FloatField:
    return np.exp(-0.5 * ((y - y0) ** 2 + (x - x0) ** 2) / width**2)


def _smooth(rng: np.random.Generator, n: int, length: float) -> FloatField:
    """A smooth random map of maximum modulus 1."""
    noise = rng.standard_normal((3 * n, 3 * n))
    smooth = ndimage.gaussian_filter(noise, length * n / np.sqrt(2.0), mode="wrap")[n : 2 * n, n : 2 * n]
    return smooth / np.abs(smooth).max()
