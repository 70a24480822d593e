"""A variance that few samples tell, by what they tell nearby.

Eight samples leave a standard error uncertain by a quarter. It varies as slowly as the rates do, but by a factor of ten
towards a border, over few correlation lengths: so its logarithm is fitted by a plane around every pixel, which follows
such a slope up to the border where a mean would blur it.

References
----------
Fan & Gijbels, Local Polynomial Modelling and Its Applications (1996), section 3.1 (why a plane).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage, special

from chromamol.shapes import FloatField, Mask

RIDGE = 1e-3
"""Of the slopes, over the number of pixels: a nucleus narrower than the neighbourhood determines none."""


def pooled_variance(variance: FloatField, mask: Mask, width_px: Sequence[float], samples: int) -> FloatField:
    """Return the variance pooled over neighbours within the mask; 0 outside.

    Parameters
    ----------
    variance : the mean square of Gaussian deviations in each pixel, above zero within the mask.
    width_px : standard deviation of the neighbourhood, per axis.
    samples : deviations per pixel, for ⟨ln χ²/k⟩ = ψ(k/2) - ln(k/2) < 0.
    """
    inside = mask.astype(float)
    logarithm = np.log(np.where(mask, variance, 1.0))
    axes = np.ix_(*(np.arange(n) / width for n, width in zip(mask.shape, width_px, strict=True)))
    terms = [inside, *(inside * axis for axis in axes)]

    def near(values: FloatField) -> FloatField:
        """Weighted sums around the pixels of the mask."""
        return np.asarray(ndimage.gaussian_filter(values, width_px, mode="constant")[mask])

    count = len(terms)
    moments = np.empty((np.count_nonzero(mask), count, count + 1))
    for i, term in enumerate(terms):
        moments[:, i, count] = near(term * logarithm)
        for j in range(i, count):
            other = 1.0 if j == 0 else axes[j - 1]
            moments[:, i, j] = moments[:, j, i] = near(term * other)
    # Moved to the pixel itself, so that the plane's height there is its first coefficient.
    move = np.zeros((len(moments), count, count))
    move[:] = np.eye(count)
    move[:, 1:, 0] = -np.stack([np.broadcast_to(axis, mask.shape)[mask] for axis in axes], axis=1)
    matrix, right = move @ moments[..., :count] @ move.swapaxes(1, 2), move @ moments[..., count:]
    slopes = np.arange(1, count)
    matrix[:, slopes, slopes] += RIDGE * matrix[:, :1, 0]
    bias = special.digamma(0.5 * samples) - np.log(0.5 * samples)
    pooled = np.zeros(mask.shape)
    pooled[mask] = np.exp(np.linalg.solve(matrix, right)[:, 0, 0] - bias)
    return pooled
