"""Which pixels are nuclear: nearer to the brightest than to the darkest level around them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32
from scipy import ndimage
from skimage.filters import threshold_otsu

from chromamol.nucleus.settings import SegmentationSettings
from chromamol.shapes import Mask

Image = Float32[np.ndarray, "..."]
SOFT_KNEE = 0.02  # of the 99.5th percentile: about where background haze ends


def soft_root(values: Image) -> Image:
    """Square root of the light, linear where it is faint: dim nuclei speak, dark noise doesn't shout."""
    light = np.maximum(values - np.percentile(values, 1), 0)
    knee = max(SOFT_KNEE * float(np.percentile(light, 99.5)), 1e-12 * float(light.max()))
    return (np.sqrt(light + knee) - np.sqrt(knee)).astype(np.float32)


def nuclear_pixels(
    light: Image,
    *,
    spacing: tuple[float, ...],
    radius: float,
    settings: SegmentationSettings,
) -> Mask:
    """Return the pixels nearer to the bright than to the dark level around them, where the two differ enough.

    Parameters
    ----------
    light : denoised light, its square root taken.
    spacing : pixel spacing along each axis, in the unit of `radius`.
    radius : typical nuclear radius.
    """

    def pixels(radii: float) -> list[float]:
        return [radii * radius / h for h in spacing]

    def window(radii: float) -> tuple[int, ...]:
        return tuple(2 * max(1, round(n)) + 1 for n in pixels(radii))

    blurred = ndimage.gaussian_filter(light, pixels(settings.peak_radii))
    dark = ndimage.minimum_filter(blurred, size=window(settings.dark_radii))
    dark = ndimage.gaussian_filter(dark, pixels(0.5 * settings.dark_radii))
    typical = threshold_otsu(blurred.ravel()) - float(np.percentile(blurred, 1))
    enough = light - dark > settings.global_fraction * typical
    bright = ndimage.maximum_filter(blurred, size=window(settings.bright_radii))
    bright = ndimage.gaussian_filter(bright, pixels(0.5 * settings.bright_radii))
    mask = enough & (light > dark + settings.local_fraction * (bright - dark))
    # In 3D a hole closed by noise in one plane may be most of the image: only planes are filled.
    return ndimage.binary_fill_holes(mask) if light.ndim == 2 else mask
