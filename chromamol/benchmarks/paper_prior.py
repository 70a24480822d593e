"""Smoothness of the Langevin equation's λ by marginal likelihood, and how well anybody could know it.

u' = u + λ is linear in λ: u = b eᵗ + ∫₀ᵗ e^(t - s) λ(s) ds. With λ a Gaussian process of correlation length ξ and
standard deviation a about a free mean, in cosines of a box that is longer than the data, the data are Gaussian and
their likelihood has a closed form (restricted: b and the mean are projected out).

References
----------
MacKay, Neural Comput. 4, 415 (1992), doi:10.1162/neco.1992.4.3.415.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy import linalg

from chromamol.networks.log_rates import EXTENSION
from chromamol.shapes import FloatField

LENGTHS = tuple(float(x) for x in np.geomspace(0.04, 0.4, 9))
"""Correlation lengths to choose from, as shares of the side."""

AMPLITUDES = tuple(float(x) for x in np.geomspace(0.1, 3.0, 11))
"""Standard deviations of λ to choose from."""

HALF_WAVES = 90
"""Cosines in the box, enough for the shortest length."""

WAVES = 4
"""Harmonics in the truth: with them given, nine numbers and the start are all that is unknown."""


def langevin_prior(u: FloatField, spacing: float, noise_sd: float) -> tuple[float, float]:
    """Return correlation length (share of the side) and standard deviation of λ, of highest marginal likelihood."""
    t = spacing * np.arange(len(u))
    free, _ = np.linalg.qr(np.stack([np.exp(t), _response(np.ones((1, len(u))), t)[0]], 1))

    def projected(values: FloatField) -> FloatField:
        return np.asarray(values - free @ (free.T @ values))

    def evidence(pair: tuple[float, float]) -> float:
        gram, cross, spectrum = tables[pair[0]]
        sd = pair[1] * np.sqrt(spectrum) / noise_sd
        root = linalg.cholesky(np.eye(len(sd)) + sd[:, None] * gram * sd, lower=True)
        half = linalg.solve_triangular(root, sd * cross, lower=True)
        return float(0.5 * half @ half - np.log(np.diag(root)).sum())

    tables = {}
    for share in LENGTHS:
        length, side = share * t[-1], (1.0 + 2.0 * EXTENSION * share) * t[-1]
        k = math.pi * np.arange(1, HALF_WAVES) / side
        waves = projected(_response(math.sqrt(2.0) * np.cos(np.outer(k, t + EXTENSION * length)), t).T)
        spectrum = np.exp(-0.5 * (k * length) ** 2)
        tables[share] = (waves.T @ waves, waves.T @ projected(u) / noise_sd, spectrum / spectrum.sum())
    return max(itertools.product(LENGTHS, AMPLITUDES), key=evidence)


def langevin_bound(rate: FloatField, spacing: float, noise_sd: float) -> float:
    """Correlation with λ that least squares in its own nine Fourier terms reaches: 1 / √(1 + error² / variance).

    The error is the Cramér-Rao bound's, averaged over t; without a prior no unbiased method gets above it.
    """
    t = spacing * np.arange(len(rate))
    omega = 2.0 * np.pi * np.arange(1, WAVES + 1)[:, None] * t
    basis = np.concatenate([np.ones((1, len(t))), np.sin(omega), np.cos(omega)])
    seen = np.concatenate([_response(basis, t), np.exp(t)[None]])
    covariance = noise_sd**2 * np.linalg.inv(seen @ seen.T)[:-1, :-1]
    error = float(np.mean(np.einsum("kt,kl,lt->t", basis, covariance, basis)))
    return 1.0 / math.sqrt(1.0 + error / float(np.var(rate)))


def _response(rates: FloatField, t: FloatField) -> FloatField:
    """Return ∫₀ᵗ e^(t - s) λ(s) ds of each row, by the trapezium rule."""
    inner = rates * np.exp(-t)
    steps = 0.5 * (inner[:, 1:] + inner[:, :-1]) * np.diff(t)
    return np.asarray(
        np.exp(t) * np.concatenate([np.zeros((len(rates), 1)), np.cumsum(steps, axis=1)], axis=1)
    )
