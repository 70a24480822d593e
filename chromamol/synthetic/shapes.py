"""Outlines of nuclei: ellipses with a few gentle lobes, and nucleoli in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import binary_fill_holes, distance_transform_edt

from chromamol.errors import ParameterError
from chromamol.shapes import FloatField, Mask

NUCLEOLUS_RADIUS = (0.05, 0.10)  # over the nucleus's diameter: 1 to 2 um across in a nucleus of 10 um
LOBES = range(2, 6)  # angular modes of the outline; mode 1 is a shift


def nucleus_mask(
    diameter_um: float, spacing_um: Sequence[float], *, aspect: float = 1.25, roughness: float = 0.03,
    margin: int = 3, nucleoli: int = 0, rng: np.random.Generator,
) -> Mask:  # fmt: skip
    """Return the mask of one nucleus, (y, x) or (z, y, x), boxed with `margin` background pixels.

    Parameters
    ----------
    diameter_um : geometric mean of the two axes of the ellipse in the plane. In 3D the height is half of it,
        as for cells that lie flat on glass.
    spacing_um : pixel size per axis.
    aspect : long axis over short axis.
    roughness : standard deviation of the outline's radius, as a fraction of it.
    nucleoli : so many round holes, where there is no chromatin. Their walls are walls of the simulation like
        the outer one: nothing crosses them, and heterochromatin sticks to them if it sticks to the lamina.

    Raises
    ------
    ParameterError : fewer than 8 pixels across, an aspect below 1, a roughness that could tear the outline,
        or more nucleoli than find room.
    """
    if diameter_um < 8.0 * max(spacing_um) or aspect < 1.0 or not 0.0 <= roughness <= 0.1:
        raise ParameterError(
            f"A nucleus of {diameter_um} um at {tuple(spacing_um)} um per pixel, aspect {aspect}, "
            f"roughness {roughness}.",
            expected="8 pixels across or more, aspect >= 1, roughness in [0, 0.1].",
            do="use smaller pixels or a rounder nucleus.",
        )
    reach = 0.5 * diameter_um * np.sqrt(aspect) * (1.0 + 4.0 * roughness)
    half = [int(np.ceil(reach / h)) + margin for h in spacing_um]
    axes = [h * np.arange(-n, n + 1) for n, h in zip(half, spacing_um, strict=True)]
    *depth, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    turn = rng.uniform(0.0, np.pi)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    angle = np.arctan2(across, along)
    radius = np.hypot(along / np.sqrt(aspect), across * np.sqrt(aspect)) / (0.5 * diameter_um)
    lobes = 1.0 + sum(
        roughness / np.sqrt(len(LOBES)) * np.sqrt(2.0) * np.cos(m * angle + rng.uniform(0.0, 2.0 * np.pi))
        for m in LOBES
    )
    height = depth[0] / (0.25 * diameter_um) if depth else 0.0
    mask = np.asarray((radius / lobes) ** 2 + height**2 < 1.0)
    if nucleoli:
        mask &= ~_nucleoli(mask, diameter_um, spacing_um, nucleoli, rng)
    filled = [np.flatnonzero(mask.any(tuple(set(range(mask.ndim)) - {a}))) for a in range(mask.ndim)]
    return np.pad(mask[tuple(slice(f[0], f[-1] + 1) for f in filled)], margin)


def outline(mask: Mask) -> Mask:
    """Return the mask with its nucleoli filled: what a segmentation should find."""
    return np.asarray(binary_fill_holes(mask))


def thickness(mask: Mask, spacing_um: Sequence[float], *, rim_um: float) -> FloatField:
    """Relative height of a flat nucleus over each pixel: 1 in the middle, falling to 0 at the wall.

    The side of the nucleus is a quarter of a circle of radius `rim_um`. An image that collects light from the
    whole height is the density times this.
    """
    depth = np.minimum(distance_transform_edt(outline(mask), sampling=spacing_um) / rim_um, 1.0)
    return np.sqrt(1.0 - (1.0 - depth) ** 2)


def _nucleoli(
    mask: Mask, diameter_um: float, spacing_um: Sequence[float], count: int, rng: np.random.Generator
) -> Mask:
    """Balls (discs) of different sizes, at least a radius away from the wall and from each other.

    In 3D they are as flat as the nucleus.
    """
    squeeze = np.ones(mask.ndim)
    squeeze[:-2] = 2.0
    room = mask.copy()
    holes = np.zeros_like(mask)
    where = np.indices(mask.shape) * (np.asarray(spacing_um) * squeeze).reshape(-1, *(1,) * mask.ndim)
    for _ in range(count):
        radius = diameter_um * rng.uniform(*NUCLEOLUS_RADIUS)
        depth = distance_transform_edt(room, sampling=np.asarray(spacing_um) * squeeze)
        while not (depth > 1.6 * radius).any() and radius > diameter_um * NUCLEOLUS_RADIUS[0]:
            radius *= 0.9
        free = np.argwhere(depth > 1.6 * radius)
        if not len(free):
            raise ParameterError(f"{count} nucleoli in a nucleus of {diameter_um} um.",
                                 expected="so few that they find room.", do="ask for 1 to 4.")  # fmt: skip
        centre = where[(slice(None), *free[rng.integers(len(free))])]
        distance = np.sqrt(((where - centre.reshape(-1, *(1,) * mask.ndim)) ** 2).sum(0))
        holes |= distance < radius
        room &= ~holes
    return holes
