"""The joint fit: fields and rates together, the PSF in the data term, errors from the linearised posterior.

The regression differentiates measured fields; here the fields themselves must obey the balance, which uses
what the noise leaves of them.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from chromamol.field import Field
from chromamol.inverse.gaps import with_gaps
from chromamol.inverse.joint_fit import JointFit, cut, domain_radius_um, fit_jointly, is_hidden, smoothed
from chromamol.inverse.joint_maps import with_maps
from chromamol.inverse.joint_posterior import posterior_of
from chromamol.inverse.joint_setup import LEAST_TAU, Guess, JointProblem, balanced_pixels, own_box
from chromamol.inverse.joint_structure import shows_domains, varies_beyond_noise
from chromamol.inverse.joint_together import Fit, Place
from chromamol.inverse.lattice import erode_by_box
from chromamol.inverse.rates import Outcome, RateMap, Rates
from chromamol.physics.parameters import REFERENCE_INTERFACE
from chromamol.shapes import FloatField, Mask

RIM_PX = 8
"""Rates nearer to the border than this are not valid: half-width of the narrowest test function."""

GUESS_AT = 1.0
"""A regression whose rate is less than so many standard errors above zero says nothing to start from."""


def joint_rates(
    problem: JointProblem,
    first: Rates,
    *,
    device: torch.device,
    seed: int,
    gaps: Mask | None = None,
    inner: torch.dtype = torch.float32,
) -> Fit[Rates]:
    """Return both rate maps, or that of methylation when acetylation is known; not judged yet.

    The ratio is that of the fitted fields and rates. It is NaN where the fit tells none: that of `first` is of fields
    whose gains were guessed for a start, and its error holds no calibration.

    Parameters
    ----------
    first : the regression's result, which supplies the guess and the smoothness of the maps.
    seed : of the posterior samples.
    gaps : True where pixels were seen, when not everywhere; the images hold smooth stand-ins for the others.
    inner : number type of the inner linear solves to begin with. float32 is mostly enough there, because the balance is
        of second order and each Gauss-Newton step starts from a residual in float64.
    """
    window = problem.own_window()
    nucleus = problem.crop(window)
    untold = replace(first, method="joint", ratio=math.nan, ratio_se=math.nan, ratio_calibration_se=math.nan,
                     mollifier_width_um=math.nan, diagnostics={}, flags=())  # fmt: skip
    if problem.known_acetylation is None and not varies_beyond_noise(nucleus):
        return _without_domains(untold)
    if gaps is not None:
        nucleus = with_gaps(nucleus, gaps[window])
    box = yield Place(own_box(nucleus), (*nucleus.common, device, inner))
    generator = torch.Generator().manual_seed(seed)
    fit = yield from fit_jointly(nucleus, first_guess(nucleus, first), box=box, device=device, inner=inner,
                                 generator=generator)  # fmt: skip
    rates = yield from _rates_of(fit, untold, generator)
    return rates.embedded(problem.grid, window)


def _rates_of(fit: JointFit, untold: Rates, generator: torch.Generator) -> Fit[Rates]:
    """What a fit tells: fields, and maps with errors where it converged."""
    problem = fit.problem
    phi_h, phi_e = (fit.scale * cut(problem, phi[0]) for phi in (fit.point.phi_h, fit.point.phi_e))
    radius = domain_radius_um(problem.images[0].like(phi_h), problem.parameters)
    log_gains = fit.model.named_scalars(fit.point)["log_gain"].flatten()
    gains = {f"log_gain_{c}": float(gain) for c, gain in enumerate(log_gains)}
    result = replace(
        untold, phi_h=_field(fit, phi_h), phi_e=_field(fit, phi_e),
        diagnostics={"steps": float(fit.steps), "domain_radius_um": radius, "tau": fit.tau,
                     "smoothness_um": fit.guess.correlation_um, "log_rate_sd": fit.guess.log_sd,
                     "closed_border": float(fit.model.wall_potentials > 0)} | gains,
    )  # fmt: skip
    nothing = RateMap.unknown(problem.grid.shape)
    if is_hidden(problem, phi_h):
        return replace(result, methylation=nothing, acetylation=nothing, outcome=Outcome.NOT_IDENTIFIABLE,
                       flags=("unresolved_domains", "methylation_not_identifiable",
                              "acetylation_not_identifiable"))  # fmt: skip
    if not fit.converged:
        return replace(result, methylation=nothing, acetylation=nothing, outcome=Outcome.NOT_CONVERGED,
                       flags=("not_converged",))  # fmt: skip
    if problem.known_acetylation is None and not shows_domains(fit):
        return _without_domains(result)
    valid = erode_by_box(problem.mask, [RIM_PX] * problem.grid.ndim) & balanced_pixels(problem)
    averaged = valid if valid.any() else problem.mask
    posterior = yield from posterior_of(fit.model, fit.point, fit.tau, valid=averaged, generator=generator,
                                        inner=fit.inner, balance_error=LEAST_TAU)  # fmt: skip
    return with_maps(result, fit, posterior, valid)


def _without_domains(result: Rates) -> Rates:
    nothing = RateMap.unknown(result.methylation.values.shape)
    return replace(result, methylation=nothing, acetylation=nothing, outcome=Outcome.NOT_IDENTIFIABLE,
                   flags=("no_domains", "methylation_not_identifiable", "acetylation_not_identifiable"))  # fmt: skip


def first_guess(problem: JointProblem, first: Rates) -> Guess:
    """Mean rates and smoothness from the regression, within what the pixels and the nucleus allow."""
    known = problem.known_acetylation
    acetylation = first.acetylation.mean if known is None else float(known[problem.mask].mean())
    told = first.diagnostics
    if known is None and not first.acetylation.exceeds_noise(GUESS_AT):
        # ℓ is 3 % of L0 in the reference model: the only length that is left.
        acetylation, told = (REFERENCE_INTERFACE / problem.parameters.interface_length_um) ** 2, {}
    side = max(n * h for n, h in zip(problem.grid.shape, problem.grid.spacing_um, strict=True))
    length, log_sd = told.get("smoothness_um", 0.25 * side), told.get("relative_amplitude", 0.3)
    return smoothed(Guess(first.ratio * acetylation, acetylation, length, log_sd), problem, length, log_sd)


def _field(fit: JointFit, values: FloatField) -> Field:
    return Field(values, fit.problem.grid, "1", fit.problem.mask)
