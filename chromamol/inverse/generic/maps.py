"""What an unknown may be: one number, or a smooth map in cosines of a box larger than the data.

    c(x) = Σ_k a_k B_k(x),    positive:  c(x) = exp Σ_j θ_j B_j(x)

The cosines of `chromamol.inverse.basis` have no slope at the border of their box. A coefficient of an image has, so
the box is half as long again as the data on each side, and no map is taken to be smoother than that can hold. The
equations are linear in a; for a positive map a(θ) is the projection of the exponential onto as many cosines as there
may be, and its derivative makes the equations linear again in each step.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from chromamol.errors import ParameterError
from chromamol.grid import Grid
from chromamol.inverse.basis import CosineBasis
from chromamol.inverse.generic.axes import Axes
from chromamol.inverse.generic.expression import Unknown
from chromamol.networks.log_rates import EXTENSION
from chromamol.shapes import FloatField

PADDING = 0.5
"""Share of each side by which the box of the cosines is longer, on each end. With 0.2 the wall of the box bent the
diffusivity of the heat data near the border: error of the whole map 2.7 and 5.0 % at 5 and 10 % noise,
not 1.9 and 2.8."""

MAP_MODES = 160
"""Cosines that a map begins with, at most: seven half-waves across a square, or fourteen with its padding."""

MOST_MODES = 1000
"""Cosines of all maps together that are refined to where the data ask for them: about ten times the time of 160."""

_MOST_VALUES = 2.5e8
"""Cosines times samples of the box of a positive map, at most, when it is refined: 2 GB."""

LINEAR_SHARE = 1.5
"""Cosines that the exponential of a map is projected on, per cosine of the map."""


LENGTH_SPREAD = 4.0
"""Shape of the gamma distribution of 1/ℓ² in the prior of a positive map, a rational quadratic covariance.

