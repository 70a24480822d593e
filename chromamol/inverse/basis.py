"""Smooth rate maps: a Gaussian process of known smoothness, in cosines.

A rate map is   Γ(x) = Γ0 [1 + a Σ_k √s_k c_k B_k(x)],   c_k ~ N(0, 1),

with B_k the products of cosines of the bounding box (Neumann, orthonormal up to the box's volume) and s_k
the spectrum of the squared-exponential covariance exp(-r² / 2 ℓ²), normalised to Σ s_k = 1. `a` is the
relative amplitude, ℓ the correlation length.

References
----------
Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), chapters 4 and 5;
Solin & Särkkä, Stat. Comput. 30, 419 (2020), doi:10.1007/s11222-019-09886-w (the cosine basis).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from chromamol.grid import Grid
from chromamol.inverse.lattice import contract
from chromamol.networks.log_rates import SPECTRUM_CUTOFF
from chromamol.shapes import FloatField

MAX_MODES = 120
"""Largest number of cosines per map: enough for ten half-waves across a 2D nucleus, and cheap."""


@dataclass(frozen=True, eq=False)
class CosineBasis:
    """The cosines whose wave number is at most `max_wavenumber`, sorted by wave number.

    Parameters
    ----------
    grid : the bounding box of the nucleus.
    modes : (M, ndim) half-waves along each axis; the first row is the constant.
    """

    grid: Grid
    modes: np.ndarray

    @classmethod
    def smooth_to(cls, grid: Grid, shortest_length_um: float, *, at_most: int = MAX_MODES) -> CosineBasis:
        """Return the basis that carries correlation lengths down to `shortest_length_um`.

        When that would take more than `at_most` cosines, or `MAX_MODES`, the longest waves are kept.
        """
        sides = [n * h for n, h in zip(grid.shape, grid.spacing_um, strict=True)]
        counts = [
            max(1, math.floor(SPECTRUM_CUTOFF * side / (math.pi * shortest_length_um)) + 1) for side in sides
        ]
        # A cube of side 2 M^(1/d) holds more than M modes of any quarter ball: bound the enumeration.
        bound = math.ceil(2 * MAX_MODES ** (1 / grid.ndim)) * 2
        axes = [range(min(n, bound, size)) for n, size in zip(counts, grid.shape, strict=True)]
        modes = np.array(list(itertools.product(*axes)))
        wavenumber = np.pi * np.sqrt(((modes / np.array(sides)) ** 2).sum(axis=1))
        keep = wavenumber * shortest_length_um <= SPECTRUM_CUTOFF
        order = np.argsort(wavenumber[keep], kind="stable")[: min(at_most, MAX_MODES)]
        return cls(grid, modes[keep][order])

    @property
    def size(self) -> int:
        return len(self.modes)

    @property
    def shortest_length_um(self) -> float:
        """Shortest correlation length that these cosines represent, um."""
        return SPECTRUM_CUTOFF / max(float(self.wavenumbers.max()), 1e-300)

    @cached_property
    def wavenumbers(self) -> np.ndarray:
        """|k| of each mode, rad / um."""
        sides = np.array([n * h for n, h in zip(self.grid.shape, self.grid.spacing_um, strict=True)])
        return np.pi * np.sqrt(((self.modes / sides) ** 2).sum(axis=1))

    def axis_cosines(self, axis: int) -> np.ndarray:
        """Return the (half-waves, pixels) cosines of one axis that `modes` refers to."""
        return self._cosines[axis]

    @cached_property
    def _cosines(self) -> tuple[np.ndarray, ...]:
        tables = []
        for n, highest in zip(self.grid.shape, self.modes.max(axis=0), strict=True):
            tables.append(_cosines_at(int(highest), (np.arange(n) + 0.5) / n))
        return tuple(tables)

    def relative_spectrum(self, length_um: float) -> np.ndarray:
        """Return s_k for correlation length ℓ, with s_0 = 0 (the mean is free) and Σ s_k = 1."""
        spectrum = np.exp(-0.5 * (self.wavenumbers * length_um) ** 2)
        spectrum[0] = 0.0
        total = spectrum.sum()
        return spectrum / total if total > 0 else spectrum

    def evaluate_rows(self, rows: slice) -> np.ndarray:
        """Return all modes at the pixels `rows` of the first axis: (M, rows, ...)."""
        tables = [self.axis_cosines(axis)[self.modes[:, axis]] for axis in range(self.grid.ndim)]
        values = tables[0][:, rows]
        for table in tables[1:]:
            values = values[..., None] * table.reshape((len(table),) + (1,) * (values.ndim - 1) + (-1,))
        return values

    def evaluate_at(self, positions: np.ndarray) -> np.ndarray:
        """Return all modes at `positions` in pixels, whole or halves, (n, ndim): (n, M)."""
        values = np.ones((len(positions), self.size))
        halves = np.rint(2 * positions).astype(int)
        for axis, n in enumerate(self.grid.shape):
            table = _cosines_at(int(self.modes[:, axis].max()), (0.5 * np.arange(2 * n - 1) + 0.5) / n)
            values *= table.T[halves[:, axis]][:, self.modes[:, axis]]
        return values

    def sampled(self, points_per_wave: int) -> np.ndarray:
        """Return all modes at the midpoints of a coarse grid, (Q, M).

        The midpoints are `points_per_wave` for each half-wave of the shortest cosine along each axis.
        """
        values = np.ones((1, self.size))
        for waves in self.modes.T:
            n = points_per_wave * (int(waves.max()) + 1)
            norm = np.where(waves > 0, math.sqrt(2.0), 1.0)
            line = norm * np.cos(np.pi * np.outer((np.arange(n) + 0.5) / n, waves))
            values = (values[:, None] * line).reshape(-1, self.size)
        return values

    def average(self, values: FloatField) -> np.ndarray:
        """Return the mean of B_k · values over the grid, (M,)."""
        return np.asarray(contract(values, list(self._cosines))[tuple(self.modes.T)] / values.size)

    def synthesise(self, coefficients: np.ndarray) -> FloatField:
        """Return Σ_k c_k B_k at every pixel."""
        box = np.zeros([len(table) for table in self._cosines])
        box[tuple(self.modes.T)] = coefficients
        return contract(box, [table.T for table in self._cosines])

    def variance(self, covariance: np.ndarray) -> FloatField:
        """Return Σ_kl C_kl B_k B_l at every pixel, for the covariance (M, M) of the coefficients.

        A product of cosines is half the sum of those of the sum and the difference of their wave numbers, so
        the variance is one cosine series of twice the band.
        """
        scale = np.prod(np.where(self.modes > 0, 1.0, math.sqrt(0.5)), axis=1)
        weights = (scale[:, None] * covariance * scale).ravel()
        shape = 2 * self.modes.max(axis=0) + 1
        series = sum(np.bincount(waves, weights, int(shape.prod())) for waves in self._products)
        tables = [
            np.cos(np.pi * np.outer((np.arange(n) + 0.5) / n, np.arange(m)))
            for n, m in zip(self.grid.shape, shape, strict=True)
        ]
        return contract(np.reshape(series, shape), tables)

    @cached_property
    def _products(self) -> tuple[np.ndarray, ...]:
        """The waves of which the product of every pair of modes is made, as flat indices of twice the band, (M²,)."""
        shape = tuple(2 * self.modes.max(axis=0) + 1)
        products = []
        for signs in itertools.product((-1, 1), repeat=self.grid.ndim):
            waves = [np.abs(np.add.outer(m, s * m)).ravel() for m, s in zip(self.modes.T, signs, strict=True)]
            products.append(np.ravel_multi_index(waves, shape))
        return tuple(products)


def _cosines_at(highest: int, places: np.ndarray) -> np.ndarray:
    """Return the (half-waves, places) cosines of one axis at `places` from 0, its one end, to 1."""
    half_waves = np.arange(highest + 1)
    norm = np.where(half_waves > 0, math.sqrt(2.0), 1.0)[:, None]
    return np.asarray(norm * np.cos(np.pi * np.outer(half_waves, places)))
