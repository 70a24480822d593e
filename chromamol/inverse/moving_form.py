"""The balance of a pattern on its way, tested in space and time: linear equations for D and both rates.

Multiply   ∂t φ_h / D = Δμ_h + (Γ_me φ_e - Γ_ac φ_h) / D   by ψ_i(x) θ_j(t), both compact, and move every derivative
onto them. The windows θ_j come first: they turn the frames into four images each,

    F = Σ_n θ_n f(φ_h),    H = Σ_n θ_n φ_h,    E = Σ_n θ_n φ_e,    T = Σ_n θ'_n φ_h,

and what is left is the weak form of a snapshot with one more column:

    ∫ [ F Δψ - ℓ² H ΔΔψ + (Γ_me / D E - Γ_ac / D H - T / D) ψ ] = 0

1 / D multiplies the noise-poor T, not the noise-rich Δμ_h, so errors in variables stay small. A pattern at rest
has T = 0: it says nothing about D.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from chromamol.errors import FieldError
from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse.basis import CosineBasis
from chromamol.inverse.lattice import LatticeTile, bilaplacian_terms, identity_terms, laplacian_terms
from chromamol.inverse.problem import NoiseSource, RateProblem
from chromamol.inverse.time_windows import TimeWindows
from chromamol.inverse.weak_form import WeakEquations, tested_modes
from chromamol.inverse.weak_noise import EquationNoise, NoiseGrams, averaged
from chromamol.physics.free_energy import BULK_SKEWNESS, bulk_curvature, bulk_potential, bulk_stiffness
from chromamol.shapes import FloatField, Mask

STIFFNESS_OVER_PX = 5.0
"""Weights that follow the noise bias a fit: at 10 % noise and a half-width of 15 px, rates and 1 / D by .9 % with
averages over 1.5 px, .4 % (3), .1 % (5). f' and its square may be averaged, since C holds sums of them; φ_h may not."""


@dataclass(frozen=True, eq=False)
class MovingProblem:
    """Find D, Γ_me and Γ_ac from frames of one nucleus that stays in place.

    Parameters
    ----------
    frames : the fields of each time, with their noise, on one grid and one mask.
    interval_s : time between frames.
    """

    frames: tuple[RateProblem, ...]
    interval_s: float

    def __post_init__(self) -> None:
        first = self.frames[0]
        for frame in self.frames[1:]:
            first.phi_h.require_same_grid(frame.phi_h)
            if not np.array_equal(first.mask, frame.mask):
                raise FieldError("Frames with different masks.", expected="one mask for all frames.",
                                 do="register the frames, and pass the pixels that are inside in each.")  # fmt: skip

    @property
    def grid(self) -> Grid:
        return self.frames[0].grid

    @property
    def mask(self) -> Mask:
        return self.frames[0].mask

    @property
    def duration_s(self) -> float:
        return self.interval_s * (len(self.frames) - 1)

    def drift(self) -> float:
        """Return the trend of <φ_h> over its standard error: no rates keep a pattern at rest whose mean changes."""
        means = np.array([frame.phi_h.values[self.mask].mean() for frame in self.frames])
        noise = np.array([frame.mean_noise_sd()[0] for frame in self.frames])
        along = np.arange(len(means)) - 0.5 * (len(means) - 1)
        return float(along @ means / np.linalg.norm(along * noise) * np.sqrt(np.count_nonzero(self.mask)))

    def windows(self) -> TimeWindows:
        return TimeWindows.over(len(self.frames), self.interval_s)

    def crop(self, window: tuple[slice, ...]) -> MovingProblem:
        return MovingProblem(tuple(frame.crop(window) for frame in self.frames), self.interval_s)

    def average(self) -> RateProblem:
        """Return the mean of all frames."""
        return self.mean(np.full(len(self.frames), 1.0 / len(self.frames)))

    def mean(self, weights: np.ndarray) -> RateProblem:
        """Return the weighted mean of the frames with the noise of one, as if it were a snapshot."""
        first = self.frames[0]

        def field(name: str) -> Field:
            values = _sum(weights, [np.where(self.mask, getattr(f, name).values, 0.0) for f in self.frames])
            return Field(values, self.grid, "1", self.mask)

        noise = []
        for sources in zip(*(frame.noise for frame in self.frames), strict=True):
            variance = sum(w * np.asarray(s.sd) ** 2 for w, s in zip(weights, sources, strict=True))
            h, e = (
                sum(
                    w * np.asarray(getattr(s, f"response_{x}")) for w, s in zip(weights, sources, strict=True)
                )
                for x in "he"
            )
            noise.append(NoiseSource(_plain(np.sqrt(variance)), _plain(h), _plain(e), sources[0].smoothing))
        return RateProblem(field("phi_h"), field("phi_e"), tuple(noise), first.parameters)


@dataclass(frozen=True, eq=False)
class WindowedImages:
    """One window's images F, H, E and T (see above), and their noise.

    Parameters
    ----------
    noise : of the equations, as if the window were a snapshot.
    slope_power : Σ θ'², 1/s²: the noise of T over that of H.
    """

    potential: FloatField
    phi_h: FloatField
    phi_e: FloatField
    slope: FloatField
    noise: EquationNoise
    slope_power: float


