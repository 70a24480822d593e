"""Two fields from one channel: the steady water balance splits total chromatin.

A stain of all DNA shows c = φ_h + φ_e. At steady state μ_h + μ_e = C, one number per nucleus, and so

    f(φ_h) - φ_h = C - c + ℓ² Δc,        f(φ) = φ (φ_max - φ) (φ_max - 2 φ)

The left side falls strictly with φ_h a little beyond [0, φ_max] on both sides (its slope is at most
φ_max² - 1 < 0 inside), so the root is unique. C stays free and is fixed by a convention: the dark level of c,
between the domains, is euchromatin with a fraction `BACKGROUND_HETEROCHROMATIN` of heterochromatin. It is read at one
agreed noise, whatever that of the image (`dark_level`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.optimize import brentq

from chromamol.calculus import estimate_noise_sd, taps_1d
from chromamol.errors import FieldError
from chromamol.field import Field
from chromamol.given import as_array, as_mask
from chromamol.grid import Grid
from chromamol.physics.dark_level import noise_in_the_dark, percentile_at_noise
from chromamol.physics.free_energy import bulk_potential, bulk_stiffness
from chromamol.physics.parameters import ChromatinParameters
from chromamol.shapes import FloatField, Mask

BACKGROUND_HETEROCHROMATIN = 0.04
"""φ_h between domains of the reference model (0.033 to 0.053 on simulated steady states)."""

BACKGROUND_PERCENTILE = 10.0
"""Percentile of total chromatin that stands for the space between domains."""

SPLIT_CONSTANT_SD = 0.01
"""How far the convention may put C from the truth: it puts the ratio 3 % low to 7 % high on seven patterns with
Γ_me / Γ_ac from 0.5 to 1.5 (.01 is some 10 %)."""

SMOOTHING_KERNEL = "vanishing"
SMOOTHING_HALF_WIDTHS_PX = (4.0, 5.0, 6.0, 8.0, 11.0, 15.0)
"""Candidates of the width that denoises c, sharpest first. The kernel's second moment vanishes, which keeps
interfaces sharper than a positive mollifier would."""

LEVEL_NOISE = 0.0087
"""Noise of total chromatin at which the dark level is read: what smoothing leaves of 2 % in 2D."""

LEVEL_HALF_WIDTH_PX = 8.0
"""Widest kernel that the dark level is read behind: those of 11 and 15 pixels dip beside domains and lower it by .003
to .004 and .006 to .011."""

LEVEL_CORRECTION_SD = 0.5
"""Standard deviation of the dark level over what is taken from it, or added to it, for noise."""

TOLERABLE_NOISE = 0.02
"""Noise of (1 - ℓ²Δ) c that the split may see. More is amplified by its curvature: at 5 % noise of φ_max and
both rates unknown, .14 destroys the maps, .036 gives correlations of .95 and .94, .019 of .97 and .97."""

_TABLE_SIZE = 2049
_NEWTON_STEPS = 3


@dataclass(frozen=True, eq=False)
class ChromatinSplit:
    """Two fields from one.

    Parameters
    ----------
    phi_h, phi_e : volume fractions on the grid of the total.
    constant : C, dimensionless.
    constant_sd : how well C is known for what noise does to the dark level; 0 where C was given.
    noise_sd : noise of the total per pixel, before smoothing.
    response_h : dφ_h / dc at each pixel; that of φ_e is 1 minus it.
    smoothing : taps, per axis, of the filter between the noise of c and that of the two fields.
    unsplit_fraction : share of the pixels whose c no φ_h explains; there φ_h is held at the end of its range.
    """

    phi_h: Field
    phi_e: Field
    constant: float
    constant_sd: float
    noise_sd: float
    response_h: FloatField
    smoothing: tuple[np.ndarray, ...]
    unsplit_fraction: float


def split_total(
    total: Field,
    parameters: ChromatinParameters,
    *,
    noise_sd: float | None = None,
    constant: float | None = None,
    seen_through_px: Sequence[float] | None = None,
) -> ChromatinSplit:
    """Split total chromatin into heterochromatin and euchromatin.

    Parameters
    ----------
    total : volume fraction c; its mask is the nucleus.
    noise_sd : noise of c per pixel; estimated from the field when None.
    constant : C; by the convention of this module when None.
    seen_through_px : σ per axis of a Gaussian that `total` was blurred with after its noise had come in.

    Raises
    ------
    FieldError : a total outside 0..1 on average, so not a calibrated volume fraction.
    """
    _require_fraction(total)
    sd = estimate_noise_sd(total.values, mask=total.mask) if noise_sd is None else noise_sd
    smooth, sharpened, taps = _denoise(total, sd, parameters.interface_length_um)
    constant_sd = 0.0
    if constant is None:
        background = BACKGROUND_HETEROCHROMATIN
        level, constant_sd = dark_level(total, sd, parameters, seen_through_px=seen_through_px)
        constant = level + float(bulk_potential(background, parameters.phi_max)) - background
    phi_h, outside = _heterochromatin(constant - sharpened, parameters.phi_max)
    return ChromatinSplit(
        phi_h=Field(phi_h, total.grid, "1", total.mask),
        phi_e=Field(smooth - phi_h, total.grid, "1", total.mask),
        constant=constant,
        constant_sd=constant_sd,
        noise_sd=sd,
        response_h=1.0 / (1.0 - bulk_stiffness(phi_h, parameters.phi_max)),
        smoothing=taps,
        unsplit_fraction=float(np.mean(outside[total.mask])),
    )


def dark_level(
    total: Field,
    noise_sd: float,
    parameters: ChromatinParameters,
    *,
    seen_through_px: Sequence[float] | None = None,
) -> tuple[float, float]:
    """Return total chromatin between domains at the noise `LEVEL_NOISE`, and how well that is known.

    Parameters
    ----------
    noise_sd : of the pixels of `total`, over all of the nucleus.
    seen_through_px : as in `split_total`.
    """
    pixels, taps, _ = _mollifier(total, noise_sd, parameters.interface_length_um)
    if pixels > LEVEL_HALF_WIDTH_PX:
        taps = _taps(total.grid, LEVEL_HALF_WIDTH_PX)
    smoothing = [value for value, _ in taps]
    smooth = _correlate(_filled_from_inside(total.values, total.mask), smoothing)
    if seen_through_px is not None:
        smoothing = [
            np.convolve(t, gaussian_taps(s)) for t, s in zip(smoothing, seen_through_px, strict=True)
        ]
    left = noise_sd * float(np.prod([np.linalg.norm(t) for t in smoothing]))
    left *= noise_in_the_dark(total.values, smooth, total.mask)
    seen = smooth[total.mask]
    level = percentile_at_noise(seen, BACKGROUND_PERCENTILE, noise_sd=left, wanted_sd=LEVEL_NOISE)
    return level, LEVEL_CORRECTION_SD * abs(level - float(np.percentile(seen, BACKGROUND_PERCENTILE)))


def split_chromatin(
    total: Any,
    *,
    pixel_size_um: float | Sequence[float] | Any,
    parameters: ChromatinParameters | None = None,
    mask: Any = None,
    noise_sd: float | None = None,
    split_constant: float | None = None,
) -> tuple[FloatField, FloatField]:
    """Split total chromatin into heterochromatin and euchromatin by the steady water balance.

    Parameters
    ----------
    total : c = φ_h + φ_e as a volume fraction, (y, x) or (z, y, x), numpy or torch.
    pixel_size_um : one number, or one per axis.
    parameters : of the free energy; the defaults when None.
    mask : True inside the nucleus; everywhere when None.
    noise_sd : noise of `total` per pixel; estimated when None.
    split_constant : C = μ_h + μ_e; when None, the dark level between domains is taken to hold
        `BACKGROUND_HETEROCHROMATIN`. An error of 0.01 moves the mean ratio of the rates by about 10 %.

    Returns
    -------
    φ_h, φ_e : arrays of the shape of `total`; NaN outside the mask.

    Raises
    ------
    FieldError : not a volume fraction, NaN inside the mask, or shapes that differ.

    References
    ----------
    Kant et al., Nat. Commun. 15, 4338 (2024), doi:10.1038/s41467-024-48698-z (the free energy).
    """
    values = as_array(total, "total")
    sizes = as_array(pixel_size_um, "pixel_size_um")
    spacing = (float(sizes),) * values.ndim if sizes.ndim == 0 else tuple(sizes.tolist())
    field = Field(values, Grid(values.shape, spacing), "1", None if mask is None else as_mask(mask))
    split = split_total(
        field, parameters or ChromatinParameters(), noise_sd=noise_sd, constant=split_constant
    )
    return split.phi_h.filled(), split.phi_e.filled()


def _heterochromatin(left_side: FloatField, phi_max: float) -> tuple[FloatField, Mask]:
    """Solve f(φ) - φ = left_side for φ; also return where there is no root."""
    # f(φ) - φ turns where f' = 1, at ½ φ_max ± ½ √(φ_max² / 3 + 2 / 3). At 0.9 of that, φ_h is 0.06 outside
    # [0, φ_max] and noise is amplified fourfold: farther out the balance says nothing.
    half = 0.45 * np.sqrt(phi_max**2 / 3.0 + 2.0 / 3.0)
    table = np.linspace(0.5 * phi_max - half, 0.5 * phi_max + half, _TABLE_SIZE)
    values = bulk_potential(table, phi_max) - table
    outside = (left_side > values[0]) | (left_side < values[-1])
    held = np.clip(left_side, values[-1], values[0])  # reported by the caller as `unsplit_fraction`
    phi = np.interp(held, values[::-1], table[::-1])
    for _ in range(_NEWTON_STEPS):
        slope = bulk_stiffness(phi, phi_max) - 1.0
        phi = phi - (bulk_potential(phi, phi_max) - phi - held) / slope
    return phi, outside


def _denoise(
    total: Field, sd: float, interface_um: float
) -> tuple[FloatField, FloatField, tuple[np.ndarray, ...]]:
    """Return c and (1 - ℓ²Δ) c, both mollified, and the taps per axis of the latter.

    The mollifier is the narrowest that leaves (1 - ℓ²Δ) c a noise of at most `TOLERABLE_NOISE`, since the
    split is not linear.
    """
    filled = _filled_from_inside(total.values, total.mask)
    _, taps, noise_taps = _mollifier(total, sd, interface_um)
    smooth = _correlate(filled, [value for value, _ in taps])
    laplacian = np.zeros_like(smooth)
    for axis in range(filled.ndim):
        laplacian += _correlate(filled, [pair[int(i == axis)] for i, pair in enumerate(taps)])
    return smooth, smooth - interface_um**2 * laplacian, noise_taps


def _mollifier(
    total: Field, sd: float, interface_um: float
) -> tuple[float, list[tuple[np.ndarray, np.ndarray]], tuple[np.ndarray, ...]]:
    """Return the half-width in pixels, the taps per axis of the value and its second derivative, and those of noise."""
    widths = [w for w in SMOOTHING_HALF_WIDTHS_PX if w < min(total.grid.shape)]
    if not widths:
        raise FieldError(
            f"A total of shape {total.grid.shape}.",
            expected=f"more than {SMOOTHING_HALF_WIDTHS_PX[0]:g} pixels along each axis.",
            do="drop nuclei of a few pixels.",
        )
    for pixels in widths:
        taps = _taps(total.grid, pixels)
        noise_taps, gain = _noise_taps(taps, interface_um**2)
        if sd * gain <= TOLERABLE_NOISE:
            break
    return pixels, taps, noise_taps


def _taps(grid: Grid, half_width_px: float) -> list[tuple[np.ndarray, np.ndarray]]:
    values, seconds = (
        [taps_1d(SMOOTHING_KERNEL, k, half_width=half_width_px * h, spacing=h) for h in grid.spacing_um]
        for k in (0, 2)
    )
    return list(zip(values, seconds, strict=True))


def _noise_taps(
    taps: list[tuple[np.ndarray, np.ndarray]], ell2: float
) -> tuple[tuple[np.ndarray, ...], float]:
    """Return separable taps that stand for those of 1 - ℓ²Δ in noise, and the norm that both have.

    Π (1 - κ ℓ²∂_j²) with κ = 1 would add terms of order ℓ⁴, which dominate where pixels are much finer than ℓ.
    """
    exact = _outer([value for value, _ in taps])
    for axis in range(len(taps)):
        exact = exact - ell2 * _outer([pair[int(i == axis)] for i, pair in enumerate(taps)])
    norm = float(np.linalg.norm(exact))

    def separable(kappa: float) -> list[np.ndarray]:
        return [value - kappa * ell2 * second for value, second in taps]

    def excess(kappa: float) -> float:
        return float(np.prod([np.linalg.norm(t) for t in separable(kappa)])) - norm

    kappa = 1.0 if excess(1.0) <= 0.0 else brentq(excess, 0.0, 1.0)
    return tuple(separable(kappa)), norm


def gaussian_taps(sd_px: float) -> np.ndarray:
    """Weights of a Gaussian mean of that standard deviation."""
    reach = int(4.0 * sd_px + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sd_px, 1e-9)) ** 2)
    return np.asarray(weights / weights.sum())


def _outer(vectors: list[np.ndarray]) -> np.ndarray:
    product = np.array(1.0)
    for vector in vectors:
        product = np.multiply.outer(product, vector)
    return product


def _correlate(field: FloatField, taps: list[np.ndarray]) -> FloatField:
    for axis, weights in enumerate(taps):
        field = ndimage.correlate1d(field, weights, axis=axis, mode="reflect")
    return field


def _filled_from_inside(values: FloatField, mask: Mask) -> FloatField:
    """Continue the nucleus outwards with its nearest pixel, so that smoothing does not mix in the outside."""
    nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    return np.ascontiguousarray(values[tuple(nearest)], dtype=np.float64)


def _require_fraction(total: Field) -> None:
    mean = float(total.values[total.mask].mean()) if total.mask.any() else np.nan
    if not 0.0 < mean < 1.0:
        raise FieldError(
            f"Total chromatin averages {mean:.4g} over {np.count_nonzero(total.mask)} pixels.",
            expected="a volume fraction between 0 and 1.",
            do="calibrate the intensities to volume fractions first, and check the mask.",
        )
