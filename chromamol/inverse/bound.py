"""The Cramér-Rao bound: how well rates could be known from given data, whatever the method.

Steady fields u = (φ_h, φ_e) follow from the logarithms θ of the rates through the balance R(u, θ) = 0, so that data
on u are data on θ:

    δu = S δθ,   S = -(∂R/∂u)⁻¹ ∂R/∂θ,        cov(θ) >= (Sᵀ Hᵀ H S / σ² + P⁻¹)⁻¹

with H the point spread function and P the covariance of θ that is known beforehand. Log-rates are smooth Gaussian
fields: without any smoothness, the rate of a single pixel would be asked for. This is the Bayesian, or Van Trees,
bound of the problem linearised at the given state.

The balance is used as μ_h = f(φ_h) - ℓ² Δφ_h, Δμ_h + Γ_me φ_e - Γ_ac φ_h = 0, μ_h + φ_e - ℓ² Δφ_e = C with C
unknown, and discretised compactly (fourth order, nearest neighbours), so that ∂R/∂u is sparse and factorised directly.

References
----------
Van Trees, Detection, Estimation, and Modulation Theory I (1968), section 2.4;
Collatz, The Numerical Treatment of Differential Equations (1960), section V.2 (the compact stencil).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.linalg import splu

from chromamol.errors import FieldError
from chromamol.grid import Grid
from chromamol.inverse.arrays import spacing_of
from chromamol.inverse.bound_input import (
    affordable_length,
    checked_maps,
    noise_of_images,
    positive,
    require_border,
)
from chromamol.inverse.calibration import CalibrationPrior
from chromamol.inverse.log_rate_modes import smooth_modes
from chromamol.physics.free_energy import bulk_stiffness
from chromamol.physics.parameters import ChromatinParameters
from chromamol.shapes import FloatField, Mask

LOG_MEAN_SD = 2.0
"""Prior of a map's mean logarithm: a factor of seven, no information."""

MOST_PIXELS = {2: 90_000, 3: 8_000}
"""Above these the factors no longer fit into 2 GB (192 x 192 pixels take 0.9 GB)."""

COLUMNS = 16
"""Right sides solved at once."""

BLOCK_PX = 4
"""Fluxes through an open border are unknown in blocks of so many pixels; finer ones decay within a few pixels."""

FREE_FLUX = 3.0
"""Prior deviation of these fluxes over their typical size: no information."""


@dataclass(frozen=True, eq=False)
class ErrorBound:
    """Standard errors that no estimate beats on average over rates of this smoothness, um⁻².

    Parameters
    ----------
    methylation, acetylation : maps, NaN outside the nucleus; zero for a rate that is known.
    methylation_mean, acetylation_mean : of the mean over the nucleus.
    relative_ratio : of the ratio of the two means, relative.
    """

    methylation: FloatField
    acetylation: FloatField
    methylation_mean: float
    acetylation_mean: float
    relative_ratio: float