Where a map is low its logarithm is steep, and one length for all of it was too smooth there: 71 and 68 % of the samples
of 8 + 5 sin that lie below 6 were inside their 95 % intervals, with the spread 93 %. With 2 stated errors are a tenth
larger, to no use."""

_LENGTH_NODES = 24

_LARGEST_LOG = 700.0
"""Exponents are held inside the range of a float64; the fit shortens a step long before."""

_ROWS_PER_CHUNK = 64
"""All cosines at all pixels of a stack would not fit into memory."""


@dataclass(frozen=True, eq=False)
class CoefficientMap:
    """One unknown on its own axes.

    Parameters
    ----------
    unknown : its name, axes and sign.
    grid : of its axes; None for one number.
    basis : cosines of the padded box, sorted by wave number; None for one number.
    padding : pixels of the box before the first of the data, by axis.
    size : number of parameters θ; the equations see `linear_size` coefficients a.
    """

    unknown: Unknown
    grid: Grid | None
    basis: CosineBasis | None
    padding: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, unknown: Unknown, axes: Axes, *, modes: int = MAP_MODES) -> CoefficientMap:
        """Return the map for the axes of a problem, of at most so many cosines."""
        if not unknown.over:
            return cls(unknown, None, None, (), 1)
        where = [axes.index(name) for name in unknown.over]
        shape, spacing = [axes.shape[i] for i in where], [axes.spacing_um[i] for i in where]
        padding = tuple(math.ceil(PADDING * n) for n in shape)
        padded = Grid(tuple(n + 2 * p for n, p in zip(shape, padding, strict=True)), tuple(spacing))
        basis = longest_waves(padded, round(LINEAR_SHARE * modes) if unknown.positive else modes)
        return cls(unknown, Grid(tuple(shape), tuple(spacing)), basis, padding, min(modes, basis.size))

    def refined(self, axes: Axes, *, shortest: float, at_most: int) -> CoefficientMap:
        """Return the map with up to twice the cosines: not more than carry the length `shortest`, nor `at_most`.

        It is the map itself when that is no more than it has.
        """
        assert self.basis is not None
        assert self.grid is not None
        if self.unknown.positive:
            at_most = min(at_most, int(_MOST_VALUES / (LINEAR_SHARE * math.prod(self.basis.grid.shape))))
        wanted = self.size * (self.shortest_length / shortest) ** self.grid.ndim
        modes = min(2 * self.size, at_most, math.ceil(wanted))
        finer = CoefficientMap.of(self.unknown, axes, modes=max(modes, 1))
        return finer if finer.size > self.size else self

    @property
    def linear_size(self) -> int:
        return 1 if self.basis is None else self.basis.size

    @property
    def modes(self) -> np.ndarray:
        """Half-waves of each linear coefficient along the unknown's own axes, (K, axes)."""
        return np.zeros((1, 0), dtype=int) if self.basis is None else self.basis.modes

    def axis_modes(self, axis: int, order: int) -> np.ndarray:
        """Return ∂^order of the cosines along one of the unknown's own axes, (half-waves, samples)."""
        assert self.basis is not None
        n, h = self.basis.grid.shape[axis], self.basis.grid.spacing_um[axis]
        half_waves = np.arange(self.basis.modes[:, axis].max() + 1)
        wavenumber = np.pi * half_waves / (n * h)
        first = self.padding[axis]
        x = (np.arange(first, n - first) + 0.5) * h
        values = np.cos(np.outer(wavenumber, x) + 0.5 * np.pi * order) * wavenumber[:, None] ** order
        return np.where(half_waves > 0, math.sqrt(2.0), 1.0)[:, None] * values

    def derivative(self, linear: np.ndarray, order: tuple[int, ...]) -> FloatField:
        """Return ∂^order c on the unknown's own axes, from the linear coefficients; a number as shape ()."""
        return self._expand(linear, self.tables(order))

    def tables(self, order: tuple[int, ...]) -> list[np.ndarray]:
        """Return, by axis, ∂^order of the cosine that each linear coefficient has there, (K, samples)."""
        return [self.axis_modes(axis, k)[self.modes[:, axis]] for axis, k in enumerate(order)]

    def linearise(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the linear coefficients a(θ), (K,), and ∂a/∂θ, (K, size)."""
        if not self.unknown.positive:
            return parameters, np.eye(self.size)
        if self.basis is None:
            value = np.exp(parameters)
            return value, value[:, None]
        waves = self.basis.evaluate_rows(slice(None)).reshape(self.basis.size, -1)
        value = np.exp(np.clip(parameters @ waves[: self.size], -_LARGEST_LOG, _LARGEST_LOG))
        # The cosines are orthonormal over the pixels of their box: a projection is a mean.
        project = waves / waves.shape[1]
        return project @ value, (project * value) @ waves[: self.size].T

    def values(self, parameters: np.ndarray) -> FloatField:
        """Return c on the unknown's own axes."""
        smooth = self.smooth(parameters)
        return np.asarray(np.exp(smooth) if self.unknown.positive else smooth)

    def standard_error(self, parameters: np.ndarray, covariance: np.ndarray) -> FloatField:
        """Return the pointwise standard error of c."""
        if self.basis is None:
            variance = covariance[0, 0] * np.ones(())
        else:
            variance = np.empty(self.grid_shape)
            for rows, waves in self._waves_by_rows():
                # Rounding can leave -1e-16 where nothing is uncertain.
                chunk = np.maximum(np.einsum("kp,kp->p", covariance @ waves, waves), 0.0)
                variance[rows] = chunk.reshape(-1, *self.grid_shape[1:])
        error = np.sqrt(variance)
        return np.asarray(error * self.values(parameters) if self.unknown.positive else error)

    def local_power(self, grams: Sequence[np.ndarray], widths: Sequence[float]) -> list[FloatField]:
        """Return bᵀ G b of each G for a bump b about every point: a Gaussian of these widths (sd), of peak 1."""
        if self.basis is None:
            return [np.asarray(gram[0, 0]) for gram in grams]
        damping = np.exp(-0.5 * ((self._wavenumbers() * np.asarray(widths)) ** 2).sum(axis=1))[:, None]
        powers = [np.empty(self.grid_shape) for _ in grams]
        for rows, waves in self._waves_by_rows():
            bumps = damping * waves
            bumps = bumps / np.einsum("kp,kp->p", bumps, waves)
            for power, gram in zip(powers, grams, strict=True):
                power[rows] = np.einsum("kp,kp->p", gram @ bumps, bumps).reshape(-1, *self.grid_shape[1:])
        return powers

    def mean_row(self, parameters: np.ndarray, over: FloatField) -> np.ndarray:
        """Return the derivative of the mean of c over weights `over` (of sum 1) with respect to θ."""
        weights = over * self.values(parameters) if self.unknown.positive else over
        if self.basis is None:
            return np.array([float(weights)])
        row = np.empty(self.size)
        tables = self._parameter_tables()
        for k in range(self.size):
            product = weights
            for table in reversed(tables):
                product = product @ table[k]
            row[k] = float(product)
        return row

    @property
    def grid_shape(self) -> tuple[int, ...]:
        return () if self.grid is None else self.grid.shape

    @property
    def shortest_length(self) -> float:
        """Shortest correlation length that the parameters represent, in the unit of the axes."""
        assert self.basis is not None
        return CosineBasis(self.basis.grid, self.basis.modes[: self.size]).shortest_length_um

    @property
    def longest_length(self) -> float:
        """Longest correlation length for which the wall of the box is far enough from the data: as in the joint fit.

        Without this limit longer ones were chosen for the heat data, and the error bars were half of the error.
        """
        assert self.grid is not None
        room = min(p * h for p, h in zip(self.padding, self.grid.spacing_um, strict=True))
        return max(room / EXTENSION, self.shortest_length)

    def prior_sd(self, length: float, amplitude: float, mean_sd: float) -> np.ndarray:
        """Return the prior standard deviation of each parameter: a free mean, and waves of that strength."""
        if self.basis is None:
            return np.array([mean_sd])
        waves = CosineBasis(self.basis.grid, self.basis.modes[: self.size])
        lengths = length * _spread_of_lengths() if self.unknown.positive else [length]
        spectrum = np.mean([waves.relative_spectrum(float(each)) for each in lengths], axis=0)
        sd = amplitude * np.sqrt(spectrum)
        sd[0] = mean_sd
        return sd

    def smooth(self, parameters: np.ndarray) -> FloatField:
        """Return Σ_j θ_j B_j on the unknown's own axes: the map, or its logarithm when it is positive."""
        if self.basis is None:
            return parameters.reshape(())
        return self._expand(parameters, self._parameter_tables())

    def _parameter_tables(self) -> list[np.ndarray]:
        return [table[: self.size] for table in self.tables((0,) * len(self.padding))]

    def _wavenumbers(self) -> np.ndarray:
        """Return the wave number of each parameter along the unknown's own axes, (size, axes)."""
        assert self.basis is not None
        grid = self.basis.grid
        sides = [n * h for n, h in zip(grid.shape, grid.spacing_um, strict=True)]
        return np.asarray(np.pi * self.modes[: self.size] / np.array(sides))

    def _waves_by_rows(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield rows of the map and the cosines of all parameters at their pixels, (K, pixels)."""
        tables = self._parameter_tables()
        for start in range(0, self.grid_shape[0], _ROWS_PER_CHUNK):
            rows = slice(start, start + _ROWS_PER_CHUNK)
            yield rows, self._waves([tables[0][:, rows], *tables[1:]])

    @staticmethod
    def _waves(tables: list[np.ndarray]) -> np.ndarray:
        """Return products of the tables over the axes, (K, pixels)."""
        waves = tables[0]
        for table in tables[1:]:
            waves = (waves[:, :, None] * table[:, None, :]).reshape(len(table), -1)
        return waves

    def _expand(self, coefficients: np.ndarray, tables: list[np.ndarray]) -> FloatField:
        if self.basis is None:
            return coefficients.reshape(())
        letters = "abcd"[: len(tables)]
        inputs = ",".join(f"k{letter}" for letter in letters)
        return np.einsum(f"k,{inputs}->{letters}", coefficients, *tables, optimize=True)


@functools.cache
def _spread_of_lengths() -> np.ndarray:
    """Return lengths that are equally probable, in units of the one that is chosen."""
    middles = (np.arange(_LENGTH_NODES) + 0.5) / _LENGTH_NODES
    lengths = np.asarray(stats.gamma.ppf(middles, LENGTH_SPREAD, scale=1.0 / LENGTH_SPREAD) ** -0.5)
    lengths.flags.writeable = False  # it is handed out again
    return lengths


def longest_waves(grid: Grid, count: int) -> CosineBasis:
    """Return the cosines of the `count` smallest wave numbers, the constant first."""
    # A quarter ball of radius r holds about r^d / d! waves or more, so this many along each axis suffice.
    most = math.ceil((math.factorial(grid.ndim) * count) ** (1 / grid.ndim)) + 1
    sides = np.array([n * h for n, h in zip(grid.shape, grid.spacing_um, strict=True)])
    longest = [
        min(n, math.ceil(most * side / sides.min())) for n, side in zip(grid.shape, sides, strict=True)
    ]
    modes = np.array(list(itertools.product(*(range(n) for n in longest))))
    order = np.argsort(((modes / sides) ** 2).sum(axis=1), kind="stable")
    return CosineBasis(grid, modes[order[:count]])


def check_positive_start(value: float, name: str) -> float:
    """Return a start for a positive unknown; `ParameterError` when the equations have no scale for it."""
    if not math.isfinite(value) or value <= 0.0:
        raise ParameterError(
            f"An equation in which {name} has no size.",
            expected="a term without unknowns that is not zero, such as ∂u/∂t, and a term that holds the unknown.",
            do="check the equation, and that the fields vary.",
        )
    return value
