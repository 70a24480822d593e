"""How noise in the fields becomes error of the weak equations A c = b.

Noise n is white per pixel and independent between sources. To first order it adds to every equation

    δb_i = -∫ (f'(φ_h) Δψ_i - ℓ² ΔΔψ_i) n_h,    δA_me,i = ∫ ψ_i n_e,    δA_ac,i = -∫ ψ_i n_h

the latter two per mode that is constant over the support. Each is a row of weights over pixels, so their
covariances are products of such rows: `NoiseGrams` holds them, and with them both the weights of the
equations and the bias that noise in A would cause (errors in variables).

White noise leaves each weight a field times a test function, and `pair_products` sums the products without ever writing
a row down. Noise that was smoothed mixes pixels: the rows of b are written down (`SpreadRows`), while all test
functions share one shape (`SmoothedTest`).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from chromamol.inverse.lattice import LatticeTile, Terms, bilaplacian_terms, identity_terms, laplacian_terms
from chromamol.inverse.pair_products import NeighbourPairs, Product
from chromamol.inverse.problem import NoiseSource, RateProblem
from chromamol.physics.free_energy import bulk_curvature, bulk_stiffness
from chromamol.shapes import FloatField, Mask

_WEIGHT_NOISE = 0.01
"""Noise of φ_h that f' in the weights may see: a few per cent of f'."""

STACK = 3
"""Axes of a stack."""

_WIDEST_AVERAGE_PX = 1.5
"""But never average over more than this, or the interfaces, where f' changes sign, are lost."""


Weighted = tuple[tuple[FloatField | float, Terms], ...]
"""Operators and what each is multiplied with."""


@dataclass(frozen=True, eq=False)
class NoiseGrams:
    """Covariances between the noise of the right side (b) and of the columns of a uniform rate.

    `me` and `ac` are the columns +∫ψφ_e and -∫ψφ_h of A. Only functions that share noisy pixels have one: arrays are
    over their `pairs` (i, j). Those of two kinds hold both orders, (2, pairs): at (i, j) and at (j, i).
    """

    pairs: NeighbourPairs
    b_b: np.ndarray
    me_me: np.ndarray
    ac_ac: np.ndarray
    b_me: np.ndarray
    b_ac: np.ndarray
    me_ac: np.ndarray

    def residual_covariance(self, methylation: float, acetylation: float) -> np.ndarray:
        """Return the covariance of b - A c at uniform rates, (n, n), um⁻⁴; `acetylation` = 0 when it is in b."""
        me, ac = methylation, acetylation
        cross = me * ac * self.me_ac - me * self.b_me - ac * self.b_ac
        return self.pairs.matrix(self.b_b + me**2 * self.me_me + ac**2 * self.ac_ac + cross.sum(axis=0))

    def weighted_sums(self, weights: np.ndarray, blocks: list[np.ndarray]) -> list[np.ndarray]:
        """Return Σ_j W_ij B_ij, (n,), for symmetric weights (n, n) and each of some of these blocks.

        Of the weights the lower triangle is read.
        """
        at_pairs = weights[self.pairs.second, self.pairs.first]
        return [
            self.pairs.row_sums(*np.broadcast_to(at_pairs * block, (2, len(at_pairs)))) for block in blocks
        ]