def cramer_rao_bound(  # noqa: PLR0913 - describes an experiment; all but the fields are keyword-only
    phi_h: Any,
    phi_e: Any,
    *,
    methylation_per_um2: Any,
    acetylation_per_um2: Any,
    pixel_size_um: float | Sequence[float],
    noise_sd: Any,
    correlation_um: Any,
    log_sd: Any,
    parameters: ChromatinParameters | None = None,
    mask: Any = None,
    border: str = "open",
    psf_sigma_um: Any = 0.0,
    acetylation_known: bool = False,
    total_only: bool = False,
    calibration: CalibrationPrior | None = None,
) -> ErrorBound:
    """Return the least standard errors with which rates can be inferred from an experiment.

    At the true state it is a bound for any method; at an estimated one it is an estimate of the bound.

    Parameters
    ----------
    phi_h, phi_e : volume fractions without noise and blur, (y, x) or (z, y, x).
    methylation_per_um2, acetylation_per_um2 : the rates of that pattern, Γ / D in um⁻², numbers or maps.
    pixel_size_um : um; one number, or one per axis.
    noise_sd : of the images per pixel, as a volume fraction; one number, or one for each of two images.
    correlation_um, log_sd : what is known of the rates beforehand: correlation length ξ (a pixel or more) and standard
        deviation of their logarithms, whose covariance is log_sd² exp(-r² / (2 ξ²)). A large `log_sd` leaves the
        classical bound for rates without waves shorter than about two ξ.
    parameters, psf_sigma_um : as in `infer_rates`.
    mask : True inside the nucleus; the whole array when None.
    border : what is known of it. "open": nothing, as when a pattern was cut; the estimators of this package use no
        more. "wall": no flux. "periodic": the array is a periodic box, without a mask. Whoever knows more has a lower
        bound (by a factor of four on a crop of 80 x 80 pixels with Γ_ac known): where the domains stand then
        speaks of the rates, too.
    acetylation_known : whether Γ_ac is given, so that only Γ_me is unknown.
    total_only : the only image shows φ_h + φ_e.
    calibration : how well gain, offset, φ_max and ℓ are known; exact when None.

    Raises
    ------
    FieldError : shapes that differ, fields that are not finite or rates that are not positive inside the mask, more
        pixels than can be factorised.
    ParameterError : noise or smoothness that is not a positive number, noise of another number of images, a blur below
        0, a correlation length that the pixels do not carry or that takes too many cosines, an unknown border, a mask
        in a periodic box.
    """
    channels = ((1.0, 1.0),) if total_only else ((1.0, 0.0), (0.0, 1.0))
    require_border(border, mask)
    noise = noise_of_images(noise_sd, len(channels))
    log_sd, blur_um = positive("log_sd", log_sd), positive("psf_sigma_um", psf_sigma_um, or_zero=True)
    fields, rates, inside = checked_maps(phi_h, phi_e, methylation_per_um2, acetylation_per_um2, mask)
    grid = Grid(inside.shape, spacing_of(pixel_size_um, inside.ndim))
    state = _State(*fields, *rates, inside, grid, parameters or ChromatinParameters(), border)
    modes, mode_sd = smooth_modes(grid, correlation_um=affordable_length(correlation_um, grid), log_sd=log_sd)
    modes = modes.reshape(len(modes), -1)[:, inside.ravel()]
    maps = 1 if acetylation_known else 2
    prior_sd = np.tile(np.concatenate([[LOG_MEAN_SD], mode_sd]), maps)
    theta = np.concatenate([np.ones((1, modes.shape[1])), modes])
    observation = _Observation(state, channels, noise, blur_um, calibration or CalibrationPrior())
    fluxes, flux_sd = (
        _flux_columns(state) if border == "open" else (np.zeros((3 * theta.shape[1], 0)), np.zeros(0))
    )
    columns = np.concatenate([_rate_columns(state, theta, maps), fluxes, observation.model_columns()], axis=1)
    seen = observation.of(state.sensitivities(columns))
    sd = np.concatenate([prior_sd, flux_sd, observation.prior_sd])
    covariance = _posterior(seen[sd > 0.0], sd[sd > 0.0])[: len(prior_sd), : len(prior_sd)]
    return _bound(state, theta, covariance, maps)


def _posterior(seen: np.ndarray, prior_sd: np.ndarray) -> np.ndarray:
    """(S Sᵀ + P⁻¹)⁻¹ for rows of sensitivities over the noise; an infinite deviation is no prior."""
    unit = np.where(np.isinf(prior_sd), 1.0, prior_sd)
    scaled = seen * unit[:, None]
    precision = scaled @ scaled.T + np.diag(np.isfinite(prior_sd).astype(float))
    return np.linalg.inv(precision) * np.outer(unit, unit)


