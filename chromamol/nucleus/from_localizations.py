"""Outlines of a localisation table on the pixels of its density."""

from __future__ import annotations

import math

import numpy as np

from chromamol.errors import ImageContentError
from chromamol.grid import Grid
from chromamol.io import Localizations
from chromamol.nucleus.localizations import outline_localizations
from chromamol.shapes import Labels

MIN_AREA_UM2 = 3.0


def outlines_on_grid(table: Localizations, grid: Grid, *, min_area_um2: float = MIN_AREA_UM2) -> Labels:
    """Return labels (y, x) on `grid`, 0 = background: `outline_localizations`, read at the grid's pixels.

    Parameters
    ----------
    table : localisations of one channel; z is projected.
    grid : of the result, 2D, in the coordinates of the table.
    min_area_um2 : smaller pieces are left out.

    Raises
    ------
    ImageContentError : no piece of a nucleus's size.
    """
    diameter = 2.0 * math.sqrt(min_area_um2 / math.pi)
    try:
        found = outline_localizations(
            np.asarray(table.x_um, dtype=float), np.asarray(table.y_um, dtype=float), min_diameter_um=diameter
        )
    except ImageContentError as error:
        raise ImageContentError(
            f"{table.name}: no nucleus among {len(table):,} localisations.",
            expected=f"an area of {min_area_um2:g} um² or more where they are dense.",
            do="check the unit and the channel, or give outlines with --labels.",
        ) from error
    inside = np.ones(grid.shape, dtype=bool)
    indices = []
    for axis, (n, h, o) in enumerate(zip(grid.shape, grid.spacing_um, grid.origin_um, strict=True)):
        index = np.rint((o + h * np.arange(n) - found.origin_um[axis]) / found.pixel_size_um).astype(np.intp)
        wide = [1, 1]
        wide[axis] = -1
        inside &= ((index >= 0) & (index < found.labels.shape[axis])).reshape(wide)
        indices.append(np.clip(index, 0, found.labels.shape[axis] - 1))
    return np.where(inside, found.labels[np.ix_(*indices)], 0).astype(np.int32)