def windowed_images(problem: MovingProblem) -> list[WindowedImages]:
    """Integrate the frames over every window."""
    phi_max = problem.frames[0].parameters.phi_max
    phi_h = [np.where(problem.mask, frame.phi_h.values, 0.0) for frame in problem.frames]
    phi_e = [np.where(problem.mask, frame.phi_e.values, 0.0) for frame in problem.frames]
    # E f(φ + n) = f(φ) + ½ f''(φ) σ², frame by frame: f is not linear.
    potential = [
        bulk_potential(phi, phi_max) - 0.5 * frame.noise_variance_h() * bulk_curvature(phi, phi_max)
        for phi, frame in zip(phi_h, problem.frames, strict=True)
    ]
    noise = _StiffnessOfFrames.of(problem, phi_h)
    windows = problem.windows()
    return [
        WindowedImages(
            _sum(theta, potential), _sum(theta, phi_h), _sum(theta, phi_e), _sum(slope, phi_h),
            noise.in_window(problem, theta), float(slope @ slope),
        )
        for theta, slope in zip(windows.weights, windows.slopes, strict=True)
    ]  # fmt: skip


@dataclass(frozen=True, eq=False)
class _StiffnessOfFrames:
    """What φ_h passes on of its noise to f, frame by frame: f', and the square of all of it.

    A pixel that changes phase on the way has the f' of both, the mean frame that of an interface. With that, C was 1.2
    to 1.8 times too small.
    """

    mean: list[FloatField]
    square: list[FloatField]

    @classmethod
    def of(cls, problem: MovingProblem, phi_h: list[FloatField]) -> _StiffnessOfFrames:
        """Return from noisy φ_h what is expected to be that of the true φ_h.

        f less the mean that is taken off has the variance (f'² + ½ f''² σ² + f'''² σ⁴ / 6) σ². Of noisy φ_h,
        f' - ½ f''' σ² has the expectation f', and f'² - (½ f''² + f' f''') σ² + 5/12 f'''² σ⁴ that of the bracket.
        """
        mean, square = [], []
        for phi, frame in zip(phi_h, problem.frames, strict=True):
            variance, phi_max = frame.noise_variance_h(), frame.parameters.phi_max
            stiffness, curvature = bulk_stiffness(phi, phi_max), bulk_curvature(phi, phi_max)
            skewed = BULK_SKEWNESS * variance
            mean.append(stiffness - 0.5 * skewed)
            square.append(
                stiffness**2 - 0.5 * curvature**2 * variance - stiffness * skewed + 5.0 / 12.0 * skewed**2
            )
        return cls(mean, square)

    def in_window(self, problem: MovingProblem, theta: np.ndarray) -> EquationNoise:
        """Return the noise of a window's equations, with f' averaged over neighbours (see `STIFFNESS_OVER_PX`)."""
        mean, square = (
            averaged(_sum(theta**2, each), problem.mask, STIFFNESS_OVER_PX)
            for each in (self.mean, self.square)
        )
        changing = np.sqrt(np.maximum(square - mean**2, 0.0))
        return EquationNoise.with_stiffness(problem.mean(theta**2), mean, changing)


@dataclass(frozen=True, eq=False)
class MovingEquations:
    """The equations of one window and one tile.

    Parameters
    ----------
    balance : A c = b, c = (c_me, c_ac, 1 / D): a snapshot's, with one more column.
    grams : covariances of the noise in b and in the maps' columns.
    modes : the modes at the centres of the functions, (n, M).
    motion_noise : covariance of the noise of that column, (n, n), 1/s². By symmetry it shares none with the others.
    """

    balance: WeakEquations
    grams: NoiseGrams
    modes: np.ndarray
    motion_noise: np.ndarray


def moving_equations(images: WindowedImages, basis: CosineBasis, tile: LatticeTile) -> MovingEquations:
    """Write down the weak balance of one tile in one window, with its noise."""
    columns, right_side = balance_terms(images, basis, tile)
    grams = images.noise.grams(tile)
    modes = basis.evaluate_at(tile.positions)
    motion_noise = images.slope_power * grams.pairs.matrix(grams.ac_ac)
    return MovingEquations(WeakEquations(columns, right_side), grams, modes, motion_noise)


def balance_terms(
    images: WindowedImages, basis: CosineBasis, tile: LatticeTile
) -> tuple[np.ndarray, np.ndarray]:
    """Return A, (n, 2 M + 1), and b, (n,), of one tile in one window."""
    ndim, part = images.phi_h.ndim, tile.window
    ell2 = images.noise.problem.parameters.interface_length_um**2
    surface = ell2 * tile.integrate(images.phi_h[part], bilaplacian_terms(ndim))
    diffusion = tile.integrate(images.potential[part], laplacian_terms(ndim))
    columns = [
        tested_modes(np.stack([images.phi_e[part], -images.phi_h[part]]), basis, tile),
        -tile.integrate(images.slope[part], identity_terms(ndim))[:, None],
    ]
    return np.concatenate(columns, axis=1), surface - diffusion


def _sum(weights: np.ndarray, images: list[FloatField]) -> FloatField:
    total = np.zeros_like(images[0])
    for weight, image in zip(weights, images, strict=True):
        if weight:
            total += weight * image
    return total


def _plain(values: Any) -> FloatField | float:
    array = np.asarray(values, dtype=float)
    return array if array.ndim else float(array)
