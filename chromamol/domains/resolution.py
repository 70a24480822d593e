"""What blur leaves to be told of domains and LADs: the edge of the nucleus, the least domain, the thinnest LAD.

Beyond the border of a nucleus lies nothing, so an image fades there over the width of its blur, and so does φ_h. The
blur of the nucleus itself is known from its outline m, and divided out:

    φ̂ = (G_σ * φ m) / (G_σ * m).

What is left is a mean over the part of G_σ inside: a layer on the border keeps its place, and its thickness t until σ
nears t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from chromamol.shapes import FloatField, Mask

LEAST_INSIDE = 0.25
"""Least share of the blur's Gaussian inside the nucleus that is divided by: that at a right-angled corner."""

OUTLINE_BLURS = 0.75
"""An outline lies so many σ off: .065 µm (σ = .10) on the 24 nuclei of the sample `comparison`. A piece that begins
within it, behind where LADs begin, is attached too."""

LEAST_RADIUS_BLURS = 1.5
"""Radius of the smallest domain, in σ. On the samples `comparison`, a film and two marks (28 nuclei, 1 to 2 tried)
1.5 left the number of domains nearest to the truth; with 2 small domains were missed, with 1 fragments stayed."""

LEAST_LAD_BLURS = 1.5
"""Thickness of the thinnest LAD, in σ: four simulated nuclei, blurred and divided, gave .96 to 1.11 of it above and as
little as half below."""


def edge_restored(
    values: FloatField, mask: Mask, chromatin: Mask, *, blur_um: float, spacing_um: Sequence[float]
) -> FloatField:
    """Divide out the blur of the edge of the nucleus: `values` inside `mask`, 0 outside.

    Parameters
    ----------
    chromatin : the nucleus, and others that shine into it.
    blur_um : σ, µm; 0 changes nothing.
    """
    inside = np.where(mask, values, 0.0)
    if blur_um == 0.0:
        return inside
    share = ndimage.gaussian_filter(chromatin.astype(np.float64), [blur_um / h for h in spacing_um])
    return np.asarray(inside / np.maximum(share, LEAST_INSIDE))


def least_size_um(blur_um: float, ndim: int) -> float:
    """Area (volume) of the smallest domain that the blur leaves to be told, µm² (µm³)."""
    radius = LEAST_RADIUS_BLURS * blur_um
    return math.pi * radius**2 if ndim == 2 else 4.0 / 3.0 * math.pi * radius**3


def tells_lads(thickness_um: float, *, blur_um: float, zone_um: float, spacing_um: Sequence[float]) -> bool:
    """Whether blur and pixels are fine enough to tell LADs: their thickness, or that there are none (0).

    Parameters
    ----------
    zone_um : how deep the zone is in which LADs begin. Where blur is wider, it shows what lies behind as much.
    """
    limit_um = max(blur_um, 0.5 * max(spacing_um))
    return limit_um <= zone_um and (thickness_um == 0.0 or thickness_um >= LEAST_LAD_BLURS * limit_um)
