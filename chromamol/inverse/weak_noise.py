"""How noise in the fields becomes error of the weak equations A c = b.

Noise n is white per pixel and independent between sources. To first order it adds to every equation

    δb_i = -∫ (f'(φ_h) Δψ_i - ℓ² ΔΔψ_i) n_h,    δA_me,i = ∫ ψ_i n_e,    δA_ac,i = -∫ ψ_i n_h

the latter two per mode that is constant over the support. Each is a row of weights over pixels, so their
covariances are products of such rows: `NoiseGrams` holds them, and with them both the weights of the
equations and the bias that noise in A would cause (errors in variables).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from chromamol.inverse.lattice import LatticeTile, bilaplacian_terms, identity_terms, laplacian_terms
from chromamol.inverse.problem import NoiseSource, RateProblem
from chromamol.physics.free_energy import bulk_curvature, bulk_stiffness
from chromamol.shapes import FloatField

_WEIGHT_NOISE = 0.01
"""Noise of φ_h that f' in the weights may see: a few per cent of f'."""

_WIDEST_AVERAGE_PX = 1.5
"""But never average over more than this, or the interfaces, where f' changes sign, are lost."""


@dataclass(frozen=True, eq=False)
class NoiseGrams:
    """Covariances, (n, n), between the noise of the right side (b) and of the columns of a uniform rate.

    `me` and `ac` are the columns +∫ψφ_e and -∫ψφ_h of A.
    """

    b_b: np.ndarray
    me_me: np.ndarray
    ac_ac: np.ndarray
    b_me: np.ndarray
    b_ac: np.ndarray
    me_ac: np.ndarray

    def residual_covariance(self, methylation: float, acetylation: float) -> np.ndarray:
        """Return the covariance of b - A c at uniform rates, um⁻⁴; `acetylation` = 0 when it is in b."""
        me, ac = methylation, acetylation
        cross = -me * self.b_me - ac * self.b_ac + me * ac * self.me_ac
        return self.b_b + me**2 * self.me_me + ac**2 * self.ac_ac + cross + cross.T


def noise_grams(problem: RateProblem, tile: LatticeTile) -> NoiseGrams:
    """Return the covariances of the noise in one tile's equations.

    In the columns the responses of the fields to a source vary little over a support and are taken at its
    centre; in b, where f' changes sign across every interface, they are taken pixel by pixel.
    """
    right, test = _right_side_rows(problem, tile), tile.stencil(identity_terms(problem.grid.ndim)).ravel()
    total = {name: np.zeros((len(right),) * 2) for name in NoiseGrams.__dataclass_fields__}
    for source in problem.noise:
        column = SpreadRows.of(np.broadcast_to(test, right.shape), source, tile)
        pairs = column.gram(column)
        me, ac = _at_centres(source.response_e, tile), -_at_centres(source.response_h, tile)
        total["me_me"] += pairs * np.multiply.outer(me, me)
        total["ac_ac"] += pairs * np.multiply.outer(ac, ac)
        total["me_ac"] += pairs * np.multiply.outer(me, ac)
        if np.any(source.response_h):
            rows = SpreadRows.of(right * _gather(source.response_h, tile), source, tile)
            total["b_b"] += rows.gram(rows)
            pairs = rows.gram(column)
            total["b_me"] += pairs * me
            total["b_ac"] += pairs * ac
    return NoiseGrams(**total)


def _right_side_rows(problem: RateProblem, tile: LatticeTile) -> np.ndarray:
    """Return the weights with which the noise of φ_h enters b, (n, stencil)."""
    ndim, phi_max = problem.grid.ndim, problem.parameters.phi_max
    phi_h = _denoised(problem)
    # f(φ + n) also holds ½ f''(φ) (n² - σ²), of variance ½ f''² σ⁴: as if f' were larger by that.
    stiffness = bulk_stiffness(phi_h, phi_max)
    quadratic = 0.5 * bulk_curvature(phi_h, phi_max) ** 2 * problem.noise_variance_h()
    stiffness = np.copysign(np.sqrt(stiffness**2 + quadratic), stiffness)
    surface = problem.parameters.interface_length_um**2 * tile.stencil(bilaplacian_terms(ndim)).ravel()
    right = surface - tile.stencil(laplacian_terms(ndim)).ravel() * _gather(stiffness, tile)
    if problem.known_acetylation is not None:
        right += tile.stencil(identity_terms(ndim)).ravel() * _gather(problem.known_acetylation, tile)
    return right


