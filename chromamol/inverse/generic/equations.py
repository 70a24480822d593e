"""The equations, tested with a lattice of mollifiers: linear in the coefficients, with the noise they carry.

For every test function ψ_i of every equation,   e_i(u, a) = k_i(u) + Σ_k A_ik(u) a_k = 0   with k the terms without
unknowns. Noise n in the fields changes e by   Σ_x R_i(x) n(x),   R = ∂e/∂u; its covariance is   C = Σ_f R_f σ_f² R_fᵀ.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from chromamol.calculus.taps import weak_taps
from chromamol.errors import KernelError
from chromamol.inverse.generic.axes import Axes
from chromamol.inverse.generic.expression import Expression, Order, Term
from chromamol.inverse.generic.maps import CoefficientMap
from chromamol.inverse.generic.source import SourceValues, evaluate
from chromamol.inverse.lattice import (
    KERNEL,
    STRIDE_PER_HALF_WIDTH,
    LatticeTile,
    TestLattice,
    contract,
    erode_by_box,
)
from chromamol.inverse.weak_noise import SpreadRows, stencil_pixels
from chromamol.shapes import FloatField, Mask

_DEGREES = (9, 7, 5, 3)
"""Polynomials that the test functions differentiate exactly on the grid: as high as their support allows."""

STRIDE = 4 / 3 * STRIDE_PER_HALF_WIDTH
"""Lattice constant per half-width. Time and space fill up fast: at 0.4 instead of 0.3 there are 2.4 times fewer
functions in three dimensions, and the error of D of the heat data was the same."""


JOINT_FUNCTIONS = 1600
"""So many test functions are weighted all together; more are weighted tile by tile."""


@dataclass(frozen=True, eq=False)
class Data:
    """Measured fields by name, where they count, and the standard deviation of their noise."""

    axes: Axes
    fields: Mapping[str, FloatField]
    mask: Mask
    noise_sd: Mapping[str, float]


def build_lattice(data: Data, equations: Sequence[Expression], half_width: tuple[float, ...]) -> TestLattice:
    """Put test functions wherever their support fits into the mask.

    Raises
    ------
    KernelError : a half-width on which the derivatives of the equations can't be built.
    """
    axes = data.axes
    highest = [max(term.order[i] for e in equations for term in e.terms) for i in range(axes.ndim)]
    taps = tuple(
        _axis_taps(order, w, h) for order, w, h in zip(highest, half_width, axes.spacing_um, strict=True)
    )
    reach = [len(t[0]) // 2 for t in taps]
    valid = erode_by_box(data.mask, reach)
    centres = []
    for n, r, w, h in zip(axes.shape, reach, half_width, axes.spacing_um, strict=True):
        points = np.arange(r, max(n - r, r), max(1, round(STRIDE * w / h)))
        centres.append(points + (n - 1 - r - points[-1]) // 2 if len(points) else points)
    return TestLattice(axes, taps, tuple(centres), valid[np.ix_(*centres)], valid)


def _axis_taps(highest: int, half_width: float, spacing: float) -> dict[int, np.ndarray]:
    for degree in _DEGREES:
        if degree < highest + 1:
            break
        try:
            return weak_taps(
                KERNEL, tuple(range(highest + 1)), half_width=half_width, spacing=spacing, degree=degree
            )
        except KernelError:
            continue
    raise KernelError(
        f"A half-width of {half_width:.4g} at spacing {spacing:.4g} for derivatives of order {highest}.",
        expected="more samples inside the support.", do="measure more samples along that axis.",
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class TestedTile:
    """The equations of one tile at one state of the fields.

    Parameters
    ----------
    known : k, (n,); columns : A, (n, K) for all linear coefficients side by side.
    rows : R of each field, (n, stencil) for each equation, in units of the field's noise.
    """

    tile: LatticeTile
    known: np.ndarray
    columns: np.ndarray
    rows: dict[str, list[np.ndarray]]

    __test__ = False  # pytest would collect a class whose name begins with "Test"

    def covariance(self) -> np.ndarray:
        """Return C, (n, n), n being the functions of all equations."""
        total: np.ndarray | float = 0.0
        for parts in self.rows.values():
            spread = [
                SpreadRows(rows.reshape(len(rows), *self.tile.stencil_shape), self.tile) for rows in parts
            ]
            total = total + np.block([[a.gram(b) for b in spread] for a in spread])
        return np.asarray(total)

    def noise_of(self, weights: np.ndarray) -> dict[str, FloatField]:
        """Return Rᵀ weights on the tile's grid, by field, in units of the field's noise."""
        shape = self.tile.lattice.grid.shape
        pixels = stencil_pixels(self.tile.corners, self.tile.stencil_shape, shape).ravel()
        result = {}
        for name, parts in self.rows.items():
            total = sum(
                rows * part[:, None] for rows, part in zip(parts, np.split(weights, len(parts)), strict=True)
            )
            counted = np.bincount(pixels, weights=np.asarray(total).ravel(), minlength=math.prod(shape))
            result[name] = counted.reshape(shape)
        return result

    def effect_of(self, noise: Mapping[str, FloatField]) -> np.ndarray:
        """Return R noise, (n,), for noise in units of its standard deviation."""
        shape = self.tile.lattice.grid.shape
        pixels = stencil_pixels(self.tile.corners, self.tile.stencil_shape, shape)
        parts = [
            [np.einsum("np,np->n", rows, noise[name].ravel()[pixels]) for rows in equations]
            for name, equations in self.rows.items()
        ]
        return np.asarray(sum(np.concatenate(each) for each in parts))


class System:
    """The equations of a problem on one lattice."""

    def __init__(
        self,
        data: Data,
        equations: Sequence[Expression],
        maps: Sequence[CoefficientMap],
        lattice: TestLattice,
    ) -> None:
        self.data, self.equations, self.maps, self.lattice = data, tuple(equations), tuple(maps), lattice
        whole = LatticeTile(lattice, (slice(None),) * data.axes.ndim)
        self.tiles = (whole,) if lattice.count <= JOINT_FUNCTIONS else tuple(lattice.tiles())
        offsets = np.cumsum([0, *(each.linear_size for each in self.maps)])
        self.parts = tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(offsets))

    def tested(
        self,
        fields: Mapping[str, FloatField],
        calm: Mapping[str, FloatField],
        linear: np.ndarray,
        *,
        left: Mapping[str, float],
    ) -> Iterator[TestedTile]:
        """Yield the equations at `fields`; `calm` fields and coefficients `linear` shape the weights.

        `left` is the share of the variance of the noise that `fields` hold: 1 as measured, less when corrected.
        """
        sources = [
            [(term, self._evaluated(term, fields, calm, left)) for term in equation.terms]
            for equation in self.equations
        ]
        weights = [self._pixel_weights(terms, linear) for terms in sources]
        for tile in self.tiles:
            tested = [self._contracted(terms, tile) for terms in sources]
            rows = {
                name: [self._rows(each.get(name, {}), tile) for each in weights] for name in self.data.fields
            }
            yield TestedTile(
                tile,
                np.concatenate([known for known, _ in tested]),
                np.concatenate([columns for _, columns in tested]),
                rows,
            )

    def columns(
        self, fields: Mapping[str, FloatField], tile: LatticeTile, *, left: Mapping[str, float]
    ) -> np.ndarray:
        """Return A of one tile at other fields."""
        parts = [
            [(term, self._evaluated(term, fields, fields, left)) for term in equation.terms if term.unknown]
            for equation in self.equations
        ]
        return np.concatenate([self._contracted(terms, tile)[1] for terms in parts])

    def _evaluated(
        self,
        term: Term,
        fields: Mapping[str, FloatField],
        calm: Mapping[str, FloatField],
        left: Mapping[str, float],
    ) -> SourceValues:
        variance = {name: sd**2 for name, sd in self.data.noise_sd.items()}
        return evaluate(term.source, fields, calm, variance, left=left, inside=self.data.mask)

    def _contracted(
        self, terms: list[tuple[Term, SourceValues]], tile: LatticeTile
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return k and A of one equation on one tile."""
        known = np.zeros(np.count_nonzero(tile.inside))
        columns = np.zeros((len(known), self.parts[-1].stop))
        matrices = [tile.axis_matrices(axis) for axis in range(self.data.axes.ndim)]
        for term, source in terms:
            field = np.where(self.data.mask, source.values, 0.0)[tile.window] * term.weight
            if term.unknown is None:
                chosen = [m[k] for m, k in zip(matrices, term.order, strict=True)]
                known += contract(field, chosen)[tile.inside]
                continue
            which = [each.unknown for each in self.maps].index(term.unknown)
            columns[:, self.parts[which]] += _tested_modes(field, term, self.maps[which], tile, matrices)
        return known, columns

    def _pixel_weights(
        self, terms: list[tuple[Term, SourceValues]], linear: np.ndarray
    ) -> dict[str, dict[Order, FloatField]]:
        """Return, by field and by derivative of the test function, what it is multiplied with at each pixel."""
        result: dict[str, dict[Order, FloatField]] = {}
        for term, source in terms:
            for inner, sign in _leibniz(term.inner):
                factor = term.weight * sign * self._coefficient(term, inner, linear)
                order = tuple(a - b for a, b in zip(term.order, inner, strict=True))
                for name, slope in source.slopes.items():
                    value = factor * slope * self.data.noise_sd[name]
                    by_order = result.setdefault(name, {})
                    by_order[order] = by_order.get(order, 0.0) + value
        return result

    def _coefficient(self, term: Term, inner: Order, linear: np.ndarray) -> FloatField | float:
        """Return ∂^inner of a term's coefficient, on all axes; 1 for a term without unknown."""
        if term.unknown is None:
            return 0.0 if any(inner) else 1.0
        axes = self.data.axes
        which = [each.unknown for each in self.maps].index(term.unknown)
        own = [axes.index(name) for name in term.unknown.over]
        if any(k for i, k in enumerate(inner) if i not in own):
            return 0.0
        values = self.maps[which].derivative(linear[self.parts[which]], tuple(inner[i] for i in own))
        return values.reshape([n if i in own else 1 for i, n in enumerate(axes.shape)])

    def _rows(self, weights: Mapping[Order, FloatField], tile: LatticeTile) -> np.ndarray:
        """Return R of one equation and field, (n, stencil)."""
        shape = self.data.axes.shape
        pixels = stencil_pixels(tile.corners, tile.stencil_shape, shape)
        rows = np.zeros(pixels.shape, dtype=np.float32)
        for order, values in weights.items():
            if np.any(values):
                rows += np.broadcast_to(values, shape).ravel()[pixels] * tile.stencil(((1.0, order),)).ravel()
        return rows