@dataclass(frozen=True, eq=False)
class EquationNoise:
    """How the noise of a problem's fields enters its equations, for every tile.

    Parameters
    ----------
    problem : the fields and their noise.
    right : coefficients, one number or a field each, and operators: their sum on ψ is the weight of φ_h's noise in b.
    apart : the same for noise of the same size, but independent.
    """

    problem: RateProblem
    right: Weighted
    apart: Weighted = ()

    @classmethod
    def of(cls, problem: RateProblem) -> EquationNoise:
        phi_max = problem.parameters.phi_max
        phi_h = _denoised(problem)
        # f(φ + n) also holds ½ f''(φ) (n² - σ²), of variance ½ f''² σ⁴: as if f' were larger by that.
        stiffness = bulk_stiffness(phi_h, phi_max)
        quadratic = 0.5 * bulk_curvature(phi_h, phi_max) ** 2 * problem.noise_variance_h()
        stiffness = np.copysign(np.sqrt(stiffness**2 + quadratic), stiffness)
        if problem.grid.ndim == STACK:
            # Weights that follow the noise bias the rates, and those of a wide average see no interfaces, which are two
            # voxels wide: rates of 3D patterns were off by -1.6 to 3.9 %, three errors. The mean square does neither.
            stiffness = np.full_like(stiffness, np.sqrt(np.mean(np.square(stiffness[problem.mask]))))
        return cls.with_stiffness(problem, stiffness)

    @classmethod
    def with_stiffness(
        cls, problem: RateProblem, stiffness: FloatField, changing: FloatField | None = None
    ) -> EquationNoise:
        """Return the noise of equations in which f(φ_h) holds `stiffness` times that of φ_h.

        Over the frames of a film the stiffness is that on average, and has the standard deviation `changing`.
        """
        ndim = problem.grid.ndim
        right: list[tuple[FloatField | float, Terms]] = [
            (problem.parameters.interface_length_um**2, bilaplacian_terms(ndim)),
            (-stiffness, laplacian_terms(ndim)),
        ]
        if problem.known_acetylation is not None:
            right.append((problem.known_acetylation, identity_terms(ndim)))
        return cls(problem, tuple(right), () if changing is None else ((changing, laplacian_terms(ndim)),))

    def grams(self, tile: LatticeTile) -> NoiseGrams:
        """Return the covariances of the noise in one tile's equations.

        In the columns the responses of the fields to a source vary little over a support and are taken at its
        centre; in b, where f' changes sign across every interface, they are taken pixel by pixel.
        """
        pairs = NeighbourPairs.of(tile, spread=max(_reach(source) for source in self.problem.noise))
        ij, ji = np.stack([pairs.first, pairs.second]), np.stack([pairs.second, pairs.first])
        b_b, me_me, ac_ac = np.zeros((3, len(pairs.first)))
        b_me, b_ac, me_ac = np.zeros((3, 2, len(pairs.first)))
        for source in self.problem.noise:
            tests, rights, mixed = (
                self._smoothed(source, pairs) if source.smoothing else self._white(source, pairs)
            )
            b_b += rights
            # Most sources show in one field alone: what is zero is not looked up for every pair.
            me = _at_centres(source.response_e, tile) if np.any(source.response_e) else None
            ac = -_at_centres(source.response_h, tile) if np.any(source.response_h) else None
            if me is not None:
                me_me += tests * me[pairs.first] * me[pairs.second]
                b_me += mixed * me[ji]
            if ac is not None:
                ac_ac += tests * ac[pairs.first] * ac[pairs.second]
                b_ac += mixed * ac[ji]
            if me is not None and ac is not None:
                me_ac += tests * me[ij] * ac[ji]
        return NoiseGrams(pairs, b_b, me_me, ac_ac, b_me, b_ac, me_ac)

    def _white(self, source: NoiseSource, pairs: NeighbourPairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return Σ ψ_i ψ_j, Σ R_i R_j and both orders of Σ R_i ψ_j, weighted by the noise; R are the rows of b."""
        window, test = pairs.tile.window, identity_terms(self.problem.grid.ndim)
        variance = _cut(np.square(source.sd), window)
        tests = pairs.sums([(variance, ((test, test),))])
        if not np.any(source.response_h):
            return tests, np.zeros_like(tests), np.zeros((2, len(tests)))
        right, apart = (
            [(_cut(c * source.response_h, window), terms) for c, terms in each]
            for each in (self.right, self.apart)
        )
        squares: list[Product] = [(variance * c * c, ((terms, terms),)) for c, terms in (*right, *apart)]
        for (c, first), (d, second) in itertools.combinations(right, 2):
            squares.append((variance * c * d, ((first, second), (second, first))))
        mixed = [pairs.sums([(variance * c, ((terms, test),)) for c, terms in right]),
                 pairs.sums([(variance * c, ((test, terms),)) for c, terms in right])]  # fmt: skip
        return tests, pairs.sums(squares), np.stack(mixed)

    def _smoothed(
        self, source: NoiseSource, pairs: NeighbourPairs
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what `_white` does, for pixels that the smoothing has mixed."""
        tile = pairs.tile
        rows, *apart = (
            np.asarray(
                sum(tile.stencil(terms).ravel() * _gather(c * source.response_h, tile) for c, terms in each)
            )
            for each in (self.right, self.apart)
            if each
        )
        test = SmoothedTest.of(source, pairs)
        rights = np.zeros(len(pairs.first))
        for each in (rows, *apart):
            spread = SpreadRows.of(each, source, tile)
            rights += spread.gram(spread)[pairs.first, pairs.second]
        return test.with_itself(), rights, test.with_rows(rows.reshape(len(rows), *tile.stencil_shape))


@dataclass(frozen=True, eq=False)
class SmoothedTest:
    """Test functions under smoothed noise: the smoothing S is the same everywhere, so one S Sᵀ ψ serves all of them.

    Parameters
    ----------
    pairs : of functions.
    seen : per axis, the variance times S Sᵀ ψ of a neighbour at the pixels of a function's box, (steps, pixels), the
        steps from negative to positive.
    """

    pairs: NeighbourPairs
    seen: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, source: NoiseSource, pairs: NeighbourPairs) -> SmoothedTest:
        lattice, seen = pairs.tile.lattice, []
        share = float(source.sd) ** (2.0 / len(lattice.taps))
        for taps, stride, reach, smoothing in zip(
            lattice.taps, lattice.strides, _reaches(pairs), source.smoothing, strict=True
        ):
            twice = np.convolve(np.convolve(taps[0], smoothing), smoothing[::-1])
            padded = np.pad(twice, reach * stride)
            first = reach * stride + len(smoothing) - 1  # where the neighbour's box has its first pixel
            starts = [first - step * stride for step in range(-reach, reach + 1)]
            seen.append(share * padded[np.add.outer(starts, np.arange(len(taps[0])))])
        return cls(pairs, tuple(seen))

    def with_itself(self) -> np.ndarray:
        """Return the covariance of ∫ψn of both functions of every pair, (pairs,)."""
        by_step = np.ones(())
        for seen, taps in zip(self.seen, self.pairs.tile.lattice.taps, strict=True):
            by_step = np.multiply.outer(by_step, seen @ taps[0])
        return np.asarray(by_step[self._steps(1)])

    def with_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return the covariance of what `rows`, (n, *box), weigh and of ∫ψn: at (i, j) and at (j, i), (2, pairs)."""
        table = rows
        for seen in self.seen:
            table = np.tensordot(table, seen, axes=(1, 1))
        return np.stack([
            table[(self.pairs.first, *self._steps(1))], table[(self.pairs.second, *self._steps(-1))]
        ])  # fmt: skip

    def _steps(self, sign: int) -> tuple[np.ndarray, ...]:
        """Return along each axis the number of the step from the first function to the second, or back."""
        points = np.argwhere(self.pairs.tile.inside)
        steps = sign * (points[self.pairs.second] - points[self.pairs.first])
        return tuple((steps + np.array(_reaches(self.pairs))).T)


def _reaches(pairs: NeighbourPairs) -> list[int]:
    """Return the longest step along each axis."""
    return [int(steps[-1]) for steps in pairs.steps]


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
        block = weights.astype(np.float32).reshape(len(weights), *tile.stencil_shape)
        block = np.pad(block, [(0, 0), *((len(taps) // 2,) * 2 for taps in source.smoothing)])
        for axis, taps in enumerate(source.smoothing, start=1):
            block = ndimage.convolve1d(block, taps, axis=axis, mode="constant")
        return cls(block * np.float32(source.sd), tile)

    def gram(self, other: SpreadRows) -> np.ndarray:
        """Return Σ_x row_i(x) row_j(x), (n, n): only neighbours on the lattice share pixels.

        Functions in one line of the lattice along the last axis are multiplied with those of another as matrices.
        """
        inside, box, strides = self.tile.inside, self.block.shape[1:-1], self.tile.lattice.strides
        lines = inside.shape[:-1]
        mine = self._along_last_axis()
        others = mine if other is self else other._along_last_axis()
        result = np.zeros(inside.shape * 2, dtype=self.block.dtype)
        reach = [min((size - 1) // s, n - 1) for size, s, n in zip(box, strides[:-1], lines, strict=True)]
        for step in itertools.product(*(range(-r, r + 1) for r in reach)):
            if other is self and step < (0,) * len(step):
                continue  # the mirror image of the step that comes later
            # Function j sits `shift` pixels further, so pixel p of i is pixel p - shift of j.
            theirs, own = _shifted(tuple(k * s for k, s in zip(step, strides[:-1], strict=True)), box)
            for i in np.ndindex(lines):
                j = tuple(a + b for a, b in zip(i, step, strict=True))
                if all(0 <= b < n for b, n in zip(j, lines, strict=True)):
                    first, second = mine[i][(slice(None), *own)], others[j][(slice(None), *theirs)]
                    products = first.reshape(len(first), -1) @ second.reshape(len(second), -1).T
                    result[(*i, slice(None), *j)] = products
                    if other is self:
                        result[(*j, slice(None), *i)] = products.T
        chosen = np.flatnonzero(inside)
        return result.reshape(inside.size, inside.size)[np.ix_(chosen, chosen)].astype(float)

    def _along_last_axis(self) -> np.ndarray:
        """Return the rows of the whole lattice with all pixels of the last axis, (*lattice, *box[:-1], pixels)."""
        inside, box, stride = self.tile.inside, self.block.shape[1:], self.tile.lattice.strides[-1]
        count = inside.shape[-1]
        rows = np.zeros((*inside.shape, *box[:-1], (count - 1) * stride + box[-1]), dtype=self.block.dtype)
        number = np.cumsum(inside).reshape(inside.shape) - 1
        for k in range(count):
            line = inside[..., k]
            rows[line, k, ..., k * stride : k * stride + box[-1]] = self.block[number[line, k]]
        return rows


def _shifted(offset: tuple[int, ...], shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return slices of an array and of the same array moved by `offset`, where both exist."""
    here = tuple(slice(max(0, -o), n - max(0, o)) for o, n in zip(offset, shape, strict=True))
    there = tuple(slice(max(0, o), n - max(0, -o)) for o, n in zip(offset, shape, strict=True))
    return here, there