@dataclass(frozen=True, eq=False)
class SpreadRows:
    """Weights of each function over its own box of pixels, (n, *box), scaled to unit white noise.

    In single precision: these numbers only weigh equations, to which 1e-7 makes no difference, and their
    products are most of the cost of a fit.
    """

    block: np.ndarray
    tile: LatticeTile

    @classmethod
    def of(cls, weights: np.ndarray, source: NoiseSource, tile: LatticeTile) -> SpreadRows:
        """Spread `weights`, (n, stencil), over the pixels that the source's smoothing mixes in."""
        stencil = tile.stencil_shape
        block = weights.astype(np.float32).reshape(len(weights), *stencil)
        reach = [len(taps) // 2 for taps in source.smoothing] or [0] * len(stencil)
        if source.smoothing:
            block = np.pad(block, [(0, 0), *((r, r) for r in reach)])
            for axis, taps in enumerate(source.smoothing, start=1):
                block = ndimage.convolve1d(block, taps, axis=axis, mode="constant")
        sd = np.asarray(source.sd, dtype=np.float32)
        if sd.ndim == 0:
            return cls(block * sd, tile)
        # Smoothing reaches past the crop: noise out there is as strong as at the nearest pixel.
        padded = np.pad(sd, [(r, r) for r in reach], mode="edge")
        pixels = stencil_pixels(tile.positions + reach, block.shape[1:], padded.shape)
        return cls(block * padded.ravel()[pixels].reshape(block.shape), tile)

    def gram(self, other: SpreadRows) -> np.ndarray:
        """Return Σ_x row_i(x) row_j(x), (n, n): only neighbours on the lattice share pixels."""
        inside, box, strides = self.tile.inside, self.block.shape[1:], self.tile.lattice.strides
        index: np.ndarray = np.full(inside.shape, -1)
        index[inside] = np.arange(len(self.block))
        own_rows, other_rows = self._on_lattice(), other._on_lattice()
        result = np.zeros((len(self.block), len(other.block)))
        reach = [min((size - 1) // s, n - 1) for size, s, n in zip(box, strides, inside.shape, strict=True)]
        for offset in itertools.product(*(range(-r, r + 1) for r in reach)):
            if other is self and offset < (0,) * len(offset):
                continue  # the mirror image of the offset that comes later
            here, there = _shifted(offset, inside.shape)
            shift = tuple(o * s for o, s in zip(offset, strides, strict=True))
            own, others = _shifted(shift, box)
            # Function j sits `shift` pixels further, so pixel p of i is pixel p - shift of j.
            products = _sum_of_products(own_rows[(*here, *others)], other_rows[(*there, *own)], len(box))
            i, j = index[here].ravel(), index[there].ravel()
            both = (i >= 0) & (j >= 0)
            result[i[both], j[both]] = products.ravel()[both]
            if other is self:
                result[j[both], i[both]] = products.ravel()[both]
        return result

    def _on_lattice(self) -> np.ndarray:
        """Return the rows on the whole lattice of the tile, (*lattice, *box): neighbours are then views, not copies."""
        rows = np.zeros((*self.tile.inside.shape, *self.block.shape[1:]), dtype=self.block.dtype)
        rows[self.tile.inside] = self.block
        return rows


def _sum_of_products(first: np.ndarray, second: np.ndarray, summed: int) -> np.ndarray:
    """Return the sum of first · second over the last `summed` axes."""
    axes = list(range(first.ndim))
    return np.asarray(np.einsum(first, axes, second, axes, axes[: first.ndim - summed]))


def _shifted(offset: tuple[int, ...], shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return slices of an array and of the same array moved by `offset`, where both exist."""
    here = tuple(slice(max(0, -o), n - max(0, o)) for o, n in zip(offset, shape, strict=True))
    there = tuple(slice(max(0, o), n - max(0, -o)) for o, n in zip(offset, shape, strict=True))
    return here, there


def _at_centres(values: FloatField | float, tile: LatticeTile) -> np.ndarray:
    """Return `values` at the centre of every function, (n,)."""
    return np.broadcast_to(values, tile.lattice.grid.shape)[tuple(tile.positions.T)]


def _gather(values: FloatField | float, tile: LatticeTile) -> np.ndarray:
    """Return `values` at every pixel of every function's stencil, (n, stencil)."""
    pixels = stencil_pixels(tile.positions, tile.stencil_shape, tile.lattice.grid.shape)
    array = np.asarray(values, dtype=float)
    return array.ravel()[pixels] if array.ndim else np.full(pixels.shape, float(array))


def stencil_pixels(positions: np.ndarray, stencil: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Return flat indices, (n, stencil), of boxes of shape `stencil` centred at `positions`."""
    corner = positions - np.array([size // 2 for size in stencil])
    start = np.ravel_multi_index(tuple(corner.T), shape)
    offsets = np.ravel_multi_index(tuple(np.indices(stencil).reshape(len(stencil), -1)), shape)
    return np.add.outer(start, offsets)


def _denoised(problem: RateProblem) -> FloatField:
    """Average φ_h over as many pixels as bring its noise to `_WEIGHT_NOISE`: the weights must not follow it.

    A Gaussian of s pixels divides the variance of white noise by 4 π s² in 2D.
    """
    sd = problem.mean_noise_sd()[0]
    width_px = min(sd / (_WEIGHT_NOISE * math.sqrt(4.0 * math.pi)), _WIDEST_AVERAGE_PX)
    weight = ndimage.gaussian_filter(problem.mask.astype(float), width_px)
    mean = ndimage.gaussian_filter(np.where(problem.mask, problem.phi_h.values, 0.0), width_px)
    return np.where(problem.mask, mean / np.maximum(weight, 1e-12), 0.0)
