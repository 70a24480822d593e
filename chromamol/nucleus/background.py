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
