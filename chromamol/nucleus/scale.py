"""How large the nuclei of an image are, seen from the image alone."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Float32
from scipy import ndimage

from chromamol.nucleus.background import block_mean, pixel_noise

Image = Float32[np.ndarray, "..."]

SMALLEST_RADIUS = 2.5  # pixels; below it outline and touching neighbours can't be told
SCALE_STEP = 2 ** (1 / 3)  # finer than anything that uses the radius
SIGMAS_PER_BLOCK = 2.0  # a blob filter of 3 blocks is still smooth on block means
NOISE_SDS = 5.0  # white noise reaches 4.5 somewhere in a million pixels
COARSER_SCORE, COARSER_RISE = 0.65, 2.3
"""What a coarser summit needs of the best score and of the valley before it. Of the 200 labelled fields of the tuning
half one reaches both; clusters of nuclei and haze have no valley that deep."""
DISC_PER_ANSWER = 1 / 1.2  # measured on labelled fields: outlines and clumps draw the best answer outwards


def nuclear_radius(
    values: Image, spacing: tuple[float, ...], *, limits: tuple[float, float] = (0.0, math.inf)
) -> float | None:
    """Estimate the typical nuclear radius in the unit of `spacing`, without a threshold; None when nothing
    rises above the noise.

    A Laplacian-of-Gaussian filter of width s answers most strongly to discs of radius s √2 (balls: s √3). The
    radius is the one whose answers, squared and weighted by the radius, sum up highest: weighting by
    contrast keeps chromatin texture from winning by number, weighting by radius and not by area keeps haze
    and embryos from winning by size.

    Parameters
    ----------
    values : light above the dark level; a square root of it lets dim nuclei speak too.
    spacing : pixel spacing along each axis.
    limits : smallest and largest radius to consider.

    References
    ----------
    Lindeberg 1998, Feature detection with automatic scale selection, Int. J. Comput. Vis. 30:79,
    doi 10.1023/A:1008045108935.
    """
    extent = min(n * h for n, h in zip(values.shape, spacing, strict=True) if n > 1)
    low = max(SMALLEST_RADIUS, limits[0])
    high = max(low, min(extent / 3, limits[1]))
    radii = low * SCALE_STEP ** np.arange(1 + math.floor(math.log(high / low) / math.log(SCALE_STEP)))
    noise = pixel_noise(values)
    scores = [_blob_score(values, spacing, r, noise) for r in radii]
    if max(scores) == 0:
        return None
    return max(low, DISC_PER_ANSWER * float(radii[_nuclear_scale(np.array(scores))]))


def _nuclear_scale(scores: Float[np.ndarray, " radii"]) -> int:
    """Return which radius is that of nuclei: the best, or a second, coarser summit nearly as high beyond a deep
    valley: then the best is that of the dense domains inside. A summit at the largest radius is the field's own."""
    best = int(np.argmax(scores))
    for i in range(len(scores) - 2, best, -1):
        summit = scores[i] >= max(scores[i - 1], scores[i + 1])
        if (
            summit
            and scores[i] > COARSER_SCORE * scores[best]
            and scores[i] > COARSER_RISE * scores[best:i].min()
        ):
            return i
    return best


def _blob_score(values: Image, spacing: tuple[float, ...], radius: float, noise: float) -> float:
    sigma = radius / math.sqrt(values.ndim)
    factors = tuple(
        max(1, min(n, int(sigma / (SIGMAS_PER_BLOCK * h))))
        for n, h in zip(values.shape, spacing, strict=True)
    )
    coarse = block_mean(values, factors)
    widths = [sigma / (h * f) for h, f in zip(spacing, factors, strict=True)]
    smooth = ndimage.gaussian_filter(coarse, widths, mode="nearest")
    answer = np.zeros_like(coarse)
    for axis, width in enumerate(widths):
        answer -= width**2 * ndimage.correlate1d(smooth, [1.0, -2.0, 1.0], axis=axis, mode="nearest")
    size = tuple(2 * max(1, round(width)) + 1 for width in widths)
    d = values.ndim
    # Standard deviation of the filter's answer to white noise, times what noise reaches by chance.
    reach = math.prod(math.sqrt(4 * math.pi) * sigma / h for h in spacing)
    floor = NOISE_SDS * noise * math.sqrt(d * (d + 2) / 4 / reach)
    peaks = answer[(answer == ndimage.maximum_filter(answer, size=size)) & (answer > floor)]
    return radius * float(np.sum(peaks.astype(float) ** 2))