def _at_centres(values: FloatField | float, tile: LatticeTile) -> np.ndarray:
    """Return `values` at the centre of every function, the mean of the pixels around it, (n,)."""
    array = np.broadcast_to(values, tile.lattice.grid.shape)
    before, behind = np.floor(tile.positions).astype(int), np.ceil(tile.positions).astype(int)
    sides = [{0, int(np.any(b != a))} for a, b in zip(before.T, behind.T, strict=True)]
    around = [array[tuple(np.where(corner, behind, before).T)] for corner in itertools.product(*sides)]
    return np.asarray(np.mean(around, axis=0))


def _reach(source: NoiseSource) -> int:
    """Return over how many pixels the noise is smoothed, each way."""
    return max((len(taps) // 2 for taps in source.smoothing), default=0)


def _cut(values: FloatField | float, window: tuple[slice, ...]) -> FloatField | float:
    """Return `values` on the window; one number where they are the same everywhere."""
    part = np.asarray(values, dtype=float)
    part = part[window] if part.ndim else part
    return float(part.flat[0]) if part.min() == part.max() else part


def _gather(values: FloatField | float, tile: LatticeTile) -> np.ndarray:
    """Return `values` at every pixel of every function's stencil, (n, stencil)."""
    pixels = stencil_pixels(tile.corners, tile.stencil_shape, tile.lattice.grid.shape)
    array = np.asarray(values, dtype=float)
    return array.ravel()[pixels] if array.ndim else np.full(pixels.shape, float(array))


def stencil_pixels(corners: np.ndarray, stencil: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Return flat indices, (n, stencil), of boxes of shape `stencil` from `corners` on."""
    start = np.ravel_multi_index(tuple(corners.T), shape)
    offsets = np.ravel_multi_index(tuple(np.indices(stencil).reshape(len(stencil), -1)), shape)
    return np.add.outer(start, offsets)


def _denoised(problem: RateProblem) -> FloatField:
    """Average φ_h over as many pixels as bring its noise to `_WEIGHT_NOISE`: the weights must not follow it.

    A Gaussian of s pixels divides the variance of white noise by 4 π s² in 2D.
    """
    sd = problem.mean_noise_sd()[0]
    width_px = min(sd / (_WEIGHT_NOISE * math.sqrt(4.0 * math.pi)), _WIDEST_AVERAGE_PX)
    return averaged(problem.phi_h.values, problem.mask, width_px)


def averaged(values: FloatField, mask: Mask, width_px: float) -> FloatField:
    """Return the Gaussian average of `values` over neighbours inside the mask; 0 outside."""
    weight = ndimage.gaussian_filter(mask.astype(float), width_px)
    mean = ndimage.gaussian_filter(np.where(mask, values, 0.0), width_px)
    return np.where(mask, mean / np.maximum(weight, 1e-12), 0.0)
