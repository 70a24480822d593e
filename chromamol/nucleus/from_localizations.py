"""Nuclei outlined from localisations: where they are dense on the scale of a nucleus."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from chromamol.errors import ImageContentError
from chromamol.grid import Grid
from chromamol.io import Localizations
from chromamol.shapes import Labels

SMOOTHING_UM = 0.3
"""Wider than heterochromatin domains and the gaps between them, narrower than a nucleus."""

COARSE_PIXEL_UM = 0.1

MIN_AREA_UM2 = 3.0


def outline_localizations(table: Localizations, grid: Grid, *, min_area_um2: float = MIN_AREA_UM2) -> Labels:
    """Return labels (y, x) on `grid`, 0 = background.

    The density on pixels of 0.1 µm is smoothed over 0.3 µm. Otsu's threshold of its square root (which gives sparse
    and dense counts equal noise) tells nuclei from the rest, and the outline is where the density is half way between
    the medians of both: there a blurred edge lies. Holes are filled, pieces below `min_area_um2` left out.

    Parameters
    ----------
    table : localisations of one channel; z is projected.
    grid : of the result, 2D, in the coordinates of the table.

    Raises
    ------
    ImageContentError : no piece of a nucleus's size.
    """
    coarse = max(COARSE_PIXEL_UM, *grid.spacing_um)
    extent = [n * h for n, h in zip(grid.shape, grid.spacing_um, strict=True)]
    edges = [o - 0.5 * h + coarse * np.arange(int(np.ceil(e / coarse)) + 1)
             for o, h, e in zip(grid.origin_um, grid.spacing_um, extent, strict=True)]  # fmt: skip
    counts = np.histogram2d(table.y_um, table.x_um, bins=edges)[0]
    smooth = ndimage.gaussian_filter(counts, SMOOTHING_UM / coarse, mode="constant")
    # A crop of one nucleus has little outside: zeros around it keep the two classes apart.
    padded = np.pad(smooth, int(np.ceil(1.0 / coarse)))
    dense = padded > np.square(threshold_otsu(np.sqrt(padded)))
    inside = ndimage.binary_fill_holes(smooth > 0.5 * (np.median(padded[dense]) + np.median(padded[~dense])))
    pieces, count = ndimage.label(inside)
    areas = ndimage.sum_labels(inside, pieces, np.arange(1, count + 1)) * coarse**2
    kept = np.flatnonzero(areas >= min_area_um2) + 1
    if not kept.size:
        raise ImageContentError(
            f"{table.name}: no nucleus among {len(table):,} localisations.",
            expected=f"an area of {min_area_um2:g} um² or more where they are dense.",
            do="check the unit and the channel, or give outlines with --labels.",
        )
    number = np.zeros(count + 1, dtype=np.int32)
    number[kept] = np.arange(1, kept.size + 1)
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * h / coarse).astype(np.int64), limit - 1)
        for n, h, limit in zip(grid.shape, grid.spacing_um, counts.shape, strict=True)
    )
    return number[pieces][np.ix_(rows, columns)].astype(np.int32)
