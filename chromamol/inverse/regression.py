"""Mollified regression: both rate maps from two density fields by weighted linear least squares.

The weak balance (`weak_form`) is linear in the rates; its error covariance follows from the noise
(`weak_noise`); smooth maps and their error bars follow from the evidence (`smooth_fit`), with the width of
the test functions chosen by the data (`width`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from chromamol.inverse.cut_faces import cut_flux_error
from chromamol.inverse.problem import RateProblem
from chromamol.inverse.rates import Outcome, RateMap, Rates
from chromamol.inverse.single_fit import IDENTIFIED_AT, RegressionFit, outline_flux_error
from chromamol.inverse.threads import one_thread
from chromamol.inverse.width import fit_best_width

LARGEST_SCALE_ERROR = 0.5
"""Share of a rate that the calibration may leave open without a flag: 1.96 of it span a factor of two either way."""


Fit = Callable[..., tuple[RegressionFit, ...]]
"""What chooses a width: called as `fit_best_width`."""


def regress(
    problem: RateProblem, *, device: torch.device, variants: tuple[RateProblem, ...] = (),
    fit: Fit = fit_best_width,
) -> tuple[Rates, ...]:  # fmt: skip
    """Return both rate maps, or the methylation map when acetylation is known; then those of `variants`.

    The results are not judged yet (see `judge`), so that errors of calibration can be added first. The
    variants are the same nucleus with other fields, fitted at the same width with the same weights.
    """
    problems = (problem, *variants)
    with one_thread():
        fits = fit(problem, device=device, variants=variants)
    if not fits:
        return balance_alone(problem, device=device, variants=variants)
    return tuple(_result(each, _maps(each, found), found) for each, found in zip(problems, fits, strict=True))


def balance_alone(
    problem: RateProblem, *, device: torch.device, variants: tuple[RateProblem, ...] = ()
) -> tuple[Rates, ...]:
    """Return what needs no fit, called as `regress` is: the ratio of the integral balance, and no maps."""
    del device
    return tuple(_result(each, _nothing(each), None) for each in (problem, *variants))


def _nothing(problem: RateProblem) -> tuple[RateMap, RateMap]:
    nothing = RateMap.unknown(problem.grid.shape)
    return nothing, nothing


def _maps(problem: RateProblem, fit: RegressionFit) -> tuple[RateMap, RateMap]:
    """Return methylation and acetylation, NaN outside the nucleus; unknown when the fit did not converge."""
    if not fit.solution.converged:
        return _nothing(problem)
    if problem.known_acetylation is not None:
        both = fit.rate_map(0), RateMap.given(problem.known_acetylation, fit.lattice.valid)
    else:
        both = fit.rate_map(0), fit.rate_map(1)
    return both[0].inside(problem.mask), both[1].inside(problem.mask)


def judge(rates: Rates, *, acetylation_known: bool) -> Rates:
    """Return `rates` with NaN for what the data do not determine, and with the outcome and flags that say so.

    Rates whose outcome stands already stay as they are.

    No pixel is valid where no width of test functions fits the nucleus; the joint fit has none.

    A rate is determined when its mean over the valid pixels exceeds `IDENTIFIED_AT` standard errors. Those of the
    calibration do not count: they scale a rate and cannot feign one; `scale_uncertain` speaks of them.
    """
    if rates.outcome is not Outcome.NOT_JUDGED:
        return rates
    if np.isnan(rates.mollifier_width_um) and rates.method != "joint":
        return replace(rates, outcome=Outcome.NO_VALID_PIXEL, flags=("kernel_exceeds_nucleus",))
    named = {"methylation": rates.methylation, "acetylation": rates.acetylation}
    determined, flags = {}, []
    for name, rate in named.items():
        given = acetylation_known and name == "acetylation"
        determined[name] = given or rate.exceeds_noise(IDENTIFIED_AT)
        if not determined[name]:
            flags.append(f"{name}_not_identifiable")
            named[name] = RateMap.unknown(rate.values.shape)
            continue
        if rate.calibration_se > LARGEST_SCALE_ERROR * rate.mean:
            flags.append("scale_uncertain")
    if acetylation_known:
        outcome = Outcome.METHYLATION_GIVEN_ACETYLATION
        if not determined["methylation"]:
            outcome = Outcome.METHYLATION_NOT_IDENTIFIABLE
    else:
        outcome = {
            (True, True): Outcome.BOTH_RATES,
            (True, False): Outcome.ACETYLATION_NOT_IDENTIFIABLE,
            (False, True): Outcome.METHYLATION_NOT_IDENTIFIABLE,
            (False, False): Outcome.NOT_IDENTIFIABLE,
        }[determined["methylation"], determined["acetylation"]]
    return replace(
        rates, methylation=named["methylation"], acetylation=named["acetylation"], outcome=outcome,
        flags=tuple(dict.fromkeys((*rates.flags, *flags))),
    )  # fmt: skip


def _result(problem: RateProblem, maps: tuple[RateMap, RateMap], fit: RegressionFit | None) -> Rates:
    ratio, ratio_se = integral_ratio(problem)
    diagnostics = {}
    if fit is not None:
        diagnostics = {
            "misfit": fit.solution.misfit,
            "smoothness_um": fit.solution.linear.length_um,
            "relative_amplitude": fit.solution.linear.amplitude,
            "test_functions": float(fit.lattice.count),
        }
    return Rates(
        methylation=maps[0],
        acetylation=maps[1],
        ratio=ratio,
        ratio_se=ratio_se,
        outcome=Outcome.NOT_JUDGED if fit is None else fit.outcome,
        flags=() if fit is None else fit.flags,
        method="regression",
        phi_h=problem.phi_h,
        phi_e=problem.phi_e,
        noise_sd=problem.mean_noise_sd(),
        mollifier_width_um=math.nan if fit is None else fit.half_width_um[-1],
        diagnostics=diagnostics,
    )


def integral_ratio(problem: RateProblem) -> tuple[float, float]:
    """Return <φ_h> / <φ_e> over the nucleus, the mean of Γ_me / Γ_ac, and its standard error.

    The error holds the noise of both means and the flux through a border that may not be closed, at the scale of a
    sixteenth of the nucleus, or that through what the image cuts, where it is larger; it does not hold calibration.
    """
    count = np.count_nonzero(problem.mask)
    mean_h = float(problem.phi_h.values[problem.mask].mean())
    mean_e = float(problem.phi_e.values[problem.mask].mean())
    sd_h, sd_e = (sd / math.sqrt(count) for sd in problem.mean_noise_sd())
    flux = max(outline_flux_error(problem.mask, problem.grid), cut_flux_error(problem))
    return mean_h / mean_e, mean_h / mean_e * math.hypot(sd_h / mean_h, sd_e / mean_e, flux)