def _leibniz(inner: Order) -> Iterator[tuple[Order, float]]:
    """Yield (γ, (-1)^|γ| binom(β, γ)): how ∂^β (c ∂^α ψ) splits into derivatives of c and of ψ."""
    for gamma in itertools.product(*(range(k + 1) for k in inner)):
        binomial = math.prod(math.comb(k, g) for k, g in zip(inner, gamma, strict=True))
        yield gamma, float((-1) ** sum(gamma) * binomial)


def _tested_modes(
    field: FloatField,
    term: Term,
    each: CoefficientMap,
    tile: LatticeTile,
    matrices: list[dict[int, np.ndarray]],
) -> np.ndarray:
    """Return ∫ ψ_i ∂^α (B_k ∂^β g) for all modes, (n, K), axis by axis: ψ and B are products over the axes."""
    axes = tile.lattice.grid
    assert isinstance(axes, Axes)
    products, split = [], []
    modes = np.zeros((each.linear_size, axes.ndim), dtype=int)
    for axis, name in enumerate(axes.names):
        alpha, beta = term.outer[axis], term.inner[axis]
        tests = matrices[axis]
        if name not in each.unknown.over:
            products.append(tests[alpha + beta])
            split += [len(tests[0]), 1]
            continue
        own = each.unknown.over.index(name)
        modes[:, axis] = each.modes[:, own]
        product = sum(
            (-1) ** g * math.comb(beta, g) * tests[alpha + beta - g][:, None, :]
            * each.axis_modes(own, g)[None, :, tile.window[axis]]
            for g in range(beta + 1)
        )  # fmt: skip
        products.append(np.asarray(product).reshape(-1, field.shape[axis]))
        split += [len(tests[0]), product.shape[1]]
    found = contract(field, products).reshape(split)
    ndim = field.ndim
    by_function = found.transpose(*range(0, 2 * ndim, 2), *range(1, 2 * ndim, 2))[tile.inside]
    return by_function[(slice(None), *modes.T)]
