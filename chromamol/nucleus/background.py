"""The image before nuclei are looked for: burned-in marks, dark level, uneven illumination."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

from chromamol.shapes import Mask

MIN_MARK_PIXELS = 12  # a smaller block of equal pixels happens by chance in an 8-bit image
MIN_MARK_EXTENT = 0.95  # marks are filled rectangles; a saturated nucleus is round and fills 0.79 of its box
NORMAL_SD_PER_MAD = 1.4826
SD_PER_TRIMMED_MEAN = 1.52  # mean of |x| below its 90th percentile is 0.66 standard deviations

Image = Float32[np.ndarray, "..."]


def burned_in(image: np.ndarray) -> Mask:
    """Find boxes and scale bars: filled rectangles, in plane, of the image's exact minimum or maximum.

    Background that is truly zero is no rectangle, and a block that spans the whole image along an axis is
    taken for background too.
    """
    found = np.zeros(image.shape, dtype=bool)
    planes = image.reshape(-1, *image.shape[-2:])
    marks = found.reshape(planes.shape)
    for extreme in (image.min(), image.max()):
        for plane, mark in zip(planes, marks, strict=True):
            parts, _ = ndimage.label(plane == extreme)
            areas = np.bincount(parts.ravel())
            for label, box in enumerate(ndimage.find_objects(parts), start=1):
                sides = tuple(s.stop - s.start for s in box)
                big = areas[label] >= MIN_MARK_PIXELS and min(sides) > 1
                spans = any(side == n for side, n in zip(sides, plane.shape, strict=True))
                if big and not spans and areas[label] >= MIN_MARK_EXTENT * sides[0] * sides[1]:
                    mark[box] |= parts[box] == label
    return found


def smooth_where(values: Image, weights: Mask, sigma: tuple[float, ...]) -> Image:
    """Gaussian mean of `values` over the pixels where `weights` is True (normalised convolution).

    Wide Gaussians run on block means, where they are as good and far cheaper. Where no weight is within
    reach, the plain mean of the weighted pixels stands in.
    """
    factors = tuple(max(1, min(int(s // 4), n)) for s, n in zip(sigma, values.shape, strict=True))
    weight = block_mean(weights.astype(np.float32), factors)
    total = block_mean(np.where(weights, values, 0).astype(np.float32), factors)
    narrow = [s / f for s, f in zip(sigma, factors, strict=True)]
    weight = ndimage.gaussian_filter(weight, narrow, mode="nearest")
    total = ndimage.gaussian_filter(total, narrow, mode="nearest")
    mean = values[weights].mean() if weights.any() else values.mean()
    # A trace of the plain mean keeps the quotient finite far from every weighted pixel.
    coarse = (total + 1e-4 * mean) / (weight + 1e-4)
    return expand(coarse, factors, values.shape)


def block_mean(values: Image, factors: tuple[int, ...]) -> Image:
    """Mean over blocks; the last block of an axis is filled up by repeating the edge."""
    if max(factors) == 1:
        return values
    padding = [(0, -n % f) for n, f in zip(values.shape, factors, strict=True)]
    padded = np.pad(values, padding, mode="edge")
    for axis, factor in enumerate(factors):
        n = padded.shape[axis] // factor
        padded = padded.reshape(*padded.shape[:axis], n, factor, *padded.shape[axis + 1 :]).mean(
            axis=axis + 1
        )
    return padded


def expand(coarse: Image, factors: tuple[int, ...], shape: tuple[int, ...]) -> Image:
    """Interpolate block means back, linearly, to the pixels of `shape`."""
    values = coarse
    for axis, (factor, n) in enumerate(zip(factors, shape, strict=True)):
        if factor > 1:
            position = (np.arange(n) + 0.5) / factor - 0.5
            last = values.shape[axis] - 1
            low = np.clip(np.floor(position).astype(int), 0, last)
            part = np.clip(position - low, 0, 1).astype(np.float32)
            part = part.reshape([-1 if a == axis else 1 for a in range(values.ndim)])
            high = np.minimum(low + 1, last)
            values = (1 - part) * values.take(low, axis=axis) + part * values.take(high, axis=axis)
    return values


def level_and_spread(values: Image) -> tuple[float, float]:
    """Level and standard deviation of the dark side of a histogram: where values crowd most, and the half
    below.

    Nuclei only add light, so the lower half of the background's histogram is free of them.
    """
    flat = np.sort(values.ravel())
    # The shortest interval that holds a quarter of the pixels (half-sample mode, one step).
    n = max(2, flat.size // 4)
    widths = flat[n - 1 :] - flat[: flat.size - n + 1]
    start = int(np.argmin(widths))
    level = float(np.median(flat[start : start + n]))
    below = level - flat[flat <= level]
    return level, NORMAL_SD_PER_MAD * float(np.median(below))


def pixel_noise(image: Image) -> float:
    """Noise of one pixel, from second differences that a smooth image does not feel (robust)."""
    response = image
    for axis in range(image.ndim):
        if image.shape[axis] < 3:
            continue
        response = np.diff(response, n=2, axis=axis) / np.sqrt(6.0)
    size = np.abs(response)
    # The mean below the 90th percentile: as blind to edges as the median, and not zero for counts of few
    # photons.
    return SD_PER_TRIMMED_MEAN * float(size[size <= np.percentile(size, 90)].mean())
