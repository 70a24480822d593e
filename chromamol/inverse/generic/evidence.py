"""Linear equations with Gaussian noise: smoothness and strength of each map by the evidence, then the solution.

    (G / τ² + P) θ = g / τ²,    G = Jᵀ C⁻¹ J,  g = Jᵀ C⁻¹ y,    covariance (G / τ² + P)⁻¹

P holds the prior precision of every parameter: free means, waves of a Gaussian process of correlation length ℓ (in
the logarithm of a positive map, of a spread of lengths about ℓ) and strength a, which maximise the marginal likelihood
of y. τ² >= 1 is the misfit per equation.

References
----------
MacKay, Neural Comput. 4, 415 (1992), doi:10.1162/neco.1992.4.3.415.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

from chromamol.inverse.generic.maps import CoefficientMap

LENGTH_RATIO = 1.3
"""Between neighbouring correlation lengths to choose from, at most."""

AMPLITUDES = tuple(float(a) for a in np.geomspace(0.01, 10.0, 13))
"""Strengths to choose from: of a logarithm, or in units of the size at which a term balances the others."""

_FREE_LOG = 3.0
"""Prior standard deviation of the logarithm of a positive mean: a factor of twenty either way."""

_FREE = 30.0
"""The same of a signed mean, in units of the size at which its term would balance all others: next to nothing."""

_SWEEPS = 2


@dataclass(frozen=True)
class Prior:
    """Correlation length (unit of the axes) and strength of one map; `scale` is its natural size."""

    length: float
    amplitude: float
    scale: float


@dataclass(frozen=True, eq=False)
class Posterior:
    """Mean and covariance of the parameters, and how many of them the data determine."""

    mean: np.ndarray
    covariance: np.ndarray
    determined: float


def start_priors(maps: Sequence[CoefficientMap], scales: Sequence[float]) -> tuple[Prior, ...]:
    """Return smooth, moderate maps to begin with."""
    return tuple(
        Prior(each.longest_length if each.basis else 1.0, 1.0, 1.0 if each.unknown.positive else scale)
        for each, scale in zip(maps, scales, strict=True)
    )


def most_evident(
    gram: np.ndarray, cross: np.ndarray, maps: Sequence[CoefficientMap], priors: tuple[Prior, ...]
) -> tuple[Prior, ...]:
    """Return the priors of highest marginal likelihood, one map after the other.

    `gram` and `cross` are G / τ² and g / τ², with y measured from the prior mean.
    """
    chosen = list(priors)
    smooth = [i for i, each in enumerate(maps) if each.basis is not None]
    for _ in range(_SWEEPS if len(smooth) > 1 else 1):
        for i in smooth:
            chosen[i] = _climb(gram, cross, maps, chosen, i)
    return tuple(chosen)


def lengths_of(each: CoefficientMap) -> tuple[float, ...]:
    """Return the correlation lengths to choose from: what the cosines carry and their box has room for."""
    low, high = each.shortest_length, each.longest_length
    count = 1 + math.ceil(math.log(high / low) / math.log(LENGTH_RATIO))
    return tuple(float(length) for length in np.geomspace(low, high, count))


def _climb(
    gram: np.ndarray, cross: np.ndarray, maps: Sequence[CoefficientMap], priors: list[Prior], which: int
) -> Prior:
    """Return the prior of one map after climbing over the grid of lengths and strengths, the others held."""

    lengths = lengths_of(maps[which])

    def prior(position: tuple[int, int]) -> Prior:
        return replace(priors[which], length=lengths[position[0]], amplitude=AMPLITUDES[position[1]])

    @functools.cache
    def evidence(position: tuple[int, int]) -> float:
        return _evidence(gram, cross, _sd(maps, [*priors[:which], prior(position), *priors[which + 1 :]]))

    now = priors[which]
    at = (
        int(np.argmin(np.abs(np.log(np.array(lengths) / now.length)))),
        int(np.argmin(np.abs(np.log(np.array(AMPLITUDES) / now.amplitude)))),
    )
    while True:
        around = [(at[0] + i, at[1] + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        inside = [p for p in around if 0 <= p[0] < len(lengths) and 0 <= p[1] < len(AMPLITUDES)]
        best = max(inside, key=evidence)
        if evidence(best) <= evidence(at):
            return prior(at)
        at = best


def solve(
    gram: np.ndarray, cross: np.ndarray, maps: Sequence[CoefficientMap], priors: Sequence[Prior]
) -> Posterior:
    """Return the parameters, measured from the prior mean."""
    sd = _sd(maps, priors)
    scaled = sd[:, None] * gram * sd[None, :]
    root = linalg.cho_factor(np.eye(len(sd)) + scaled, lower=True)
    covariance = sd[:, None] * linalg.cho_solve(root, np.eye(len(sd))) * sd[None, :]
    return Posterior(covariance @ cross, covariance, float(np.einsum("ij,ji->", covariance, gram)))


def _evidence(gram: np.ndarray, cross: np.ndarray, sd: np.ndarray) -> float:
    """Return the logarithm of the marginal likelihood, up to a constant."""
    root = linalg.cholesky(np.eye(len(sd)) + sd[:, None] * gram * sd[None, :], lower=True)
    half = linalg.solve_triangular(root, sd * cross, lower=True)
    return float(0.5 * half @ half - np.log(np.diag(root)).sum())


def _sd(maps: Sequence[CoefficientMap], priors: Sequence[Prior]) -> np.ndarray:
    parts = []
    for each, prior in zip(maps, priors, strict=True):
        mean = _FREE_LOG if each.unknown.positive else _FREE * prior.scale
        parts.append(each.prior_sd(prior.length, prior.amplitude * prior.scale, mean))
    return np.concatenate(parts)


def finite_scale(right_side: float, column: float) -> float:
    """Return the size at which a column balances the right side; infinity for an empty column."""
    return math.sqrt(right_side / column) if column > 0.0 else math.inf
