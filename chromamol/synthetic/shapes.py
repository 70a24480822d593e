"""Outlines of nuclei: ellipses with a few gentle lobes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from chromamol.errors import ParameterError
from chromamol.shapes import Mask

LOBES = range(2, 6)  # angular modes of the outline; mode 1 is a shift


def nucleus_mask(
    diameter_um: float, spacing_um: Sequence[float], *, aspect: float = 1.25, roughness: float = 0.03,
    margin: int = 3, rng: np.random.Generator,
) -> Mask:  # fmt: skip
    """Return the mask of one nucleus, (y, x) or (z, y, x), boxed with `margin` background pixels.

    Parameters
    ----------
    diameter_um : geometric mean of the two axes of the ellipse in the plane. In 3D the height is half of it,
        as for cells that lie flat on glass.
    spacing_um : pixel size per axis.
    aspect : long axis over short axis.
    roughness : standard deviation of the outline's radius, as a fraction of it.

    Raises
    ------
    ParameterError : fewer than 8 pixels across, an aspect below 1 or a roughness that could tear the outline.
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
    outline = 1.0 + sum(
        roughness / np.sqrt(len(LOBES)) * np.sqrt(2.0) * np.cos(m * angle + rng.uniform(0.0, 2.0 * np.pi))
        for m in LOBES
    )
    height = depth[0] / (0.25 * diameter_um) if depth else 0.0
    mask = np.asarray((radius / outline) ** 2 + height**2 < 1.0)
    filled = [np.flatnonzero(mask.any(tuple(set(range(mask.ndim)) - {a}))) for a in range(mask.ndim)]
    return np.pad(mask[tuple(slice(f[0], f[-1] + 1) for f in filled)], margin)
