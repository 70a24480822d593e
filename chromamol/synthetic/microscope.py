"""A synthetic microscope: from volume fractions to camera counts.

Light is linear: density -> blur by the point spread function -> integral over the camera's pixel -> uneven
field -> Poisson counts -> read noise and offset. Every step is a function on arrays; `Microscope` chains them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chromamol.errors import FieldError, ParameterError
from chromamol.shapes import FloatField
from chromamol.synthetic.optics import GaussianSpread, PointSpread, require_density

UINT16_MAX = 65_535
EXPECTED_DECIMALS = 3


@dataclass(frozen=True)
class Microscope:
    """How an image is formed.

    Parameters
    ----------
    psf_sigma_um : standard deviation of a Gaussian point spread function, one number or one per axis.
        A confocal of numerical aperture 1.4 at 500 nm has about 0.1 um in the plane and 0.3 um along z.
    counts_per_fraction : mean photo-electrons per pixel at volume fraction 1.
    offset : counts that the camera adds to every pixel.
    read_noise : standard deviation of the electronics' noise, in counts.
    background : volume fraction that light from outside the nucleus amounts to.
    unevenness : relative drop of the illumination from the centre of the field to its corners.
    psf : another point spread function, in place of the Gaussian.
    binning : grid cells per camera pixel along y and x. The density is blurred on its own grid, and each
        pixel collects what falls on its area.
    """

    psf_sigma_um: float | tuple[float, ...] = 0.1
    counts_per_fraction: float = 2000.0
    offset: float = 100.0
    read_noise: float = 2.0
    background: float = 0.0
    unevenness: float = 0.0
    psf: PointSpread | None = None
    binning: int = 1

    def __post_init__(self) -> None:
        values = [*np.atleast_1d(self.psf_sigma_um), self.offset, self.read_noise, self.background,
                  self.counts_per_fraction]  # fmt: skip
        good = all(math.isfinite(v) and v >= 0.0 for v in values) and self.binning >= 1
        if not (good and self.counts_per_fraction > 0.0 and 0.0 <= self.unevenness < 1.0):
            raise ParameterError(
                f"{self}.",
                expected="finite numbers >= 0, gain > 0, unevenness in [0, 1), binning >= 1.",
                do="see the docstring of Microscope for each one's meaning.",
            )

    def expected(self, density: FloatField, pixel_size_um: Sequence[float]) -> FloatField:
        """Mean counts without the offset, on the camera's pixels.

        Parameters
        ----------
        density : a volume fraction, 0..1, (y, x) or (z, y, x). z is not binned: each plane is an exposure.
        pixel_size_um : cell of the density's grid per axis.
        """
        require_density(density, pixel_size_um)
        psf = self.psf or GaussianSpread(self.psf_sigma_um)
        blurred = psf.spread(density, pixel_size_um)
        light = bin_pixels(blurred, (1,) * (density.ndim - 2) + (self.binning,) * 2) + self.background
        return self.counts_per_fraction * light * illumination(light.shape, self.unevenness)

    def image(
        self, density: FloatField, pixel_size_um: Sequence[float], *, rng: np.random.Generator
    ) -> np.ndarray:
        """Return one exposure, or one per plane, as uint16 counts.

        Raises
        ------
        FieldError : a density that is negative or not finite, or counts beyond 16 bits (a real camera would saturate
            silently).
        ParameterError : cell sizes or widths that do not fit the density, or a binning beyond it.
        """
        return self.exposed(self.expected(density, pixel_size_um), rng=rng)

    def exposed(self, expected: FloatField, *, rng: np.random.Generator) -> np.ndarray:
        """Return counts of the given mean: shot noise, read noise, offset, rounding to uint16."""
        if not (np.isfinite(expected).all() and (expected >= 0.0).all()):
            raise FieldError("Mean counts that are negative, NaN or infinite.", expected="finite counts >= 0.",
                             do="take them from Microscope.expected.")  # fmt: skip
        _require_range(expected.max() + self.offset)
        # Rounded, or a last bit that differs between machines would send the generator another way.
        counts = rng.poisson(np.round(expected, EXPECTED_DECIMALS)).astype(np.float64)
        counts += self.offset + self.read_noise * rng.standard_normal(expected.shape)
        _require_range(counts.max())
        return np.rint(np.maximum(counts, 0.0)).astype(np.uint16)

    def channels(
        self, densities: Sequence[FloatField], pixel_size_um: Sequence[float], *, rng: np.random.Generator,
        gains: Sequence[float] | None = None, crosstalk: float = 0.0,
    ) -> np.ndarray:  # fmt: skip
        """Return exposures of several stains, (channel, *pixels), uint16.

        Parameters
        ----------
        densities : one volume fraction per stain.
        gains : relative brightness of the stains; 1 when omitted.
        crosstalk : share of each stain's light that each other channel also sees.

        Raises
        ------
        ParameterError : gains that do not fit, or a crosstalk outside [0, 1).
        """
        gains = [1.0] * len(densities) if gains is None else gains
        if len(gains) != len(densities) or min(gains) <= 0.0 or not 0.0 <= crosstalk < 1.0:
            raise ParameterError(f"gains {tuple(gains)} for {len(densities)} stains, crosstalk {crosstalk}.",
                                 expected="one positive gain per stain, crosstalk in [0, 1).",
                                 do="correct them.")  # fmt: skip
        own = [g * self.expected(d, pixel_size_um) for g, d in zip(gains, densities, strict=True)]
        total = np.sum(own, axis=0)
        return np.stack([self.exposed(light + crosstalk * (total - light), rng=rng) for light in own])


def _require_range(brightest: float) -> None:
    if brightest > UINT16_MAX:
        raise FieldError(f"The brightest pixel has {brightest:.0f} counts.", expected=f"at most {UINT16_MAX}.",
                         do="lower counts_per_fraction.")  # fmt: skip


def blur(
    density: FloatField, pixel_size_um: Sequence[float], psf_sigma_um: float | tuple[float, ...]
) -> FloatField:
    """Convolve with a Gaussian of the given width; nothing lies beyond the border of the array."""
    require_density(density, pixel_size_um)
    return GaussianSpread(psf_sigma_um).spread(density, pixel_size_um)


def illumination(shape: Sequence[int], unevenness: float) -> FloatField:
    """Return a paraboloid, 1 at the centre of the last two axes and 1 - `unevenness` at their corners."""
    y, x = (np.linspace(-1.0, 1.0, n) for n in shape[-2:])
    field = 1.0 - unevenness * 0.5 * (y[:, None] ** 2 + x**2)
    return np.broadcast_to(field, tuple(shape))


def bin_pixels(values: FloatField, factor: int | Sequence[int]) -> FloatField:
    """Average over blocks of `factor` pixels along each axis; a rest at the far side is dropped.

    Raises
    ------
    ParameterError : blocks larger than the array.
    """
    factors = np.broadcast_to(factor, values.ndim)
    if any(not 1 <= f <= n for f, n in zip(factors, values.shape, strict=True)):
        raise ParameterError(f"Blocks of {tuple(map(int, factors))} pixels of an array of shape {values.shape}.",
                             expected="blocks from 1 pixel to the whole array.", do="bin by less.")  # fmt: skip
    kept = values[tuple(slice(0, n - n % f) for n, f in zip(values.shape, factors, strict=True))]
    blocks = [int(m) for n, f in zip(kept.shape, factors, strict=True) for m in (n // f, f)]
    return kept.reshape(blocks).mean(axis=tuple(range(1, 2 * values.ndim, 2)))


def resample(values: FloatField, spacing_um: Sequence[float], pixel_size_um: Sequence[float]) -> FloatField:
    """Bring a density onto pixels of another size: each holds the mean of the density over its area.

    The density is even within a cell. The amount is kept to rounding, and no value leaves the range of the
    density. The last pixel may reach beyond the array, where nothing lies.
    """
    # Differences of sums leave -1e-15 where nothing lies, which is no volume fraction.
    least, most = min(0.0, float(values.min())), max(0.0, float(values.max()))
    for axis, (h, pixel) in enumerate(zip(spacing_um, pixel_size_um, strict=True)):
        cells = values.shape[axis]
        moved = np.moveaxis(values, axis, -1)
        integral = np.concatenate([np.zeros((*moved.shape[:-1], 1)), h * np.cumsum(moved, axis=-1)], axis=-1)
        edges = np.minimum(pixel * np.arange(pixels_across(cells, h, pixel) + 1) / h, cells)
        edges[-1] = cells
        low = np.minimum(edges.astype(int), cells - 1)
        share = edges - low
        at_edges = (1.0 - share) * integral[..., low] + share * integral[..., low + 1]
        values = np.moveaxis(np.diff(at_edges, axis=-1) / pixel, -1, axis)
    return np.asarray(np.clip(values, least, most))


def nearest_cell(
    values: np.ndarray, spacing_um: Sequence[float], pixel_size_um: Sequence[float]
) -> np.ndarray:
    """Bring masks or maps onto the pixels of `resample`: the value of the cell in which each middle lies."""
    indices = [
        np.minimum(((np.arange(pixels_across(n, h, pixel)) + 0.5) * pixel / h).astype(int), n - 1)
        for n, h, pixel in zip(values.shape, spacing_um, pixel_size_um, strict=True)
    ]
    return values[np.ix_(*indices)]


def pixels_across(cells: int, spacing_um: float, pixel_um: float) -> int:
    """Pixels that cover so many cells; one that would hold less than a thousandth of a pixel is rounding."""
    return math.ceil(cells * spacing_um / pixel_um - 1e-3)