@dataclass(frozen=True, eq=False)
class _State:
    """Where the balance is linearised; everything on the pixels of the grid."""

    phi_h: FloatField
    phi_e: FloatField
    methylation: FloatField
    acetylation: FloatField
    inside: Mask
    grid: Grid
    parameters: ChromatinParameters
    border: str

    def __post_init__(self) -> None:
        pixels, limit = int(np.count_nonzero(self.inside)), MOST_PIXELS[self.grid.ndim]
        if pixels > limit:
            raise FieldError(f"A nucleus of {pixels} pixels.", expected=f"at most {limit} in {self.grid.ndim}D.",
                             do="take a part of it: the bound is local beyond a correlation length.")  # fmt: skip

    def at_pixels(self, values: FloatField) -> np.ndarray:
        return values[self.inside]

    def stencils(self) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
        """A and B of the compact scheme: Δu = v is A u = B v."""
        axes = [self._second_difference(axis) for axis in range(self.grid.ndim)]
        spacing, n = self.grid.spacing_um, axes[0].shape[0]
        laplacian, weights = sparse.csr_matrix((n, n)), sparse.identity(n, format="csr")
        for i, (h, second) in enumerate(zip(spacing, axes, strict=True)):
            laplacian = laplacian + second
            weights = weights + h**2 / 12.0 * second
            for g, other in zip(spacing[:i], axes[:i], strict=True):
                laplacian = laplacian + (h**2 + g**2) / 12.0 * (second @ other)
        return laplacian, weights

    def _second_difference(self, axis: int) -> sparse.csr_matrix:
        """Between neighbours inside only, which is a wall without flux."""
        number = np.where(self.inside, np.cumsum(self.inside.ravel()).reshape(self.inside.shape) - 1, -1)
        following = np.roll(number, -1, axis)
        if self.border != "periodic":
            following[(slice(None),) * axis + (-1,)] = -1
        pairs = (number >= 0) & (following >= 0)
        a, b = number[pairs], following[pairs]
        n = int(self.inside.sum())
        edges = sparse.coo_matrix((np.ones(2 * len(a)), (np.r_[a, b], np.r_[b, a])), shape=(n, n)).tocsr()
        degree = sparse.diags(np.asarray(edges.sum(axis=1)).ravel())
        return ((edges - degree) / self.grid.spacing_um[axis] ** 2).tocsr()

    def sensitivities(self, columns: np.ndarray) -> np.ndarray:
        """-(∂R/∂u)⁻¹ times columns of ∂R/∂θ, (3 n, P) -> (P, 2, n): what φ_h and φ_e do."""
        laplacian, weights = self.stencils()
        n = weights.shape[0]
        square = self.parameters.interface_length_um**2
        stiff, gain, loss = (
            weights @ sparse.diags(self.at_pixels(v))
            for v in (bulk_stiffness(self.phi_h, self.parameters.phi_max), self.methylation, self.acetylation)
        )
        # Unknowns of one pixel stand together, and the diagonal is never zero, which keeps the factors sparse.
        jacobian = sparse.bmat([[-loss, gain, laplacian], [None, weights - square * laplacian, weights],
                                [stiff - square * laplacian, None, -weights]], format="csc")  # fmt: skip
        order = np.arange(3 * n).reshape(3, n).T.ravel()
        factors = splu(jacobian[order][:, order].tocsc())
        mixed = sparse.block_diag([weights] * 3, format="csr")
        found = np.empty((columns.shape[1], 2, n))
        for start in range(0, columns.shape[1], COLUMNS):
            right = -(mixed @ columns[:, start : start + COLUMNS])[order]
            solved = factors.solve(right).reshape(n, 3, -1)
            found[start : start + COLUMNS] = solved[:, :2].transpose(2, 1, 0)
        return found


def _rate_columns(state: _State, theta: np.ndarray, maps: int) -> np.ndarray:
    """∂R/∂θ of the log-rates: (3 n, maps M), in the order of the equations (balance, water, potential)."""
    flows = (state.methylation * state.phi_e, -state.acetylation * state.phi_h)[:maps]
    columns = np.concatenate([state.at_pixels(flow) * theta for flow in flows])
    return np.concatenate([columns, np.zeros((len(columns), 2 * theta.shape[1]))], axis=1).T


