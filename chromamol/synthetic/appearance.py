"""How a picture of a nucleus looks in numbers: to lay simulated images beside real ones.

Both measures are free of brightness and of the pixel size, so that they compare images of any origin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.ndimage import distance_transform_edt

from chromamol.errors import FieldError
from chromamol.shapes import FloatField, Mask

Curve = Float[np.ndarray, " bins"]

TAPER_UM = 0.5  # over which the window falls to zero at the nuclear border


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Power per spatial frequency.

    Parameters
    ----------
    cycles_per_um : middle of each ring of frequencies.
    power : mean power there, scaled so that its integral over the plane is the variance of the image over
        its squared mean; NaN in rings without a frequency.
    """

    cycles_per_um: Curve
    power: Curve


def intensity_histogram(image: FloatField, mask: Mask, *, bins: int = 40) -> tuple[Curve, Curve]:
    """Return the middle of bins of intensity over the mean, 0..2.5, and the probability density there.

    Parameters
    ----------
    image : (y, x), without the camera's offset.
    mask : pixels that count.
    """
    inside = _require_light(image, mask)
    density, edges = np.histogram(inside / inside.mean(), bins=bins, range=(0.0, 2.5), density=True)
    return 0.5 * (edges[1:] + edges[:-1]), density


def radial_spectrum(image: FloatField, mask: Mask, *, pixel_size_um: float, bins: int = 30) -> Spectrum:
    """Return the power spectrum of the texture inside a nucleus, averaged over directions.

        P(k) = |FFT(w (I / ⟨I⟩ - 1))|² h² / Σ w²,    ∫ P d²k = variance of I / ⟨I⟩

    w is 1 inside and falls smoothly to 0 over 0.5 um at the border, so that the outline has no say.

    Parameters
    ----------
    image : (y, x), without the camera's offset.
    mask : the nucleus.

    Raises
    ------
    FieldError : another shape, an empty mask, or no light in it.
    """
    inside = _require_light(image, mask)
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1] * pixel_size_um
    window = np.sin(0.5 * np.pi * np.minimum(depth / TAPER_UM, 1.0)) ** 2
    mean = (window * image).sum() / window.sum() if window.any() else inside.mean()
    power = np.abs(np.fft.fft2(window * (image / mean - 1.0))) ** 2 * pixel_size_um**2 / (window**2).sum()
    ky, kx = (np.fft.fftfreq(n, pixel_size_um) for n in image.shape)
    wave = np.hypot(ky[:, None], kx).ravel()
    edges = np.linspace(0.0, 0.5 / pixel_size_um, bins + 1)
    ring = np.digitize(wave, edges) - 1
    kept = ring < bins
    total = np.bincount(ring[kept], power.ravel()[kept], minlength=bins)
    count = np.bincount(ring[kept], minlength=bins)
    mean_power = np.divide(total, count, out=np.full(bins, np.nan), where=count > 0)
    return Spectrum(0.5 * (edges[1:] + edges[:-1]), mean_power)


def _require_light(image: FloatField, mask: Mask) -> FloatField:
    inside = image[mask] if image.shape == mask.shape else np.zeros(0)
    if not inside.size or inside.mean() <= 0.0:
        raise FieldError(f"An image of shape {image.shape} with a mask of shape {mask.shape}.",
                         expected="one shape, and light inside the mask.",
                         do="subtract the offset only, and check the mask.")  # fmt: skip
    return inside
