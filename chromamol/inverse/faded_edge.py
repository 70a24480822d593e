"""The fading of one channel's stack at the border of the nucleus, and how wide the stack is blurred along its axis.

Beyond the border lies nothing, so that light fades there over the blur: it is that of the nucleus itself times G_σ * m,
m its mask. In a stack σ is some three times larger along the axis than across, and the faded voxels of the upper and
lower planes are more than a tenth of all: the percentile that stands for the space between domains would be theirs.

The axial σ is not given: it is that of the I ≈ a (G_σ * m), a one number, that leaves least squares of the image. An
outline that lies too far out looks like more blur; a plane less above and below says what it would do.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy import ndimage
from scipy.optimize import minimize_scalar

from chromamol.field import Field
from chromamol.inverse.joint_setup import JointProblem
from chromamol.physics.split import dark_level
from chromamol.shapes import FloatField

LEAST_INSIDE = 0.25
"""Least share of the blur's Gaussian inside the nucleus that is divided by: that at a right-angled corner."""

AXIAL_FACTOR = 1.35
"""How far the axial σ may be off, as a factor: .25 to .35 µm were found for .3 in four stacks with true outlines."""

MOST_AXIAL = 0.15
"""Largest axial σ that is tried, over the height of the nucleus."""


def blurs_um(total: Field, blur_um: float) -> tuple[float, ...]:
    """Standard deviation of the blur along each axis: `blur_um` across, in a stack what the image shows along z."""
    return (blur_um,) * 2 if total.grid.ndim == 2 else (_axial_blur_um(total, blur_um), blur_um, blur_um)


def _axial_blur_um(total: Field, blur_um: float) -> float:
    seen = total.values[total.mask]

    def unexplained(axial_um: float) -> float:
        share = _inside(total, (axial_um, blur_um, blur_um))[total.mask]
        return float(np.mean((seen - (share @ seen) / (share @ share) * share) ** 2))

    planes = np.flatnonzero(total.mask.any(axis=(1, 2)))
    most = MOST_AXIAL * (planes[-1] - planes[0] + 1) * total.grid.spacing_um[0]
    best = minimize_scalar(unexplained, bounds=(0.0, most), method="bounded", options={"xatol": 0.02 * most})
    return float(best.x) if best.fun < unexplained(0.0) else 0.0


def without_fading(problem: JointProblem, blurs: tuple[float, ...]) -> tuple[JointProblem, float]:
    """Return the problem of one stack with the fading at its border divided out.

    Returns
    -------
    The problem, and the standard deviation of its dark level for what is not known of axial blur and outline.
    """
    restored = _restored(problem, blurs)
    low, high = (
        _level(_restored(problem, (factor * blurs[0], *blurs[1:])))
        for factor in (1.0 / AXIAL_FACTOR, AXIAL_FACTOR)
    )
    total, axis = problem.images[0], np.zeros((3, 3, 3), dtype=bool)
    axis[:, 1, 1] = True
    inner = ndimage.binary_erosion(total.mask, axis, border_value=1)
    if np.count_nonzero(inner) < 0.5 * np.count_nonzero(total.mask):
        return restored, 0.5 * abs(high - low)
    taken_in = Field(total.values, total.grid, total.unit, inner)
    moved = _restored(replace(problem, images=(taken_in,)), blurs_um(taken_in, blurs[-1]))
    return restored, 0.5 * math.hypot(high - low, _level(moved) - _level(restored))


def _level(problem: JointProblem) -> float:
    noise = np.broadcast_to(problem.noise_sd[0], problem.grid.shape)[problem.mask]
    sd = float(np.sqrt(np.mean(np.square(noise))))
    return dark_level(problem.images[0], sd, problem.parameters)[0]


def _restored(problem: JointProblem, blurs: tuple[float, ...]) -> JointProblem:
    total = problem.images[0]
    share = np.maximum(_inside(total, blurs), LEAST_INSIDE)
    values = np.where(total.mask, total.values / share, total.values)
    if np.any(problem.calibration.gains(1)):
        # A gain that follows from the mean of the nucleus took what has faded for missing.
        share = share * (values[total.mask].mean() / total.values[total.mask].mean())
        values = np.where(total.mask, total.values / share, total.values)
    noise = np.where(total.mask, problem.noise_sd[0] / share, problem.noise_sd[0])
    return replace(problem, images=(total.like(values),), noise_sd=(noise,))


def _inside(total: Field, blurs: tuple[float, ...]) -> FloatField:
    """G_σ * m. A nucleus that the edge of the image cuts goes on there."""
    steps = [b / h for b, h in zip(blurs, total.grid.spacing_um, strict=True)]
    return np.asarray(ndimage.gaussian_filter(total.mask.astype(np.float64), steps, mode="nearest"))
