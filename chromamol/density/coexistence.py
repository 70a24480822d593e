"""Scale of an image from the two phases it shows: domains and what lies between them.

Steady chromatin coexists in two phases whose volume fractions the free energy fixes, whatever the stain. So the
step between them, in counts, over the step in volume fraction is the gain. The step is read from a fit

    I = low + (high - low) (G_σ * χ),        χ = 1 in domains, 0 between them,

of blurred phases: plateaus that no pixel reaches, where domains are small, are extrapolated, and σ says how much the
image blurs them. χ is where the smoothed image passes the half-level; on a curved border that level is
½ - σ / (2 √(2π) R), R the radius of the domains.

References
----------
Kant et al., Nat. Commun. 15, 4338 (2024), doi:10.1038/s41467-024-48698-z (the free energy).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.optimize import minimize_scalar

from chromamol.grid import equivalent_radius
from chromamol.shapes import FloatField, Mask

PLATEAU_STEP = 0.66
"""Total chromatin in domains less that between them, as a volume fraction, in the reference model."""

BLURS_PX = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6)
"""Candidates of σ where it is not given: steps of √2, between which the residual is interpolated."""

DENOISING_PX = 1.0
"""Standard deviation of the Gaussian that tears less of the domains apart than noise does."""

_ROUNDS = 4
_LEAST_PIXELS = 50


@dataclass(frozen=True)
class TwoPhases:
    """Two phases as an image shows them.

    Parameters
    ----------
    low, high : intensity between and inside domains, without blur.
    blur_um : σ, given or fitted, µm; it holds the width of the interfaces, too.
    radius_um : of a domain (disc or ball of equal size), median.
    explained : share of the variance of the denoised image that the two phases explain.
    """

    low: float
    high: float
    blur_um: float
    radius_um: float
    explained: float

    @property
    def is_resolved(self) -> bool:
        """Whether blur is at most half of a domain radius: beyond, the half-level is off by over 12 % of R."""
        return self.blur_um <= 0.5 * self.radius_um


def fit_two_phases(
    signal: FloatField, mask: Mask, *, spacing_um: tuple[float, ...], blur_um: float | None = None
) -> TwoPhases | None:
    """Fit two blurred phases to one nucleus.

    Parameters
    ----------
    signal : intensity above the dark level, (y, x) or (z, y, x).
    mask : the nucleus.
    blur_um : σ of the point spread function where it is known; fitted when None.

    Returns
    -------
    TwoPhases; None where a nucleus has no two levels.
    """
    if np.count_nonzero(mask) < _LEAST_PIXELS:
        return None
    smooth = _denoised(signal, mask)
    if blur_um is not None:
        return _fit(smooth, mask, spacing_um, blur_um)
    pixel = min(spacing_um)
    tried = {sigma: _fit(smooth, mask, spacing_um, sigma * pixel) for sigma in BLURS_PX}
    fits = {sigma: fit for sigma, fit in tried.items() if fit is not None}
    if not fits:
        return None
    best = max(fits, key=lambda sigma: fits[sigma].explained)

    def unexplained(log_sigma: float) -> float:
        fit = _fit(smooth, mask, spacing_um, math.exp(log_sigma) * pixel)
        return 1.0 if fit is None else 1.0 - fit.explained

    step = 0.5 * math.log(2.0)
    log = minimize_scalar(unexplained, bounds=(math.log(best) - step, math.log(best) + step), method="bounded",
                          options={"xatol": 0.03}).x  # fmt: skip
    finer = _fit(smooth, mask, spacing_um, math.exp(float(log)) * pixel)
    return finer if finer is not None and finer.explained >= fits[best].explained else fits[best]


def _fit(smooth: FloatField, mask: Mask, spacing: tuple[float, ...], blur_um: float) -> TwoPhases | None:
    """Alternate between where the domains are and how bright they are; `smooth` is the denoised image."""
    steps = [math.hypot(blur_um / h, DENOISING_PX) for h in spacing]
    reach = max(s * h for s, h in zip(steps, spacing, strict=True))
    seen, weight = smooth[mask], ndimage.gaussian_filter(mask.astype(np.float64), steps)[mask]
    low, high = (float(v) for v in np.percentile(seen, (15.0, 96.0)))
    radius = math.inf
    for _ in range(_ROUNDS):
        level = max(0.25, 0.5 - reach / (2.0 * math.sqrt(2.0 * math.pi) * radius))
        dense = mask & (smooth > low + level * (high - low))
        fraction = np.count_nonzero(dense) / np.count_nonzero(mask)
        if not 0.01 < fraction < 0.9:
            return None
        radius = _median_radius(dense, spacing)
        phases = ndimage.gaussian_filter(dense.astype(np.float64), steps)[mask] / weight
        # The straight line of least squares.
        apart = phases - phases.mean()
        step = float(apart @ seen / (apart @ apart))
        low = float(seen.mean() - step * phases.mean())
        high = low + step
        if step <= 0.0:
            return None
    explained = 1.0 - float(np.var(seen - step * phases) / np.var(seen))
    return TwoPhases(low, high, blur_um, radius, explained)


def _median_radius(dense: Mask, spacing: tuple[float, ...]) -> float:
    parts, _ = ndimage.label(dense, structure=np.ones((3,) * dense.ndim))
    pixels = np.bincount(parts.ravel())[1:]
    # By the pixels, not by the pieces: specks of noise are many and small.
    pixels = np.sort(pixels)
    typical = float(pixels[np.searchsorted(np.cumsum(pixels), 0.5 * pixels.sum())])
    size = typical * math.prod(spacing)
    return equivalent_radius(size, dense.ndim)


def _denoised(values: FloatField, mask: Mask) -> FloatField:
    """Gaussian mean over the pixels of the nucleus, 0 outside."""
    weight = ndimage.gaussian_filter(mask.astype(np.float64), DENOISING_PX)
    total = ndimage.gaussian_filter(np.where(mask, values, 0.0), DENOISING_PX)
    return np.where(mask, total / np.maximum(weight, 1e-9), 0.0)
