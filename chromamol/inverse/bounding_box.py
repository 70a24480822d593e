"""The box of the arrays that holds the nucleus: cosines of a larger one would depend on how much lies around it."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.shapes import Mask

Window = tuple[slice, ...]


def bounding_window(mask: Mask) -> Window:
    """Return the smallest window that holds every True pixel; everything where there is none."""
    (window,) = ndimage.find_objects(mask.astype(np.uint8)) or [tuple(slice(0, n) for n in mask.shape)]
    return tuple(slice(int(part.start), int(part.stop)) for part in window)


def cropped(field: Field, window: Window) -> Field:
    """Return the field on `grid.crop(window)`."""
    return Field(field.values[window], field.grid.crop(window), field.unit, field.mask[window])


def embedded(field: Field, grid: Grid, window: Window) -> Field:
    """Return the field on `grid`, of which it is the `window`: zero and not valid beside it."""
    values, valid = np.zeros(grid.shape), np.zeros(grid.shape, dtype=bool)
    values[window], valid[window] = field.values, field.mask
    return Field(values, grid, field.unit, valid)
