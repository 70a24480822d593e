"""Sums over pixels of a field times two test functions, for every pair of neighbours on the lattice.

Covariances of the weak equations are sums   Σ_x c(x) (P ψ_i)(x) (Q ψ_j)(x)   with differential operators P and Q. Test
functions are products over the axes, so each term is contracted axis by axis: along an axis the product of two taps
depends on the step between the two functions alone, and all of them share it. Only pairs that share pixels are
computed, each once.

Products are taken in single precision: these sums only weigh equations, which 1e-7 of them does not change.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from chromamol.inverse.lattice import LatticeTile, Terms
from chromamol.shapes import FloatField

Product = tuple[FloatField | float, tuple[tuple[Terms, Terms], ...]]
"""c and the pairs of operators (P, Q) that it multiplies; c is one number or a field on the tile's window."""

PairTerms = list[tuple[float, tuple[tuple[int, int], ...]]]
"""Weight of each term, and per axis that is left the orders of the derivatives of both functions."""

_CHUNK_NUMBERS = 1_000_000
"""Intermediate numbers held at a time: 16 MB."""


@dataclass(frozen=True, eq=False)
class NeighbourPairs:
    """The pairs of one tile's functions that share pixels, or would if each box were `spread` pixels wider each way.

    Parameters
    ----------
    tile : the functions.
    steps : per axis, the steps on the lattice to the second function: from 0 along the first axis, else from negative.
    first, second : numbers i <= j of the two functions of every pair, (pairs,).
    chosen : flat index of every pair in an array (points, steps) of each axis in turn, over all the tile's lattice.
    """

    tile: LatticeTile
    steps: tuple[np.ndarray, ...]
    first: np.ndarray
    second: np.ndarray
    chosen: np.ndarray

    @classmethod
    def of(cls, tile: LatticeTile, *, spread: int = 0) -> NeighbourPairs:
        inside, ndim = tile.inside, tile.inside.ndim
        reach = [
            min((size + 2 * spread - 1) // stride, n - 1)
            for size, stride, n in zip(tile.stencil_shape, tile.lattice.strides, inside.shape, strict=True)
        ]
        steps = tuple(np.arange(-r if axis else 0, r + 1) for axis, r in enumerate(reach))
        number = np.full(inside.shape, -1)
        number[inside] = np.arange(np.count_nonzero(inside))
        padded = np.pad(number, [(-int(s[0]), int(s[-1])) for s in steps], constant_values=-1)
        second = sliding_window_view(padded, [len(s) for s in steps])
        first = np.broadcast_to(number.reshape(inside.shape + (1,) * ndim), second.shape)
        by_axis = [part + axis for axis in range(ndim) for part in (0, ndim)]
        first, second = first.transpose(by_axis).ravel(), second.transpose(by_axis).ravel()
        chosen = np.flatnonzero((first >= 0) & (second >= first))
        return cls(tile, steps, first[chosen], second[chosen], chosen)

    def blocks(self) -> list[slice]:
        """Return slices of the functions of which only neighbours have a pair in common.

        Each has as many rows of the lattice as a pair spans.
        """
        by_row = self.tile.inside.reshape(len(self.tile.inside), -1).sum(axis=1)
        rows = max(1, int(self.steps[0][-1]))
        edges = np.append(0, np.cumsum(np.add.reduceat(by_row, np.arange(0, len(by_row), rows))))
        return [slice(int(a), int(b)) for a, b in itertools.pairwise(edges) if b > a]

    def matrix(self, values: np.ndarray) -> np.ndarray:
        """Return the symmetric (n, n) matrix of `values` at (i, j) and (j, i), 0 elsewhere."""
        matrix = np.zeros((np.count_nonzero(self.tile.inside),) * 2)
        matrix[self.first, self.second] = values
        matrix[self.second, self.first] = values
        return matrix

    def row_sums(self, values: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
        """Return the sums over the rows of a matrix of `values` at (i, j) and `mirrored` at (j, i), (n,)."""
        n = np.count_nonzero(self.tile.inside)
        below = np.where(self.first == self.second, 0.0, mirrored)
        return np.bincount(self.first, values, n) + np.bincount(self.second, below, n)

    @cached_property
    def _kernels(self) -> tuple[dict[tuple[int, int], np.ndarray], ...]:
        """Per axis and pair of orders, the product of both functions' taps, (steps, pixels of the first's box)."""
        kernels = []
        for taps, steps, stride in zip(
            self.tile.lattice.taps, self.steps, self.tile.lattice.strides, strict=True
        ):
            size, margin = len(taps[0]), int(steps[-1]) * stride
            moved = {}
            for order, values in taps.items():
                padded = np.pad(values, margin)
                moved[order] = np.stack([padded[margin - s * stride :][:size] for s in steps])
            products = {(p, q): taps[p] * moved[q] for p, q in itertools.product(taps, repeat=2)}
            kernels.append({orders: product.astype(np.float32) for orders, product in products.items()})
        return tuple(kernels)

    def sums(self, products: Iterable[Product]) -> np.ndarray:
        """Return Σ Σ_x c(x) (P ψ_i)(x) (Q ψ_j)(x) over all products, for every pair of functions, (pairs,)."""
        sides = zip(self.tile.inside.shape, self.steps, strict=True)
        total = np.zeros([number for points, steps in sides for number in (points, len(steps))])
        pieces = []
        for coefficient, operators in products:
            terms: PairTerms = [
                (a * b, tuple(zip(first, second, strict=True)))
                for p, q in operators
                for (a, first), (b, second) in itertools.product(p, q)
            ]
            if isinstance(coefficient, np.ndarray):
                pieces.append((np.ascontiguousarray(coefficient, dtype=np.float32), terms))
            else:
                total += coefficient * self._uniform(terms)
        if pieces:
            self._add_fields(total, pieces)
        return total.ravel()[self.chosen]

    def _uniform(self, terms: PairTerms) -> np.ndarray:
        """Return the sums for c = 1: they depend on the steps alone."""
        total = np.zeros([n for s in self.steps for n in (1, len(s))])
        for weight, orders in terms:
            product = np.array(weight)
            for axis, pair in enumerate(orders):
                product = np.multiply.outer(product[..., None], self._kernels[axis][pair].sum(axis=1))
            total += product
        return total

    def _add_fields(self, total: np.ndarray, pieces: list[tuple[FloatField, PairTerms]]) -> None:
        """Add the sums for fields c, a few rows of the lattice at a time."""
        stride, box = self.tile.lattice.strides[0], self.tile.stencil_shape[0]
        terms = sum(len(each) for _, each in pieces)
        at_one_point = terms * math.prod(total.shape[1:-2]) * pieces[0][0].shape[-1]
        chunk = max(1, _CHUNK_NUMBERS // at_one_point)
        for start in range(0, len(total), chunk):
            points = slice(start, min(start + chunk, len(total)))
            rows = slice(points.start * stride, (points.stop - 1) * stride + box)
            merged: dict[tuple[int, int], np.ndarray] = {}
            for field, each in pieces:
                self._contract(0, field[None, rows], each, merged)
            for pair, field in merged.items():
                sums = _along_last(field, self._kernels[-1][pair], self.tile.lattice.strides[-1])
                total[points] += sums.reshape(total[points].shape)

    def _contract(
        self, axis: int, field: np.ndarray, terms: PairTerms, total: dict[tuple[int, int], np.ndarray]
    ) -> None:
        """Contract a field, (rows, pixels along `axis`, ...), along this axis and those that follow but the last.

        Adds it to the sums of fields that one product of taps along the last axis is for.
        """
        axes_left = len(self.steps) - axis
        if axes_left == 1:
            for weight, (pair,) in terms:
                weighted = field if weight == 1.0 else weight * field
                if pair in total:
                    total[pair] += weighted
                else:
                    total[pair] = np.array(weighted)
            return
        # Terms are contracted together that need the same product of taps now; before the last axis, that need the
        # same one there, of which there are few.
        kernels = self._kernels[axis]
        groups: dict[object, PairTerms] = {}
        for weight, orders in terms:
            groups.setdefault(orders[1] if axes_left == 2 else orders[0], []).append((weight, orders))
        stack, left = [], []
        for group in groups.values():
            if axes_left == 2:
                stack.append(np.sum([weight * kernels[now] for weight, (now, _) in group], axis=0))
                left.append([(1.0, group[0][1][1:])])
            else:
                stack.append(kernels[group[0][1][0]])
                left.append([(weight, orders[1:]) for weight, orders in group])
        together = np.stack(stack, axis=1)
        found = _along_first(field, together.reshape(-1, together.shape[-1]), self.tile.lattice.strides[axis])
        found = found.reshape(-1, len(stack), *field.shape[2:])
        for k, rest in enumerate(left):
            self._contract(axis + 1, found[:, k], rest, total)


def _along_first(field: np.ndarray, kernels: np.ndarray, stride: int) -> np.ndarray:
    """Correlate (rows, pixels, ...) with (k, box) at every `stride` pixels: (rows, points, k, ...)."""
    rows, pixels = field.shape[:2]
    box, rest = kernels.shape[1], math.prod(field.shape[2:])
    step = field.strides[1]
    windows = as_strided(
        field, (rows, (pixels - box) // stride + 1, box, rest),
        (field.strides[0], stride * step, step, field.itemsize), writeable=False,
    )  # fmt: skip
    return np.asarray(kernels @ windows)


def _along_last(field: np.ndarray, kernels: np.ndarray, stride: int) -> np.ndarray:
    """Correlate (rows, pixels) with (k, box) at every `stride` pixels: (rows, points, k)."""
    rows, pixels = field.shape
    box = kernels.shape[1]
    windows = as_strided(
        field, ((pixels - box) // stride + 1, rows, box),
        (stride * field.strides[1], *field.strides), writeable=False,
    )  # fmt: skip
    return np.asarray(windows @ kernels.T).swapaxes(0, 1)
