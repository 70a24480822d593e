"""Molecules on pixels, and masks from one grid on another."""

from __future__ import annotations

import math

import numpy as np

from chromamol.grid import Grid
from chromamol.shapes import Mask

PIXELS_PER_KERNEL = 4.0
MAX_PIXELS = 16_000_000


def grid_around(outline: Mask, grid: Grid, *, kernel_um: float, margin_um: float) -> Grid:
    """Return pixels of a quarter kernel around a nucleus."""
    rows, columns = (np.flatnonzero(outline.any(axis=axis)) for axis in (1, 0))
    axes = list(zip(grid.origin_um, grid.spacing_um, (rows, columns), strict=True))
    low = [o + h * (i[0] - 0.5) - margin_um for o, h, i in axes]
    high = [o + h * (i[-1] + 0.5) + margin_um for o, h, i in axes]
    pixel = kernel_um / PIXELS_PER_KERNEL
    pixel = max(pixel, math.sqrt((high[0] - low[0]) * (high[1] - low[1]) / MAX_PIXELS))
    shape = tuple(math.ceil((b - a) / pixel) + 1 for a, b in zip(low, high, strict=True))
    return Grid(shape, (pixel, pixel), (low[0], low[1]))


def count_on(grid: Grid, y_um: np.ndarray, x_um: np.ndarray) -> np.ndarray:
    """Return the number of molecules per pixel, float32."""
    rows, columns, here = _pixels(grid, y_um, x_um)
    flat = rows[here] * grid.shape[1] + columns[here]
    return np.bincount(flat, minlength=math.prod(grid.shape)).reshape(grid.shape).astype(np.float32)


def value_at(mask: Mask, grid: Grid, y_um: np.ndarray, x_um: np.ndarray) -> np.ndarray:
    """Return the mask at positions; False beyond it."""
    rows, columns, here = _pixels(grid, y_um, x_um)
    found = np.zeros(len(rows), dtype=bool)
    found[here] = mask[rows[here], columns[here]]
    return found


def on_grid(mask: Mask, source: Grid, grid: Grid) -> Mask:
    """Return a mask on other pixels, by their centres."""
    rows, columns = (
        np.rint((o + h * np.arange(n) - so) / sh).astype(np.int64)
        for o, h, n, so, sh in zip(
            grid.origin_um, grid.spacing_um, grid.shape, source.origin_um, source.spacing_um, strict=True
        )
    )
    padded = np.pad(mask, 1)
    return padded[np.ix_(np.clip(rows + 1, 0, mask.shape[0] + 1), np.clip(columns + 1, 0, mask.shape[1] + 1))]


def _pixels(grid: Grid, y_um: np.ndarray, x_um: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows, columns = (
        np.rint((v - o) / h).astype(np.int64)
        for v, o, h in zip((y_um, x_um), grid.origin_um, grid.spacing_um, strict=True)
    )
    here = (rows >= 0) & (rows < grid.shape[0]) & (columns >= 0) & (columns < grid.shape[1])
    return rows, columns, here
