"""The smoothness and strength of the rate maps, chosen by the evidence.

With the prior c ~ N(0, D²) of `smooth_fit` the marginal likelihood of the data is, up to a constant,

    ln p(b) = ½ zᵀ (1 + M)⁻¹ z - ½ ln det (1 + M),    M = D AᵀC⁻¹A D / τ²,    z = D AᵀC⁻¹b / τ²

Each pair of correlation length ℓ and relative amplitude a costs one Cholesky factorisation, which for long ℓ is that of
the few modes that such a map holds.

References
----------
MacKay, Neural Comput. 4, 415 (1992), doi:10.1162/neco.1992.4.3.415.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import lapack

from chromamol.inverse.basis import CosineBasis

AMPLITUDES = tuple(float(a) for a in np.geomspace(0.01, 1.0, 15))
"""Relative standard deviations of a rate map that the evidence chooses from; 0.01 is a uniform rate."""

LENGTHS_PER_SHORTEST = tuple(float(r) for r in np.geomspace(1.0, 8.0, 7))
"""Correlation lengths that the evidence chooses from, in units of the shortest that the basis carries."""

VAGUE = 1e3
"""Prior standard deviation of a map's mean, in units of the uniform solution: no information."""

_NEGLIGIBLE = 1e-9
"""Share of a mode in the variance of the largest below which it is left out."""

_ROUNDING_STEPS = 10
"""Roundings that an element of M has been through, at most: one for each factor of its scale, and those of LAPACK."""

Place = tuple[int, int]
"""Numbers of a length and of an amplitude."""

_ALONG_AMPLITUDE: tuple[Place, ...] = ((0, 1), (0, -1))
_ALONG_BOTH: tuple[Place, ...] = (*_ALONG_AMPLITUDE, (1, 1), (-1, -1), (1, 0), (-1, 0))
"""Steps of a climb; length and amplitude rise together along the ridge of the evidence."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """The marginal likelihood of one set of equations on the grid of lengths and amplitudes.

    Parameters
    ----------
    gram, cross : AᵀC⁻¹A / τ², positive semidefinite, and AᵀC⁻¹b / τ².
    basis : the modes of one map.
    scales : size of each rate, um⁻².
    """

    gram: np.ndarray
    cross: np.ndarray
    basis: CosineBasis
    scales: np.ndarray
    _scores: dict[Place, float] = field(default_factory=dict)
    _scaled: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=dict)

    def best(self, *, near: tuple[float, float] | None = None) -> tuple[float, float]:
        """Return the length in um and the amplitude of highest evidence.

        Every length is looked at, from the longest; along the amplitude, in which the evidence has one maximum,
        it climbs from where the last length's was. From `near`, an earlier result, it climbs along both.
        """
        lengths = np.array(LENGTHS_PER_SHORTEST) * self.basis.shortest_length_um
        if near is None:
            place = len(lengths) - 1, len(AMPLITUDES) // 2
            tops = []
            for number in reversed(range(len(lengths))):
                place = self._climb((number, place[1]), _ALONG_AMPLITUDE)
                tops.append(place)
            place = max(tops, key=self._score)
        else:
            grids = lengths, np.array(AMPLITUDES)
            start = [
                int(np.abs(np.log(grid / value)).argmin()) for grid, value in zip(grids, near, strict=True)
            ]
            place = self._climb((start[0], start[1]), _ALONG_BOTH)
        return float(lengths[place[0]]), AMPLITUDES[place[1]]

    def _climb(self, place: Place, steps: tuple[Place, ...]) -> Place:
        """Return the first place from `place` upwards that no step betters."""
        while True:
            around = [(place[0] + i, place[1] + j) for i, j in steps]
            inside = [
                p for p in around if 0 <= p[0] < len(LENGTHS_PER_SHORTEST) and 0 <= p[1] < len(AMPLITUDES)
            ]
            higher = max(inside, key=self._score)
            if self._score(higher) <= self._score(place):
                return place
            place = higher

    def _score(self, place: Place) -> float:
        """Return ln p(b) at one length and amplitude.

        With waves of deviation a and means of deviation 1, S, it is that of S⁻² + M₁ in place of 1 + S M₁ S, which need
        not be written down.
        """
        if place not in self._scores:
            gram, cross, is_wave = self._scaled_to(place[0])
            size = np.where(is_wave, AMPLITUDES[place[1]], 1.0)
            root = factor_of_sum(gram.copy(), 1.0 / size**2)
            whitened, _ = lapack.dtrtrs(root, cross, lower=1)
            log_det = float(np.log(root.diagonal() * size).sum())
            self._scores[place] = 0.5 * float(whitened @ whitened) - log_det
        return self._scores[place]

    def _scaled_to(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return M and z for one length and amplitude 1, of the modes that vary then, and which are no means."""
        if number not in self._scaled:
            length_um, maps = LENGTHS_PER_SHORTEST[number] * self.basis.shortest_length_um, len(self.scales)
            spectrum = self.basis.relative_spectrum(length_um)
            # Modes go from the mean and long waves to short ones.
            kept = 1 + np.count_nonzero(spectrum > _NEGLIGIBLE * spectrum.max())
            unit = prior_sd(self.basis, self.scales, length_um, 1.0).reshape(maps, -1)[:, :kept]
            blocks = self.gram.reshape(maps, self.basis.size, maps, self.basis.size)[:, :kept, :, :kept]
            gram = (blocks * unit[:, :, None, None] * unit).reshape(maps * kept, maps * kept)
            cross = (self.cross.reshape(maps, -1)[:, :kept] * unit).ravel()
            self._scaled[number] = gram, cross, np.tile(np.arange(kept) > 0, maps)
        return self._scaled[number]


def prior_sd(basis: CosineBasis, scales: np.ndarray, length_um: float, amplitude: float) -> np.ndarray:
    """Return the prior standard deviation of every coefficient of every map, um⁻²."""
    shape = amplitude * np.sqrt(basis.relative_spectrum(length_um))
    shape[0] = VAGUE
    return np.concatenate([scale * shape for scale in scales])


def factor_one_plus(matrix: np.ndarray) -> np.ndarray:
    """Return the Cholesky factor of 1 + M for a positive semidefinite M, in the lower triangle."""
    return factor_of_sum(matrix.copy(), 1.0)


def factor_of_sum(matrix: np.ndarray, diagonal: np.ndarray | float) -> np.ndarray:
    """Return the Cholesky factor of M and a positive diagonal, in the lower triangle, and take M's memory for it.

    M is positive semidefinite, in C order; what rounding may have taken from it is added to its diagonal.
    """
    rounding = _ROUNDING_STEPS * len(matrix) * np.finfo(float).eps
    shifted = matrix.T  # LAPACK's order, so that it works in place
    np.fill_diagonal(shifted, diagonal + (1.0 + rounding) * shifted.diagonal())
    root, failed = lapack.dpotrf(shifted, lower=1, clean=0, overwrite_a=1)
    if failed:
        raise np.linalg.LinAlgError("M is not positive semidefinite, or has numbers that are not finite.")
    return root
