"""Nuclei where the density is known: chromatin is inside, and none outside."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from chromamol.shapes import FloatField, Labels

LEAST_FRACTION = 0.1
"""Volume fraction of chromatin that makes a pixel nuclear. Between domains it is 0.25 or more, outside 0."""

LEAST_RELATIVE_SIZE = 0.05
"""Pieces smaller than this share of the largest are noise or debris."""


def label_fractions(total: FloatField) -> Labels:
    """Label the nuclei of a map of total chromatin as a volume fraction.

    Parameters
    ----------
    total : φ_h + φ_e, (y, x) or (z, y, x).

    Returns
    -------
    int32 labels, 0 = background; connected pieces of at least `LEAST_FRACTION`, holes filled. Nuclei that touch
    each other are one piece: give their outlines instead.
    """
    inside = ndimage.binary_fill_holes(
        ndimage.gaussian_filter(total.astype(np.float64), 1.0) > LEAST_FRACTION
    )
    labels, count = ndimage.label(inside)
    if count == 0:
        return np.zeros(total.shape, dtype=np.int32)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = np.flatnonzero(sizes >= LEAST_RELATIVE_SIZE * sizes.max())
    numbers = np.zeros(len(sizes), dtype=np.int32)
    numbers[kept] = np.arange(1, len(kept) + 1)
    return numbers[labels]
