"""Images with pixels that were not seen: what stands in for them at the start, and the noise of the others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy import ndimage

from chromamol.calculus.noise import FLAT_SHARE, LEAST_PIXELS, MAD_TO_SD
from chromamol.errors import FieldError
from chromamol.inverse.joint_setup import JointProblem, Noise
from chromamol.shapes import FloatField, Mask

FILL_SD_PX = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Gaussians whose mean of the seen pixels fills a gap: the narrowest that sees enough of them."""

LEAST_WEIGHT = 0.1
"""Share of a Gaussian's weight that must be seen for its mean to be used."""


def close_gaps(
    images: list[FloatField | None], mask: Mask | None, seen: Any,
    noise_sd: Noise,
) -> tuple[list[FloatField | None], Noise, Mask | None]:  # fmt: skip
    """Return the images with every gap filled, their noise, and where all of them were seen.

    Images without gaps come back as they are, with None for what was seen.

    Parameters
    ----------
    images : None for one that was not given; NaN is a gap.
    mask : the nucleus; everywhere when None.
    seen : True where pixels were measured; wherever they are finite when None.
    noise_sd : as given; estimated from the seen pixels when None.

    Raises
    ------
    FieldError : `seen` of another shape, or no pixel of the nucleus seen.
    """
    given = [values for values in images if values is not None]
    shapes = {values.shape for values in given} | (set() if mask is None else {mask.shape})
    if len(shapes) != 1:
        return images, noise_sd, None  # what comes next says which shapes do not match
    shape = next(iter(shapes))
    inside = np.ones(shape, dtype=bool) if mask is None else mask
    measured = np.all([np.isfinite(values) for values in given], axis=0)
    if seen is not None:
        asked = np.asarray(seen.detach().cpu() if hasattr(seen, "detach") else seen).astype(bool)
        if asked.shape != shape:
            raise FieldError(f"seen of shape {asked.shape}.", expected=f"{shape}, like the fields.",
                             do="pass True where a pixel was measured.")  # fmt: skip
        measured = measured & asked
    if not (measured & inside).any():
        raise FieldError("No pixel of the nucleus was seen.", expected="at least some finite pixels.",
                         do="check the mask of seen pixels.")  # fmt: skip
    if measured[inside].all():
        return images, noise_sd, None
    use = measured & inside
    if noise_sd is None:
        noise_sd = tuple(noise_among_gaps(values, use) for values in given)
    return [None if values is None else filled(values, use) for values in images], noise_sd, measured


def filled(values: FloatField, seen: Mask) -> FloatField:
    """Return the image with a smooth stand-in where it was not seen, so that a first guess can be made."""
    result = np.where(seen, values, 0.0)
    left = ~seen
    for sd in FILL_SD_PX:
        if not left.any():
            break
        weight = ndimage.gaussian_filter(seen.astype(float), sd, mode="nearest")
        mean = ndimage.gaussian_filter(np.where(seen, values, 0.0), sd, mode="nearest")
        use = left & (weight > LEAST_WEIGHT)
        result[use] = mean[use] / weight[use]
        left &= ~use
    result[left] = values[seen].mean()
    return result


def noise_among_gaps(values: FloatField, seen: Mask) -> float:
    """Return the standard deviation of white noise, from each seen pixel's difference to those around it.

    With the normalised weights w of a Gaussian over the other seen pixels the difference has variance σ² (1 + Σ w²);
    the flattest part of the image is used, as in `chromamol.calculus.estimate_noise_sd`.

    Raises
    ------
    FieldError : fewer than 30 usable pixels.
    """
    taps = np.exp(-0.5 * np.arange(-2, 3) ** 2)
    footprint = np.ones((1,) * values.ndim)
    for axis in range(values.ndim):
        wide = [1] * values.ndim
        wide[axis] = -1
        footprint = footprint * taps.reshape(wide)
    footprint[(2,) * values.ndim] = 0.0
    zeroed = np.where(seen, values, 0.0)
    weight = ndimage.correlate(seen.astype(float), footprint, mode="constant")
    usable = seen & (weight > 0.3 * footprint.sum())
    if np.count_nonzero(usable) < LEAST_PIXELS:
        raise FieldError(f"{np.count_nonzero(usable)} pixels with enough neighbours that were seen.",
                         expected=f"at least {LEAST_PIXELS}.", do="pass noise_sd.")  # fmt: skip
    mean = ndimage.correlate(zeroed, footprint, mode="constant")
    square = ndimage.correlate(seen.astype(float), footprint**2, mode="constant")
    gradient = ndimage.gaussian_gradient_magnitude(filled(values, seen), 1.5)
    flat = usable & (gradient <= np.quantile(gradient[usable], FLAT_SHARE))
    difference = values[flat] - mean[flat] / weight[flat]
    return float(MAD_TO_SD * np.median(np.abs(difference) / np.sqrt(1.0 + square[flat] / weight[flat] ** 2)))


def with_gaps(problem: JointProblem, seen: Mask) -> JointProblem:
    """Return the problem with infinite noise where nothing was seen."""
    shape = problem.grid.shape
    noise = tuple(np.where(seen, np.broadcast_to(np.asarray(sd), shape), np.inf) for sd in problem.noise_sd)
    return replace(problem, noise_sd=noise)