def _flux_columns(state: _State) -> tuple[np.ndarray, np.ndarray]:
    """∂R/∂(fluxes of φ_h, φ_e and μ_h through the border), (3 n, 3 F), and how large these may be."""
    inside, spacing = state.inside, state.grid.spacing_um
    faces = np.zeros(inside.shape)
    padded = np.pad(inside, 1)
    core = (slice(1, -1),) * inside.ndim
    for axis, h in enumerate(spacing):
        for shift in (-1, 1):
            faces += (inside & ~np.roll(padded, shift, axis)[core]) / h
    blocks = np.indices(inside.shape) // BLOCK_PX
    number = np.ravel_multi_index(tuple(blocks), tuple(n // BLOCK_PX + 1 for n in inside.shape))
    there = faces[inside]
    at: np.ndarray = np.asarray(number)[inside]
    columns = np.stack([np.where(at == block, there, 0.0) for block in np.unique(at[there > 0.0])], axis=1)
    square, phi_max = state.parameters.interface_length_um**2, state.parameters.phi_max
    zero = np.zeros_like(columns)
    of_h, of_e, of_mu = (
        [zero, zero, -square * columns],
        [zero, -square * columns, zero],
        [columns, zero, zero],
    )
    exchange, turnover = (float(state.at_pixels(v).mean()) for v in
                          (state.acetylation * state.phi_h, state.acetylation))  # fmt: skip
    slope, flow = phi_max**2 / (4.0 * state.parameters.interface_length_um), exchange / math.sqrt(turnover)
    sizes = np.repeat([slope, flow, flow], columns.shape[1])
    return np.concatenate([np.concatenate(part) for part in (of_h, of_e, of_mu)], axis=1), FREE_FLUX * sizes


@dataclass(frozen=True, eq=False)
class _Observation:
    """The images of a state, and the numbers that are unknown beside the rates: C, φ_max, ℓ, gains and offsets."""

    state: _State
    channels: tuple[tuple[float, float], ...]
    noise_sd: np.ndarray
    psf_sigma_um: float
    calibration: CalibrationPrior

    @property
    def prior_sd(self) -> np.ndarray:
        """Of C (free), log φ_max, log ℓ, then gain and offset of every channel; 0 is exact."""
        c = self.calibration
        scales = [sd for gain_sd in c.gains(len(self.channels)) for sd in (gain_sd, c.offset_sd)]
        return np.array([math.inf, c.phi_max_sd, c.interface_sd, *scales])

    def model_columns(self) -> np.ndarray:
        """∂R/∂(C, log φ_max, log ℓ), (3 n, 3)."""
        s = self.state
        phi_max, square = s.parameters.phi_max, s.parameters.interface_length_um**2
        phi_h, phi_e = s.at_pixels(s.phi_h), s.at_pixels(s.phi_e)
        laplacian, _ = s.stencils()
        zero, one = np.zeros_like(phi_h), np.ones_like(phi_h)
        stiffer = phi_max * phi_h * (2.0 * phi_max - 3.0 * phi_h)
        return np.stack([
            np.concatenate([zero, -one, zero]), np.concatenate([zero, zero, stiffer]),
            np.concatenate([zero, -2.0 * square * (laplacian @ phi_e), -2.0 * square * (laplacian @ phi_h)]),
        ], axis=1)  # fmt: skip

    def of(self, changes: np.ndarray) -> np.ndarray:
        """What changes of the fields do to the images over their noise, and what gains and offsets do: (P', data)."""
        fields = np.stack([self.state.at_pixels(f) for f in (self.state.phi_h, self.state.phi_e)])
        pixels, images = fields.shape[1], list(zip(self.channels, self.noise_sd, strict=True))
        rows = [
            np.concatenate([self._seen(np.tensordot(mix, change, 1)) / sd for mix, sd in images])
            for change in changes
        ]
        for i, (mix, sd) in enumerate(images):
            for pattern in (self._seen(np.tensordot(mix, fields, 1)), np.ones(pixels)):
                row = np.zeros(len(self.channels) * pixels)
                row[i * pixels : (i + 1) * pixels] = pattern / sd
                rows.append(row)
        return np.stack(rows)

    def _seen(self, values: np.ndarray) -> np.ndarray:
        if self.psf_sigma_um == 0.0:
            return values
        image = np.zeros(self.state.inside.shape)
        image[self.state.inside] = values
        sigma = [self.psf_sigma_um / h for h in self.state.grid.spacing_um]
        mode = "wrap" if self.state.border == "periodic" else "constant"
        return np.asarray(ndimage.gaussian_filter(image, sigma, mode=mode))[self.state.inside]


def _bound(state: _State, theta: np.ndarray, covariance: np.ndarray, maps: int) -> ErrorBound:
    size = len(theta)
    errors, averages = [], []
    for i, rate in enumerate((state.methylation, state.acetylation)):
        error = np.full(state.inside.shape, np.nan)
        weights = np.zeros(maps * size)
        error[state.inside] = 0.0
        if i < maps:
            block = covariance[i * size : (i + 1) * size, i * size : (i + 1) * size]
            values = state.at_pixels(rate)
            error[state.inside] = values * np.sqrt(np.einsum("kp,kp->p", theta, block @ theta))
            weights[i * size : (i + 1) * size] = (theta * values).mean(axis=1)
        errors.append(error)
        averages.append(weights)
    means = [float(np.sqrt(w @ covariance @ w)) for w in averages]
    relative = [w / state.at_pixels(r).mean()
                for w, r in zip(averages, (state.methylation, state.acetylation), strict=True)]  # fmt: skip
    difference = relative[0] - relative[1]
    return ErrorBound(
        errors[0], errors[1], means[0], means[1], float(np.sqrt(difference @ covariance @ difference))
    )
