"""Positive rate maps: the linear solution where it is well above zero, bent so that it never gets there.

Rates are Γ = h(v) of a smooth Gaussian field v, the one that the linear solution (`smooth_fit`) takes for Γ itself:

    h(v) = v for v >= b,      b exp(v / b - 1) below,      b a quarter of the rate's size.

Where the linear maps stay above b they are the answer, unchanged. Else the same equations for the cosine coefficients
c of the rates, with the same prior of the coefficients u of v,

    minimise  ½ (cᵀ G c - 2 gᵀ c) / τ² + ½ |u / size|²,      c = <B h(v)>,   v = Σ u_k B_k,

are met by damped Gauss-Newton steps as well as positive rates can, and the misfit τ² says how well that is. The
logarithm of a rate as the field would have given more: its most probable mean is too high, by 5 % at 10 % noise (two
rates, no blur), because a higher level makes all waves of relative strength a better determined.

References
----------
Nocedal & Wright, Numerical Optimization (2006), chapter 10 (Gauss-Newton).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from chromamol.inverse.basis import CosineBasis
from chromamol.inverse.normal_equations import NormalEquations
from chromamol.inverse.smooth_fit import SmoothFit, posterior_covariance, posterior_mean, prior_sd
from chromamol.shapes import FloatField

BEND = 0.25
"""Where h leaves the line, in units of the rate's size: 4.6 deviations below the median of rates of log sd .3."""

CONFIDENCE = 1.96
"""Standard errors of v up to which that of h(v) gives the right upper bound."""

LONGEST_STEP = 1.0
"""Largest change of v in one step, in units of the rate's size."""

MOST_STEPS = 100
SETTLED = 1e-3
"""Decrease of the objective, in nats, below which the fit has converged."""

_SMALLEST_SHARE = 1e-4
_MISFIT_SETTLED = 0.01
_MISFIT_PASSES = 4
"""The linear solution's misfit is renewed where the bound costs more than 1 % of it."""

_POINTS_PER_WAVE = 3
"""Points per half-wave that h(v) is averaged at: one and a half times what the product of two modes needs."""


@dataclass(frozen=True, eq=False)
class PositiveFit:
    """Positive maps, and their covariance to first order.

    Parameters
    ----------
    linear : the solution without the bound; its smoothness, strength and scales hold here, too.
    latent, latent_covariance : coefficients of v, um⁻² and um⁻⁴: (maps M,) and its square.
    coefficients : of the rates, um⁻², (maps M,).
    slopes : their derivative with respect to those of v, (maps M, maps M); None where v is the rate.
    misfit : τ² that the solution was weighted with; 1 when the equations are met within their noise.
    converged : False when `MOST_STEPS` were not enough; the numbers are no solution then.
    """

    linear: SmoothFit
    latent: np.ndarray
    latent_covariance: np.ndarray
    coefficients: np.ndarray
    slopes: np.ndarray | None
    misfit: float
    converged: bool

    @property
    def prior(self) -> tuple[float, float]:
        """ℓ in um and a."""
        return self.linear.prior

    @property
    def scales(self) -> np.ndarray:
        """Size of each rate that the strength is relative to, um⁻²."""
        return self.linear.scales

    @cached_property
    def covariance(self) -> np.ndarray:
        """Of the coefficients of the rates, um⁻⁴, (maps M, maps M)."""
        if self.slopes is None:
            return self.latent_covariance
        return np.asarray(self.slopes @ self.latent_covariance @ self.slopes.T)

    def with_scatter_of(self, noise: np.ndarray) -> PositiveFit:
        """Return the fit with the scatter of noise N, whose expectation was taken off G: Σ + Σ N Σ / τ²."""
        covariance = self.latent_covariance
        seen = noise if self.slopes is None else self.slopes.T @ noise @ self.slopes
        return replace(self, latent_covariance=covariance + covariance @ seen @ covariance / self.misfit)

    def rates(self, which: int, latent: FloatField) -> FloatField:
        """Return map `which` for values of its field v, um⁻²."""
        return bent(latent, BEND * self.scales[which])

    def error(self, which: int, latent: FloatField, latent_error: FloatField) -> FloatField:
        """Return the standard error of map `which` from that of v, um⁻².

        1.96 of it reach up to the rate that v reaches: near zero a tangent would promise too much.
        """
        upper = self.rates(which, latent + CONFIDENCE * latent_error)
        return (upper - self.rates(which, latent)) / CONFIDENCE


def bent(values: FloatField, bend: float | FloatField) -> FloatField:
    """Return h(v): v from `bend` upwards, and an exponential that goes on from there with the same slope below."""
    if np.all(values >= bend):
        return values
    return np.where(values >= bend, values, bend * np.exp(np.minimum(values / bend, 1.0) - 1.0))


