"""Rate maps with standard errors, their means and their ratio, from a converged joint fit and its posterior."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from chromamol.inverse.joint_fit import JointFit, cut
from chromamol.inverse.joint_posterior import Posterior
from chromamol.inverse.joint_ratio import balance_ratio
from chromamol.inverse.joint_unknowns import Unknowns
from chromamol.inverse.pooled_variance import pooled_variance
from chromamol.inverse.rates import Outcome, RateMap, Rates
from chromamol.shapes import FloatField, Mask

POOLING = 0.5
"""Correlation lengths over which the variance of the samples is pooled."""

LARGEST_RELATIVE_ERROR = 0.5
"""A pixel whose rate is known worse than this is not identifiable."""


def with_maps(result: Rates, fit: JointFit, posterior: Posterior, valid: Mask) -> Rates:
    """Add maps, means and the ratio; pixels that are not known well enough are NaN.

    Parameters
    ----------
    valid : pixels that the means may take.
    """
    model, problem = fit.model, fit.problem
    values = [fit.scale**2 * cut(problem, rate[0]) for rate in model.rates(fit.point)]
    own, common = (_log_rate_deviations(fit, samples) for samples in (posterior.own, posterior.common))
    errors = [values[i] * np.sqrt(_variance(fit, own[:, i], common[:, i])) for i in range(model.maps)]
    known = [
        problem.mask & (error <= LARGEST_RELATIVE_ERROR * value)
        for value, error in zip(values, errors, strict=False)
    ]
    use = [valid & where for where in known]
    by_noise, by_calibration = (_of_means(values, deviations, use) for deviations in (own, common))
    maps = []
    for i, value in enumerate(values):
        if i >= model.maps:
            maps.append(RateMap.given(value, valid).inside(problem.mask))
        elif not use[i].any():
            maps.append(RateMap.unknown(value.shape))
        else:
            mean = float(value[use[i]].mean())
            of_noise, of_calibration = (mean * _rms(d[i]) for d in (by_noise, by_calibration))
            shown, error = (np.where(known[i], each, np.nan) for each in (value, errors[i]))
            total = float(np.hypot(of_noise, of_calibration))
            maps.append(RateMap(shown, error, use[i], mean, total, of_calibration))
    both = np.logical_and.reduce([rate.valid for rate in maps])
    ratio = balance_ratio(fit, posterior, values, (own, common), both)
    if ratio is not None:
        result = replace(
            result, ratio=ratio.value, ratio_se=ratio.error, ratio_calibration_se=ratio.of_calibration
        )
    spread = model.named_scalars(posterior.own)["log_gain"].flatten(1).square().mean(0).sqrt()
    told = {
        f"log_gain_{c}_sd": float(sd) for c, sd in enumerate(spread) if model.globals + c in model.estimated
    }
    lost = [m.valid.any() and bool((valid & ~m.valid).any()) for m in maps]
    flags = ("partly_not_identifiable",) if any(lost) else ()
    return replace(result, methylation=maps[0], acetylation=maps[1], outcome=Outcome.NOT_JUDGED, flags=flags,
                   diagnostics=result.diagnostics | told)  # fmt: skip


def _variance(fit: JointFit, own: FloatField, common: FloatField) -> FloatField:
    """Of one log-rate at every pixel, from samples (samples, ...) of what noise and calibration do to it."""
    width = [POOLING * fit.guess.correlation_um / h for h in fit.problem.grid.spacing_um]
    pooled = pooled_variance(np.mean(own**2, axis=0), fit.problem.mask, width, len(own))
    return np.asarray(pooled + np.mean(common**2, axis=0))


def _log_rate_deviations(fit: JointFit, samples: Unknowns) -> FloatField:
    """Deviations of the unknown log-rates on the nucleus's grid, (samples, maps, ...)."""
    model = fit.model
    named = model.named_scalars(samples)
    logs = model.synthesise(samples.modes * model.root) + named["log_rates"] + 2.0 * named["log_scale"]
    return np.stack([np.stack([cut(fit.problem, s[i]) for i in range(model.maps)]) for s in logs])


def _of_means(values: list[FloatField], deviations: FloatField, use: list[Mask]) -> FloatField:
    """Relative deviations of the mean rates, (maps, samples), from those of the log-rates; NaN without a pixel."""
    found = np.full((deviations.shape[1], len(deviations)), np.nan)
    for i, where in enumerate(use):
        if where.any():
            found[i] = deviations[:, i][:, where] @ (values[i][where] / values[i][where].sum())
    return found


def _rms(values: FloatField) -> float:
    return float(np.sqrt(np.mean(values**2)))
