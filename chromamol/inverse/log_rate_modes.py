"""Smooth log-rates as a few cosines with independent coefficients, on a box wider than the nucleus."""

from __future__ import annotations

import numpy as np

from chromamol.grid import Grid
from chromamol.inverse.log_rate_basis import LogRateBasis
from chromamol.networks.log_rates import SPECTRUM_CUTOFF
from chromamol.shapes import FloatField


def smooth_modes(grid: Grid, *, correlation_um: float, log_sd: float) -> tuple[FloatField, FloatField]:
    """Return cosines without the constant, (M, *shape), and the deviations of their coefficients, (M,).

    Their sum has about the covariance log_sd² exp(-r² / (2 ξ²)).
    """
    basis = LogRateBasis(grid.shape, grid.spacing_um, correlation_um)
    square = basis.square_wavenumbers()
    use = (square > 0.0) & (square <= (SPECTRUM_CUTOFF / correlation_um) ** 2)
    spectrum = np.exp(-0.5 * square[use] * correlation_um**2)
    modes = np.ones((len(spectrum), *grid.shape))
    for axis, (n, table, waves) in enumerate(
        zip(grid.shape, basis.tables(grid.shape), np.nonzero(use), strict=True)
    ):
        modes *= table[waves].reshape(len(waves), *(n if i == axis else 1 for i in range(grid.ndim)))
    return modes, log_sd * np.sqrt(spectrum / spectrum.sum())
