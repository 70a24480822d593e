"""The noise of an image, estimated from the image itself.

The pixels are passed through the filter Π [1, -2, 1] / √6 along every axis, which removes whatever is smooth
on the scale of three pixels and leaves white noise with its standard deviation. Interfaces that are as sharp
as the filter would be counted as noise, so only the flattest part of the image is used, as judged by a
smoothed gradient that hardly depends on what the filter measures.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from chromamol.errors import FieldError
from chromamol.given import as_array, as_mask
from chromamol.shapes import FloatField, Mask

_FILTER = np.array([1.0, -2.0, 1.0]) / np.sqrt(6.0)
_FILTER_1D = np.array([1.0, -4.0, 6.0, -4.0, 1.0]) / np.sqrt(70.0)
FLAT_SHARE = 0.35
_GRADIENT_SIGMA_PX = 1.5
MAD_TO_SD = 1.482602218505602  # 1 / Φ⁻¹(3/4)
LEAST_PIXELS = 30
_FEWEST_FRAMES = 3
_MOTION_AT = 1.02  # an average over frames of the noise in space is known within 1 to 2 %


def estimate_noise_sd(values: FloatField | Any, *, mask: Any = None) -> float:
    """Return the standard deviation of the white noise in an image, in the unit of the values.

    Bias, measured: within 10 % at 5 % noise of the contrast on fields where interfaces of 1 to 2 px cover a
    third of the pixels; below 1 % of the contrast on such fields without noise. Noise that is correlated
    between neighbouring pixels (interpolated or smoothed images) is underestimated, since its high
    frequencies are what is measured.

    Parameters
    ----------
    values : (x,), (y, x) or (z, y, x), float.
    mask : True where the values count; NaN is allowed elsewhere.

    Raises
    ------
    FieldError : fewer than 30 pixels whose neighbours lie inside the mask.
    """
    residual, flat = _flat_residual(as_array(values, "values"), None if mask is None else as_mask(mask))
    return float(MAD_TO_SD * np.median(np.abs(residual[flat])))


def estimate_noise_over_time(frames: FloatField | Any, *, mask: Any = None) -> FloatField:
    """Return the standard deviation of the white noise of every frame of a time-lapse, (t,).

    The second difference of three frames, (u₋ - 2 u + u₊) / √6, holds the noise of all pixels and little of a pattern
    that moves slowly; a frame's noise is the mean over the differences that it is part of. A pattern that moves fast
    leaves more of itself in time than in space, and then each frame is taken by itself. Measured at 5 % of φ_max on 20
    frames of 128 x 128 pixels: within 0.6 % on average, where each frame by itself is 1.2 % too high and scatters by
    1 to 3 %.

    *Convenience*: noise that stays in place (a camera's fixed pattern) is not in the differences.

    Parameters
    ----------
    frames : (t, y, x) or (t, z, y, x), at least 3 frames that stay in place.
    mask : True where the values count.

    Raises
    ------
    FieldError : fewer than 3 frames, or too few pixels in each.
    """
    values = as_array(frames, "frames")
    if values.ndim < 2 or len(values) < _FEWEST_FRAMES:
        raise FieldError(f"Frames of shape {values.shape}.", expected=f"at least {_FEWEST_FRAMES}, time first.",
                         do="use `estimate_noise_sd` for each frame.")  # fmt: skip
    inside = np.ones(values.shape[1:], dtype=bool) if mask is None else as_mask(mask)
    differences = (values[:-2] - 2.0 * values[1:-1] + values[2:])[:, inside] / np.sqrt(6.0)
    variances = (MAD_TO_SD * np.median(np.abs(differences), axis=1)) ** 2
    count = len(values)
    in_time = np.sqrt(
        [variances[max(0, frame - 2) : min(frame, count - 3) + 1].mean() for frame in range(count)]
    )
    in_space = np.array([estimate_noise_sd(frame, mask=mask) for frame in values])
    return in_time if in_time.mean() < _MOTION_AT * in_space.mean() else in_space


def estimate_poisson_read(image: FloatField | Any, *, mask: Any = None) -> tuple[float, float]:
    """Return (gain, b) of the camera model variance = gain · value + b.

    With a camera offset o and a read noise of variance r the second number is b = r - gain · o, so the model
    needs no offset and b may be negative. Both follow from the noise of pixels of like brightness.

    Parameters
    ----------
    image : (y, x) or (z, y, x), in the camera's units.
    mask : True where the values count.

    Returns
    -------
    gain in units per photo-electron (0 if the noise doesn't grow with the value), b in units².

    Raises
    ------
    FieldError : too few pixels, or all of one brightness.
    """
    array, inside = as_array(image, "image"), None if mask is None else as_mask(mask)
    residual, flat = _flat_residual(array, inside)
    filled = array if inside is None else np.where(inside, array, np.median(array[inside]))
    # Brightness from a wide average: it must not share the noise of the residual that it is compared with.
    level = ndimage.gaussian_filter(filled, 2.0)[flat]
    noise = residual[flat]
    bins = np.array_split(np.argsort(level), int(np.clip(noise.size // 200, 2, 40)))
    means = np.array([level[b].mean() for b in bins])
    variances = np.array([(MAD_TO_SD * np.median(np.abs(noise[b]))) ** 2 for b in bins])
    if np.ptp(means) < 1e-9 * max(abs(means).max(), 1e-300):
        raise FieldError(
            "An image of one brightness.",
            expected="bright and dark regions.",
            do="use `estimate_noise_sd`, or calibrate the camera.",
        )
    weight = np.array([b.size for b in bins]) / np.maximum(variances, 1e-3 * variances.max() + 1e-300) ** 2
    gain, offset = np.polyfit(means, variances, 1, w=np.sqrt(weight))
    if gain < 0.0:
        return 0.0, float(np.average(variances, weights=[b.size for b in bins]))
    return float(gain), float(offset)


def _flat_residual(values: FloatField, mask: Mask | None) -> tuple[FloatField, Mask]:
    """Return the high-pass residual and where it is to be trusted."""
    inside = np.isfinite(values) if mask is None else mask
    if inside.shape != values.shape or not np.isfinite(values[inside]).all():
        raise FieldError(
            f"Values of shape {values.shape} with a mask of shape {inside.shape}.",
            expected="one shape, and finite values inside the mask.",
            do="mark NaN pixels as outside.",
        )
    taps = _FILTER_1D if values.ndim == 1 else _FILTER
    usable = ndimage.minimum_filter(inside.astype(np.uint8), taps.size, mode="constant", cval=0) > 0
    if np.count_nonzero(usable) < LEAST_PIXELS:
        raise FieldError(
            f"{np.count_nonzero(usable)} pixels with all neighbours inside the mask.",
            expected=f"at least {LEAST_PIXELS}.",
            do="use a larger region, or pass the noise level.",
        )
    residual = filled = values if inside.all() else np.where(inside, values, np.median(values[inside]))
    for axis in range(values.ndim):
        residual = ndimage.correlate1d(residual, taps, axis=axis)
    gradient = ndimage.gaussian_gradient_magnitude(filled, _GRADIENT_SIGMA_PX)
    return residual, usable & (gradient <= np.quantile(gradient[usable], FLAT_SHARE))