def slope_of_bent(values: FloatField, bend: float | FloatField) -> FloatField:
    """Return dh / dv."""
    return np.exp(np.minimum(values / bend, 1.0) - 1.0)


def positive_fit(normal: NormalEquations, basis: CosineBasis, linear: SmoothFit) -> PositiveFit:
    """Return the positive maps of highest posterior density; `normal` are the equations that `linear` solves."""
    problem = _BentProblem.of(normal, basis, linear)
    latent, misfit = linear.coefficients, linear.misfit
    if problem.is_straight(latent):
        return PositiveFit(linear, latent, linear.covariance, latent, None, misfit, converged=True)
    for _ in range(_MISFIT_PASSES):
        latent, converged = problem.minimise(latent, misfit)
        coefficients = problem.coefficients(latent)
        next_misfit = normal.misfit_of(coefficients, fitted=linear.fitted)
        if not converged or next_misfit <= (1.0 + _MISFIT_SETTLED) * misfit:
            break
        misfit = next_misfit
    slopes = problem.slopes(latent)
    covariance = posterior_covariance(slopes.T @ normal.gram @ slopes / misfit, problem.size)
    return PositiveFit(linear, latent, covariance, coefficients, slopes, misfit, converged)


@dataclass(frozen=True, eq=False)
class _BentProblem:
    """The objective and its derivatives.

    Parameters
    ----------
    normal : equations for the coefficients of the rates.
    modes : the cosines at the points that averages are taken over, (Q, M).
    bends : b of each map, (maps, 1).
    size : prior deviations of the coefficients of v, (maps M,).
    """

    normal: NormalEquations
    modes: np.ndarray
    bends: np.ndarray
    size: np.ndarray

    @classmethod
    def of(cls, normal: NormalEquations, basis: CosineBasis, linear: SmoothFit) -> _BentProblem:
        size = prior_sd(basis, linear.scales, linear.length_um, linear.amplitude)
        return cls(normal, basis.sampled(_POINTS_PER_WAVE), BEND * linear.scales[:, None], size)

    def at_points(self, latent: np.ndarray) -> np.ndarray:
        """Return v at the points, (maps, Q)."""
        return np.asarray(latent.reshape(len(self.bends), -1) @ self.modes.T)

    def is_straight(self, latent: np.ndarray) -> bool:
        """Whether no map comes near zero."""
        return bool(np.all(self.at_points(latent) >= self.bends))

    def coefficients(self, latent: np.ndarray) -> np.ndarray:
        """Return c of the rates, (maps M,)."""
        rates = bent(self.at_points(latent), self.bends)
        return np.asarray(rates @ self.modes / len(self.modes)).ravel()

    def slopes(self, latent: np.ndarray) -> np.ndarray:
        """Return dc / du, (maps M, maps M)."""
        maps, modes = len(self.bends), self.modes.shape[1]
        slopes = np.zeros((maps, modes, maps, modes))
        for which, slope in enumerate(slope_of_bent(self.at_points(latent), self.bends)):
            slopes[which, :, which] = self.modes.T @ (slope[:, None] * self.modes) / len(self.modes)
        return slopes.reshape(maps * modes, maps * modes)

    def objective(self, latent: np.ndarray, misfit: float) -> float:
        """Return minus the log of the posterior density, up to a constant."""
        c = self.coefficients(latent)
        data = 0.5 * c @ self.normal.gram @ c - self.normal.cross @ c
        return float(data / misfit + 0.5 * np.sum(self._whitened(latent) ** 2))

    def minimise(self, latent: np.ndarray, misfit: float) -> tuple[np.ndarray, bool]:
        """Return the minimum by Gauss-Newton steps that are halved until they descend, and whether it was reached."""
        value = self.objective(latent, misfit)
        for _ in range(MOST_STEPS):
            slopes = self.slopes(latent)
            residual = self.normal.gram @ self.coefficients(latent) - self.normal.cross
            downhill = -slopes.T @ residual / misfit - self._pull(latent)
            step = posterior_mean(slopes.T @ self.normal.gram @ slopes / misfit, downhill, self.size)
            if 0.5 * float(step @ downhill) <= SETTLED:
                return latent, True
            largest = float(np.max(np.abs(self.at_points(step)) * BEND / self.bends))
            share = min(1.0, LONGEST_STEP / largest)
            while (lower := self.objective(latent + share * step, misfit)) >= value:
                share *= 0.5
                if share < _SMALLEST_SHARE:
                    return latent, False
            latent, value = latent + share * step, lower
        return latent, False

    def _whitened(self, latent: np.ndarray) -> np.ndarray:
        """Return u over its prior deviation; modes that can't vary are not asked."""
        return np.divide(latent, self.size, out=np.zeros_like(latent), where=self.size > 0.0)

    def _pull(self, latent: np.ndarray) -> np.ndarray:
        return np.divide(self._whitened(latent), self.size, out=np.zeros_like(latent), where=self.size > 0.0)
