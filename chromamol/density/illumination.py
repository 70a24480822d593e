"""Uneven illumination: each pixel sees the offset of the camera and light that the illumination scales,

    I = offset + s(y, x) · light,        so        I' = offset + (I - offset) / s,        ⟨s⟩ = 1 over the field.

s is an image of an even sample (a flat field), or what the background outside nuclei shows of it: a paraboloid, fitted
to what is left of the background above the offset. That can only be done where there is some, and where it lies around
the whole field: the error of s says whether.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from skimage.measure import block_reduce

from chromamol.errors import ImageContentError
from chromamol.nucleus.background import NORMAL_SD_PER_MAD
from chromamol.shapes import FloatField, Mask

BLOCKS = 32
"""Blocks along the longer side of the field, to whose means the paraboloid is fitted."""

LARGEST_ERROR = 0.05
"""Relative standard error of s, anywhere in the field, above which the background does not tell it."""

DARKEST = 0.1
"""Least s: where a flat field is darker, there is no image to correct."""

_TERMS = 6
_LEAST_BLOCKS = 5 * _TERMS


@dataclass(frozen=True, eq=False)
class Shading:
    """Illumination of a field.

    Parameters
    ----------
    values : s, (y, x), of mean 1.
    offset : intensity without light.
    note : where s is from, for the record.
    """

    values: FloatField
    offset: float
    note: str

    def correct(self, image: np.ndarray) -> np.ndarray:
        """Return I', float32; `image` is (y, x) or (z, y, x)."""
        return np.asarray((self.offset + (image - self.offset) / self.values), dtype=np.float32)


def flat_field_shading(flat: np.ndarray, *, offset: float, name: str) -> Shading:
    """Return the illumination that an image of an even sample shows.

    Parameters
    ----------
    flat : (y, x), taken with the same camera offset.
    name : of its file, for the record.

    Raises
    ------
    ImageContentError : pixels that are not finite, or so dark that there is no light to divide by.
    """
    light = flat.astype(np.float64) - offset
    mean = float(light.mean())
    if not (np.isfinite(light).all() and mean > 0.0 and light.min() >= DARKEST * mean):
        raise ImageContentError(
            f"{name}: a flat field of {light.min():.4g} to {light.max():.4g} above the offset {offset:g}.",
            expected=f"light everywhere, no pixel below {DARKEST:g} of the mean.",
            do="check that it is an image of an even sample, and --set camera_offset.",
        )
    values = light / mean
    low, high = float(values.min()), float(values.max())
    return Shading(values, offset, f"illumination divided by {name} ({low:.3g} to {high:.3g} of its mean, "
                                   f"camera offset {offset:g})")  # fmt: skip


def estimate_shading(image: np.ndarray, outside: Mask, *, offset: float) -> tuple[Shading | None, str]:
    """Fit the illumination to the background.

    Parameters
    ----------
    image : (y, x).
    outside : True well away from nuclei, whose haze is no illumination.
    offset : intensity without light: what lies above it is taken for background that the illumination scales.

    Returns
    -------
    The illumination, or None where the background does not tell it; and a sentence for the record.
    """
    block = max(1, -(-max(image.shape) // BLOCKS))
    light = np.where(outside, image.astype(np.float64) - offset, 0.0)
    counted = block_reduce(outside.astype(np.float64), block, np.sum)
    enough = counted >= 0.5 * block**2
    if np.count_nonzero(enough) < _LEAST_BLOCKS:
        return None, "illumination left as it is: too little background outside nuclei"
    means = block_reduce(light, block, np.sum)[enough] / counted[enough]
    middles = [(np.arange(n) + 0.5) * block - 0.5 for n in enough.shape]
    at = _paraboloid(middles[0][:, None], middles[1], image.shape)[enough]
    typical = max(float(np.median(means)), np.finfo(float).tiny)
    found = least_squares(lambda c: (at @ c - means) / typical, np.linalg.lstsq(at, means, rcond=None)[0],
                          loss="soft_l1", f_scale=0.05)  # fmt: skip
    # Robust: debris in a few blocks hardly moved the fit, and must not make it look worse than it is.
    scatter = NORMAL_SD_PER_MAD * float(np.median(np.abs(at @ found.x - means)))
    scatter *= np.sqrt(len(means) / (len(means) - _TERMS))
    covariance = scatter**2 * np.linalg.inv(at.T @ at)
    everywhere = _paraboloid(np.arange(image.shape[0])[:, None], np.arange(image.shape[1]), image.shape)
    values = everywhere @ found.x
    mean = float(values.mean())
    error = float(np.sqrt(np.einsum("...i,ij,...j->...", everywhere, covariance, everywhere).max())) / abs(
        mean
    )
    if not (mean > 0.0 and error <= LARGEST_ERROR and values.min() >= DARKEST * mean):
        return None, f"illumination left as it is: the background tells it to {error:.2g} only"
    shading = values / mean
    note = (f"illumination estimated from the background ({shading.min():.3g} to {shading.max():.3g} of its mean, "
            f"± {error:.1g}, camera offset {offset:g})")  # fmt: skip
    return Shading(shading, offset, note), note


def _paraboloid(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The terms 1, y, x, y², xy, x² at pixels, in units of the field's half sides."""
    y, x = (2.0 * v / max(n - 1, 1) - 1.0 for v, n in zip((rows, columns), shape, strict=True))
    terms = (1.0, y, x, y**2, x * y, x**2)
    return np.stack(np.broadcast_arrays(*terms, y + x)[:_TERMS], axis=-1)
