"""A lattice of compact test functions inside the nucleus, and what can be integrated against them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from chromamol.calculus.kernels import PolynomialKernel
from chromamol.calculus.taps import support_radius, weak_taps
from chromamol.grid import Grid
from chromamol.shapes import FloatField, Mask

KERNEL = PolynomialKernel(power=6)
"""ψ = (1 - r²)^6: its fourth derivative still vanishes at the rim. p = 4 and 5 pay for theirs with aliasing
(misfit 8 and 2 times the noise, at 1 % noise and 8 px, measured); p = 8 is narrower than its support."""

STRIDE_PER_HALF_WIDTH = 0.3
"""Lattice constant of the test functions: about 1.2 standard deviations of ψ. Coarser loses information
(stride 0.5 nearly doubles the error, measured), finer only costs time."""

TILE_FUNCTIONS = 1296
"""Test functions that are weighted jointly; correlations across tile borders are neglected."""

Terms = tuple[tuple[float, tuple[int, ...]], ...]
"""A differential operator: (weight, order along each axis) of its terms."""


def identity_terms(ndim: int) -> Terms:
    """ψ itself."""
    return ((1.0, (0,) * ndim),)


def laplacian_terms(ndim: int) -> Terms:
    """Δ = Σ ∂_j²."""
    return tuple((1.0, tuple(2 * (i == axis) for i in range(ndim))) for axis in range(ndim))


def bilaplacian_terms(ndim: int) -> Terms:
    """ΔΔ = Σ ∂_j⁴ + 2 Σ_{j<k} ∂_j² ∂_k²."""
    pure = tuple((1.0, tuple(4 * (i == axis) for i in range(ndim))) for axis in range(ndim))
    pairs = itertools.combinations(range(ndim), 2)
    return pure + tuple((2.0, tuple(2 * (i in pair) for i in range(ndim))) for pair in pairs)


@dataclass(frozen=True, eq=False)
class TestLattice:
    """Mollifiers ψ_i on a lattice of pixels; products over the axes, like their derivatives.

    The lattice lies in the middle of the grid, so that a mirrored image has the mirrored one. Where that takes centres
    midway between pixels along an axis, its taps are of even length.

    Parameters
    ----------
    grid : the pixels.
    taps : per axis, the taps of ψ (unit sum), ψ'' (um⁻²) and ψ'''' (um⁻⁴), by order.
    centres : per axis, pixel indices of the lattice; of the pixel behind where they are between two.
    inside : True where the whole support of the lattice point lies inside the nucleus.
    valid : the same for every pixel of the grid.
    """

    grid: Grid
    taps: tuple[dict[int, np.ndarray], ...]
    centres: tuple[np.ndarray, ...]
    inside: Mask
    valid: Mask

    __test__ = False  # pytest would collect a class whose name begins with "Test"

    @classmethod
    def inside_mask(cls, grid: Grid, mask: Mask, half_width_um: tuple[float, ...]) -> TestLattice:
        """Put a test function wherever its support of `half_width_um` per axis fits into `mask`."""
        axes = zip(grid.shape, half_width_um, grid.spacing_um, strict=True)
        taps, centres = zip(*(_middle_of_axis(n, w, h) for n, w, h in axes), strict=True)
        reach = [support_radius(w, h) for w, h in zip(half_width_um, grid.spacing_um, strict=True)]
        valid, boxes = erode_by_box(mask, reach), [len(t[0]) for t in taps]
        fits = valid if boxes == [2 * r + 1 for r in reach] else _eroded(mask, boxes)
        return cls(grid, taps, centres, fits[np.ix_(*centres)], valid)

    @property
    def count(self) -> int:
        """Number of test functions."""
        return int(np.count_nonzero(self.inside))

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels between neighbouring lattice points along each axis."""
        return tuple(int(points[1] - points[0]) if len(points) > 1 else 1 for points in self.centres)

    def tiles(self) -> Iterator[LatticeTile]:
        """Yield the lattice in pieces of at most `TILE_FUNCTIONS`, each with at least one function inside."""
        side = _tile_side(self.grid.ndim)
        ranges = [
            [slice(a, b) for a, b in itertools.pairwise(_even_edges(len(points), side))]
            for points in self.centres
        ]
        for part in itertools.product(*ranges):
            if self.inside[part].any():
                yield LatticeTile(self, part)

    def central_tile(self) -> LatticeTile:
        """Return the largest tile in the middle of the lattice."""
        side = _tile_side(self.grid.ndim)
        margins = [max(0, math.ceil((len(points) - side) / 2)) for points in self.centres]
        part = tuple(slice(m, len(points) - m) for m, points in zip(margins, self.centres, strict=True))
        return LatticeTile(self, part)


@dataclass(frozen=True, eq=False)
class LatticeTile:
    """The test functions `lattice.inside[part]`, with their pixels."""

    lattice: TestLattice
    part: tuple[slice, ...]

    @property
    def inside(self) -> Mask:
        return self.lattice.inside[self.part]

    @property
    def stencil_shape(self) -> tuple[int, ...]:
        """Pixels of the box that carries one function."""
        return tuple(len(taps[0]) for taps in self.lattice.taps)

    @property
    def window(self) -> tuple[slice, ...]:
        """The pixels that the tile touches."""
        slices = []
        for points, taps, part in zip(self.lattice.centres, self.lattice.taps, self.part, strict=True):
            box = len(taps[0])
            slices.append(slice(int(points[part][0]) - box // 2, int(points[part][-1]) - box // 2 + box))
        return tuple(slices)

    @property
    def corners(self) -> np.ndarray:
        """Indices of the first pixel of each function's box, (n, ndim)."""
        axes = [points[part] for points, part in zip(self.lattice.centres, self.part, strict=True)]
        centres = np.stack([axis[i] for axis, i in zip(axes, np.nonzero(self.inside), strict=True)], axis=1)
        return centres - np.array(self.stencil_shape) // 2

    @property
    def positions(self) -> np.ndarray:
        """Where the functions inside are centred, in pixels, whole or halves, (n, ndim)."""
        return self.corners + 0.5 * (np.array(self.stencil_shape) - 1)

    def integrate(self, field: FloatField, terms: Terms) -> np.ndarray:
        """Return ∫ φ (Σ terms) ψ_i for a field on `window`, (n,): derivatives of the mollified field."""
        total = sum(
            weight * contract(field, [m[k] for m, k in zip(self._matrices, orders, strict=True)])
            for weight, orders in terms
        )
        return np.asarray(total)[self.inside]

    def axis_matrices(self, axis: int) -> dict[int, np.ndarray]:
        """Return, by order, the (functions, pixels of the window) matrix of one axis."""
        return self._matrices[axis]

    @cached_property
    def _matrices(self) -> tuple[dict[int, np.ndarray], ...]:
        each = []
        for centres, part, taps, window in zip(
            self.lattice.centres, self.part, self.lattice.taps, self.window, strict=True
        ):
            points, pixels = centres[part], window.stop - window.start
            columns = np.add.outer(points - window.start - len(taps[0]) // 2, np.arange(len(taps[0])))
            each.append({order: np.zeros((len(points), pixels)) for order in taps})
            for order, values in taps.items():
                np.put_along_axis(each[-1][order], columns, np.broadcast_to(values, columns.shape), axis=1)
        return tuple(each)

    def stencil(self, terms: Terms) -> np.ndarray:
        """Return the taps of (Σ terms) ψ on its own box of pixels, the same for every function."""
        total = np.zeros(self.stencil_shape)
        for weight, orders in terms:
            product = np.array(weight)
            for taps, order in zip(self.lattice.taps, orders, strict=True):
                product = np.multiply.outer(product, taps[order])
            total += product
        return total


def contract(field: np.ndarray, matrices: list[np.ndarray]) -> np.ndarray:
    """Contract axis k of `field` with `matrices[k]` of shape (out, pixels), for every k."""
    for matrix in matrices:
        field = np.moveaxis(np.tensordot(matrix, field, axes=(1, 0)), 0, -1)
    return field


def erode_by_box(mask: Mask, reach: list[int]) -> Mask:
    """Return the pixels whose box of `reach` pixels each way lies inside both the array and the mask."""
    return _eroded(mask, [2 * r + 1 for r in reach])


def _eroded(mask: Mask, box: list[int]) -> Mask:
    """Return the pixels whose box of that many pixels lies inside both; one of even length has its middle before it."""
    eroded = mask
    for axis, size in enumerate(box):
        # A run of pixels is two shorter ones: a few steps, for any size, take a fifth of the time of a minimum filter.
        line = np.moveaxis(eroded, axis, 0)
        result = np.zeros_like(line)
        if size <= len(line):
            runs, length = line, 1
            while length < size:
                step = min(length, size - length)
                runs, length = runs[:-step] & runs[step:], length + step
            result[size // 2 : size // 2 + len(runs)] = runs
        eroded = np.moveaxis(result, 0, axis)
    return eroded


def _middle_of_axis(
    pixels: int, half_width: float, spacing: float
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Return the taps of one axis and the lattice that leaves as many pixels before it as behind it."""
    stride = max(1, round(STRIDE_PER_HALF_WIDTH * half_width / spacing))
    for between in (False, True):
        taps = weak_taps(KERNEL, (2, 4), half_width=half_width, spacing=spacing, between=between)
        box = len(taps[0])
        left = (pixels - box) % stride  # even for one of the two
        if pixels < box or left % 2 == 0:
            break
    first = box // 2 + left // 2
    return taps, np.arange(first, max(first, pixels - box + box // 2 - left // 2 + 1), stride)


def _tile_side(ndim: int) -> int:
    """Return how many functions a tile has along each axis."""
    return math.floor(TILE_FUNCTIONS ** (1 / ndim) + 1e-9)


def _even_edges(points: int, most: int) -> list[int]:
    """Return where to cut a line of points into few pieces of at most `most`, the same from either end."""
    pieces = max(1, math.ceil(points / most))
    if points % 2 and pieces % 2 == 0:
        pieces += 1  # the middle of the line is a point
    half = [round(points * k / pieces) for k in range(pieces // 2 + 1)]
    return sorted({*half, *(points - k for k in half)})
