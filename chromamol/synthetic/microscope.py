"""A synthetic microscope: from volume fractions to camera counts.

Light is linear: density -> blur by the point spread function -> average over the pixel -> uneven field
-> Poisson counts -> read noise and offset. Every step is a function on arrays; `Microscope` chains them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from chromamol.errors import FieldError, ParameterError
from chromamol.shapes import FloatField

UINT16_MAX = 65_535
EXPECTED_DECIMALS = 3


@dataclass(frozen=True)
class Microscope:
    """How an image is formed.

    Parameters
    ----------
    psf_sigma_um : standard deviation of the Gaussian point spread function, one number or one per axis.
        A confocal of numerical aperture 1.4 at 500 nm has about 0.1 um in the plane and 0.3 um along z.
    counts_per_fraction : mean photo-electrons per pixel at volume fraction 1.
    offset : counts that the camera adds to every pixel.
    read_noise : standard deviation of the electronics' noise, in counts.
    background : volume fraction that light from outside the nucleus amounts to.
    unevenness : relative drop of the illumination from the centre of the field to its corners.
    """

    psf_sigma_um: float | tuple[float, ...] = 0.1
    counts_per_fraction: float = 2000.0
    offset: float = 100.0
    read_noise: float = 2.0
    background: float = 0.0
    unevenness: float = 0.0

    def __post_init__(self) -> None:
        values = [*np.atleast_1d(self.psf_sigma_um), self.offset, self.read_noise, self.background]
        good = all(math.isfinite(v) and v >= 0.0 for v in values)
        if not (good and self.counts_per_fraction > 0.0 and 0.0 <= self.unevenness < 1.0):
            raise ParameterError(f"{self}.", expected="finite numbers >= 0, gain > 0, unevenness in [0, 1).",
                                 do="see the docstring of Microscope for each one's meaning.")  # fmt: skip

    def expected(self, density: FloatField, pixel_size_um: Sequence[float]) -> FloatField:
        """Mean counts without the offset, same shape as `density` (a volume fraction, 0..1)."""
        light = blur(density, pixel_size_um, self.psf_sigma_um) + self.background
        return self.counts_per_fraction * light * illumination(density.shape, self.unevenness)

    def image(
        self, density: FloatField, pixel_size_um: Sequence[float], *, rng: np.random.Generator
    ) -> np.ndarray:
        """Return one exposure as uint16 counts.

        Raises
        ------
        FieldError : a negative density, or counts beyond 16 bits (a real camera would saturate silently).
        """
        # Rounded, or a last bit that differs between machines would send the generator another way.
        expected = np.round(self.expected(density, pixel_size_um), EXPECTED_DECIMALS)
        counts = rng.poisson(expected).astype(np.float64)
        counts += self.offset + self.read_noise * rng.standard_normal(density.shape)
        if counts.max() > UINT16_MAX:
            raise FieldError(f"The brightest pixel has {counts.max():.0f} counts.",
                             expected=f"at most {UINT16_MAX}.", do="lower counts_per_fraction.")  # fmt: skip
        return np.rint(np.maximum(counts, 0.0)).astype(np.uint16)


def blur(
    density: FloatField, pixel_size_um: Sequence[float], psf_sigma_um: float | tuple[float, ...]
) -> FloatField:
    """Convolve with a Gaussian of the given width; nothing lies beyond the border of the array."""
    if (density < 0.0).any():
        raise FieldError(f"The density goes down to {density.min():.3g}.", expected="volume fractions >= 0.",
                         do="pass the simulated fields themselves.")  # fmt: skip
    sigmas = np.broadcast_to(psf_sigma_um, density.ndim) / np.asarray(pixel_size_um)
    return gaussian_filter(density.astype(np.float64), sigmas, mode="constant", truncate=6.0)


def illumination(shape: Sequence[int], unevenness: float) -> FloatField:
    """Return a paraboloid, 1 at the centre of the last two axes and 1 - `unevenness` at their corners."""
    y, x = (np.linspace(-1.0, 1.0, n) for n in shape[-2:])
    field = 1.0 - unevenness * 0.5 * (y[:, None] ** 2 + x**2)
    return np.broadcast_to(field, tuple(shape))


def bin_pixels(values: FloatField, factor: int) -> FloatField:
    """Average over blocks of `factor` pixels along each axis; a rest at the far side is dropped."""
    kept = values[tuple(slice(0, n - n % factor) for n in values.shape)]
    blocks = [m for n in kept.shape for m in (n // factor, factor)]
    return kept.reshape(blocks).mean(axis=tuple(range(1, 2 * values.ndim, 2)))


def resample(values: FloatField, spacing_um: Sequence[float], pixel_size_um: Sequence[float]) -> FloatField:
    """Bring a density onto another pixel size, keeping its integral.

    The density is first averaged over what a pixel covers (a Gaussian of the box's variance), then
    sampled linearly; the sum is restored, because sampling shifts it by a fraction of a percent.
    """
    ratios = np.asarray(pixel_size_um, dtype=float) / np.asarray(spacing_um, dtype=float)
    widths = np.sqrt(np.maximum(ratios**2 - 1.0, 0.0) / 12.0)
    out = zoom(gaussian_filter(values, widths, mode="constant"), 1.0 / ratios, order=1, grid_mode=True,
               mode="grid-constant")  # fmt: skip
    volume = float(np.prod(ratios))
    return out * (values.sum() / (out.sum() * volume)) if out.sum() > 0.0 else out
