"""Mollified regression: both rate maps from two density fields by weighted linear least squares.

The weak balance (`weak_form`) is linear in the rates; its error covariance follows from the noise
(`weak_noise`); smooth maps and their error bars follow from the evidence (`smooth_fit`), with the width of
the test functions chosen by the data (`width`).
"""

from __future__ import annotations

import math

import numpy as np
import torch

from chromamol.inverse.problem import RateProblem
from chromamol.inverse.rates import Outcome, RateMap, Rates
from chromamol.inverse.single_fit import RegressionFit, relative_flux_error
from chromamol.inverse.width import fit_best_width

IDENTIFIED_AT = 2.0
"""A rate counts as determined when its mean exceeds this many standard errors."""


def regress(problem: RateProblem, *, device: torch.device) -> Rates:
    """Return both rate maps, or the methylation map when acetylation is known.

    Every outcome is a result: what the data cannot tell is NaN in the maps, named in `outcome` and `flags`.
    """
    fit = fit_best_width(problem, device=device)
    if fit is None:
        nothing = RateMap.unknown(problem.grid.shape)
        return _result(problem, (nothing, nothing), Outcome.NO_VALID_PIXEL, ("kernel_exceeds_nucleus",), None)
    maps = [fit.rate_map(which) for which in range(fit.maps)]
    determined = [m.mean > IDENTIFIED_AT * m.mean_se for m in maps]
    flags = []
    if any(d and (m.values[m.valid] < 0.0).any() for d, m in zip(determined, maps, strict=True)):
        flags.append("negative_rate")
    if problem.known_acetylation is not None:
        maps.append(RateMap.given(problem.known_acetylation, fit.lattice.valid))
        determined.append(True)
    for name, known in zip(("methylation", "acetylation"), determined, strict=True):
        if not known:
            flags.append(f"{name}_not_identifiable")
    nothing = RateMap.unknown(problem.grid.shape)
    kept = [m if known else nothing for m, known in zip(maps, determined, strict=True)]
    return _result(problem, (kept[0], kept[1]), _outcome(problem, *determined), tuple(flags), fit)


def _outcome(problem: RateProblem, methylation: bool, acetylation: bool) -> Outcome:
    if problem.known_acetylation is not None:
        return Outcome.METHYLATION_GIVEN_ACETYLATION if methylation else Outcome.METHYLATION_NOT_IDENTIFIABLE
    return {
        (True, True): Outcome.BOTH_RATES,
        (True, False): Outcome.ACETYLATION_NOT_IDENTIFIABLE,
        (False, True): Outcome.METHYLATION_NOT_IDENTIFIABLE,
        (False, False): Outcome.NOT_IDENTIFIABLE,
    }[methylation, acetylation]


def _result(
    problem: RateProblem, maps: tuple[RateMap, RateMap], outcome: Outcome, flags: tuple[str, ...],
    fit: RegressionFit | None,
) -> Rates:  # fmt: skip
    ratio, ratio_se = integral_ratio(problem)
    diagnostics = {}
    if fit is not None:
        diagnostics = {
            "misfit": fit.solution.misfit,
            "smoothness_um": fit.solution.length_um,
            "relative_amplitude": fit.solution.amplitude,
            "test_functions": float(fit.lattice.count),
        }
    return Rates(
        methylation=maps[0], acetylation=maps[1], ratio=ratio, ratio_se=ratio_se, outcome=outcome,
        flags=flags, method="regression", phi_h=problem.phi_h, phi_e=problem.phi_e,
        noise_sd=problem.mean_noise_sd(),
        mollifier_width_um=math.nan if fit is None else fit.half_width_um[-1], diagnostics=diagnostics,
    )  # fmt: skip


def integral_ratio(problem: RateProblem) -> tuple[float, float]:
    """Return <φ_h> / <φ_e> over the nucleus, the mean of Γ_me / Γ_ac, and its standard error.

    The error holds the noise of both means and the flux through the border of a cut region, at the scale of
    an eighth of the nucleus; it does not hold calibration.
    """
    count = np.count_nonzero(problem.mask)
    mean_h = float(problem.phi_h.values[problem.mask].mean())
    mean_e = float(problem.phi_e.values[problem.mask].mean())
    sd_h, sd_e = (sd / math.sqrt(count) for sd in problem.mean_noise_sd())
    diameter = (count * problem.grid.pixel_volume_um) ** (1 / problem.grid.ndim)
    flux = relative_flux_error(problem, diameter / 16)
    return mean_h / mean_e, mean_h / mean_e * math.hypot(sd_h / mean_h, sd_e / mean_e, flux)
