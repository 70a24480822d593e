"""Smooth log-rates as a few cosines with independent coefficients, on a box wider than the nucleus."""

from __future__ import annotations

import itertools
import math

import numpy as np

from chromamol.grid import Grid
from chromamol.shapes import FloatField

EXTENSION = 1.2
"""Correlation lengths by which the box is wider on each side: cosines have no slope at its wall, rates have one at
the border of the nucleus."""

SPECTRUM_CUTOFF = 3.2
"""Waves with k ξ above it carry exp(-k² ξ² / 2) < 0.6 % of the largest variance."""


def smooth_modes(grid: Grid, *, correlation_um: float, log_sd: float) -> tuple[FloatField, FloatField]:
    """Return cosines without the constant, (M, *shape), and the deviations of their coefficients, (M,).

    Their sum has about the covariance log_sd² exp(-r² / (2 ξ²)).
    """
    sides = [
        n * h + 2.0 * EXTENSION * correlation_um for n, h in zip(grid.shape, grid.spacing_um, strict=True)
    ]
    counts = [math.floor(SPECTRUM_CUTOFF * side / (math.pi * correlation_um)) + 1 for side in sides]
    waves = np.array(list(itertools.product(*(range(n) for n in counts))), dtype=float)
    square = np.sum((np.pi * waves / np.array(sides)) ** 2, axis=1)
    use = (square > 0.0) & (square <= (SPECTRUM_CUTOFF / correlation_um) ** 2)
    waves, spectrum = waves[use], np.exp(-0.5 * square[use] * correlation_um**2)
    modes = np.ones((len(waves), *grid.shape))
    for axis, (n, h, side) in enumerate(zip(grid.shape, grid.spacing_um, sides, strict=True)):
        position = (np.arange(n) + 0.5) * h + EXTENSION * correlation_um
        k = np.pi * waves[:, axis] / side
        line = np.where(k > 0.0, math.sqrt(2.0), 1.0)[:, None] * np.cos(np.outer(k, position))
        modes *= line.reshape(len(waves), *(n if i == axis else 1 for i in range(grid.ndim)))
    return modes, log_sd * np.sqrt(spectrum / spectrum.sum())
