"""The joint fit: fields and rates together, the PSF in the data term, errors from the linearised posterior.

The regression differentiates measured fields; here the fields themselves must obey the balance, which uses
what the noise leaves of them. The weight of the balance rises from step to step until its residual is a
small share of the noise (see `joint_setup.TAU_PER_NOISE`); each step is damped Gauss-Newton.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import ndimage

from chromamol.field import Field
from chromamol.inverse.joint_model import JointModel, Unknowns
from chromamol.inverse.joint_setup import (
    LEAST_TAU,
    Guess,
    JointProblem,
    balanced_pixels,
    build_model,
    last_tau,
    log_rate_basis,
    start,
)
from chromamol.inverse.joint_smoothness import LARGEST_STEP, evidence_step, in_basis
from chromamol.inverse.joint_solver import gauss_newton_step, posterior_samples
from chromamol.inverse.lattice import erode_by_box
from chromamol.inverse.pooled_variance import pooled_variance
from chromamol.inverse.rates import Outcome, RateMap, Rates
from chromamol.shapes import FloatField, Mask

FIRST_TAU, TAU_FACTOR = 0.05, 0.4

CALIBRATED_BELOW = 0.01
"""τ from which on gains and ℓ are fitted, too. Before, the fields are too far off for them; later, the valley in which
they move is too narrow for steps of any length."""

MAX_STEPS = 18
"""And as many again once the border was opened: that is another problem."""

NEARLY_SETTLED = 0.1
"""Below such a step, and from the last τ but one, the smoothness of the rates is chosen anew."""

DETERMINED = 10.0
"""Norm of an outer potential over τ from which on the data tell about half of it (traces at 1 and 5 % noise)."""

LEAKS = 0.8
"""Mean square of the whitened potentials of wall sources, of those that the data determine: above it the border is no
wall. Converged fits of closed nuclei have .2 to .35, with a mask one or two pixels too small .3 to 1.3 (5 % noise), of
borders drawn through larger patterns 1.2 to 4.9 (5 and 10 %)."""

SETTLED = 0.02
"""The fit has converged when a whole step moves the log-rates by less than this, rms: half of the standard error at
5 % noise..."""

SETTLED_COST = 2e-4
"""... and by which the cost falls by less than this share. Rates alone can rest while the fields are still far: with
a PSF of 2 px a step that more than halved the cost moved them by only .016."""

ITERATIONS = 600
TOLERANCE, LAST_TOLERANCE = 1e-2, 1e-3
"""Of the inner solves, on the way and at the last τ. 1e-1 and 1e-2 lead astray: three more steps, measured."""

SAMPLES, SAMPLE_TOLERANCE = 8, 1e-3
"""Posterior samples; with 1e-3 they differ from those of 1e-5 by 8 % (rms), with 1e-2 by 41 %."""

POOLING = 0.5
"""Correlation lengths over which the variance of the samples is pooled."""

RIM_PX = 8
"""Rates nearer to the border than this are not valid: half-width of the narrowest test function."""

LARGEST_RELATIVE_ERROR = 0.5
"""A pixel whose rate is known worse than this is not identifiable."""

GUESS_AT = 1.0
"""A regression whose rate is less than so many standard errors above zero says nothing to start from."""

FARTHEST_CALIBRATION = 4.0
"""Prior deviations of a gain or ℓ beyond which a fit that rests has found a pattern that is not there."""

LARGEST_BLUR = 0.75
"""σ of the PSF over the radius of the domains beyond which the domains' shape is not in the image."""

CORRELATION_BOUNDS_PX = (12.0, 0.5)
"""Correlation length: at least so many pixels, at most this share of the nucleus's box."""

LOG_SD_BOUNDS = (0.03, 0.8)
"""Standard deviation of the log-rates."""


@dataclass(frozen=True, eq=False)
class JointFit:
    """A converged or unconverged fit.

    Parameters
    ----------
    guess : where it began, with the smoothness of the rates that it found.
    model, point : the residual's constants and where the fit ended.
    tau : of the last step.
    converged : whether the rates had stopped moving, with a calibration that is possible.
    steps : Gauss-Newton steps taken.
    inner : number type that its linear solves took in the end.
    """

    problem: JointProblem
    guess: Guess
    model: JointModel
    point: Unknowns
    tau: float
    converged: bool
    steps: int
    inner: torch.dtype

    @property
    def scale(self) -> float:
        """φ_max over its expected value."""
        return math.exp(float(self.model.named_scalars(self.point)["log_scale"].flatten()[0]))


def fit_jointly(
    problem: JointProblem,
    guess: Guess,
    *,
    device: torch.device,
    inner: torch.dtype,
    generator: torch.Generator,
) -> JointFit:
    """Run the fit from a rough guess of the rates and their smoothness.

    It ends early, unconverged, where the domains' shape is not in the image: steps that ask for it lead nowhere.

    Parameters
    ----------
    inner : number type of the inner linear solves; where those find no descent they go on in float64.
    generator : of the random signs with which the evidence of a smoothness is estimated.
    """
    model = build_model(problem, guess, device=device)
    point = start(problem, model)
    last = last_tau(problem)
    tau, converged, steps, first, chosen = max(FIRST_TAU, last), False, 0, guess, False
    most, balanced = MAX_STEPS, model.balanced > 0.0
    while steps < most and not converged:
        tolerance = LAST_TOLERANCE if tau <= last else TOLERANCE
        step = gauss_newton_step(model, point, tau, iterations=ITERATIONS, tolerance=tolerance, inner=inner,
                                 calibrate=tau <= max(last, CALIBRATED_BELOW))  # fmt: skip
        moved = _rms_change(model, point, step.point, balanced)
        point, steps, descended = step.point, steps + 1, bool(step.decreased.all())
        if not descended and inner is not torch.float64:
            inner = torch.float64  # rounding can spoil a solve where little noise makes the balance stiff
            continue
        if tau <= last and not descended:
            break  # what was reached is not known to be the minimum
        rests = moved < SETTLED and bool((step.gained < SETTLED_COST * step.cost).all())
        whole = float(step.length.min()) == 1.0
        converged = tau <= last and whole and rests and chosen
        if tau * TAU_FACTOR <= last and whole and moved < NEARLY_SETTLED and not chosen:
            fit = JointFit(problem, guess, model, point, tau, False, steps, inner)
            model, point, guess, chosen = _smoothed_anew(fit, first, inner=inner, generator=generator)
        if converged and guess.closed and _leaks(model, point, tau):
            guess, converged, chosen, most = replace(guess, closed=False), False, False, steps + MAX_STEPS
            model, point = _opened(problem, guess, model, point)
        following = max(last, TAU_FACTOR * tau)
        if following <= CALIBRATED_BELOW < tau and _is_hidden(problem, _cut(problem, point.phi_h[0])):
            break
        tau = following
    converged = converged and _is_calibrated(model, point)
    return JointFit(problem, guess, model, point, tau, converged, steps, inner)


def _smoothed_anew(
    fit: JointFit, first: Guess, *, inner: torch.dtype, generator: torch.Generator
) -> tuple[JointModel, Unknowns, Guess, bool]:
    """Take one step of the rates' smoothness towards higher evidence; the last value is whether that was a short one.

    `first` is the guess that the whole fit began with.
    """
    now = fit.guess
    basis = log_rate_basis(fit.problem, now)
    behind = np.log([now.log_sd / first.log_sd, now.correlation_um / first.correlation_um])
    step = evidence_step(fit.model, fit.point, fit.tau, basis.slopes(), behind=behind, iterations=ITERATIONS,
                         generator=generator, inner=inner)  # fmt: skip
    log_sd, length = np.exp(step) * (now.log_sd, now.correlation_um)
    better = _smooth(now, fit.problem, float(length), float(log_sd))
    model, point = in_basis(fit.model, fit.point, basis, log_rate_basis(fit.problem, better), better.log_sd)
    gone = np.log([better.log_sd / now.log_sd, better.correlation_um / now.correlation_um])
    return model, point, better, bool(np.abs(gone).max() < (1.0 - 1e-6) * LARGEST_STEP)


def _leaks(model: JointModel, point: Unknowns, tau: float) -> bool:
    """Whether the border is none of the nucleus: more passes it than mirror images leave of a wall."""
    walls = slice(0, model.wall_potentials)
    determined = model.outer_potentials[0, walls].norm(dim=1) > DETERMINED * tau
    leak = float(point.outer[0, walls][determined].square().sum())
    return leak > LEAKS * float(determined.sum())


def _opened(
    problem: JointProblem, guess: Guess, model: JointModel, point: Unknowns
) -> tuple[JointModel, Unknowns]:
    """Return the model with an open border, and the same point without outer potentials: a step finds them at once."""
    model = build_model(problem, guess, device=model.images.device)
    return model, replace(point, outer=point.outer.new_zeros((1, model.outer_potentials.shape[1])))


def _smooth(guess: Guess, problem: JointProblem, correlation_um: float, log_sd: float) -> Guess:
    """Return the guess with another correlation length and strength, within what pixels and nucleus allow."""
    sides = [n * h for n, h in zip(problem.grid.shape, problem.grid.spacing_um, strict=True)]
    pixels, share = CORRELATION_BOUNDS_PX
    low, high = pixels * min(problem.grid.spacing_um), share * max(sides)
    return replace(guess, correlation_um=float(np.clip(correlation_um, low, max(low, high))),
                   log_sd=float(np.clip(log_sd, *LOG_SD_BOUNDS)))  # fmt: skip


def _is_calibrated(model: JointModel, point: Unknowns) -> bool:
    """Whether gains and ℓ are where their prior can mean them to be; the fit knows them in its deviations."""
    return not model.estimated or float(point.scalars[:, model.estimated].abs().max()) <= FARTHEST_CALIBRATION


def _is_hidden(problem: JointProblem, phi_h: FloatField) -> bool:
    """Whether the point spread function is too wide for the domains."""
    return problem.psf_sigma_um > LARGEST_BLUR * domain_radius_um(phi_h, problem)


def _rms_change(model: JointModel, before: Unknowns, after: Unknowns, where: torch.Tensor) -> float:
    pairs = zip(model.rates(before)[: model.maps], model.rates(after)[: model.maps], strict=True)
    return max(float(torch.log(b / a)[where].square().mean().sqrt()) for a, b in pairs)


def joint_rates(
    problem: JointProblem,
    first: Rates,
    *,
    device: torch.device,
    seed: int,
    inner: torch.dtype = torch.float32,
) -> Rates:
    """Return both rate maps, or that of methylation when acetylation is known; not judged yet.

    Parameters
    ----------
    first : the regression's result, which supplies the guess and the smoothness of the maps.
    seed : of the posterior samples.
    inner : number type of the inner linear solves to begin with. float32 is mostly enough there, because the balance is
        of second order and each Gauss-Newton step starts from a residual in float64.
    """
    # One pixel more on each side, where the image has it, tells a wall from the edge of the image.
    (window,) = ndimage.find_objects(ndimage.binary_dilation(problem.mask).astype(np.uint8))
    rates = _rates_of_box(problem.crop(window), first, device=device, seed=seed, inner=inner)
    grid = problem.grid

    def whole(field: Field) -> Field:
        values = np.zeros(grid.shape)
        values[window] = field.values
        return Field(values, grid, field.unit, problem.mask)

    return replace(
        rates, methylation=rates.methylation.embedded(grid.shape, window),
        acetylation=rates.acetylation.embedded(grid.shape, window), phi_h=whole(rates.phi_h), phi_e=whole(rates.phi_e),
    )  # fmt: skip


def _rates_of_box(
    problem: JointProblem, first: Rates, *, device: torch.device, seed: int, inner: torch.dtype
) -> Rates:
    """Fit on the bounding box of the nucleus: pixels beside it cost as much as those inside."""
    generator = torch.Generator().manual_seed(seed)
    fit = fit_jointly(problem, first_guess(problem, first), device=device, inner=inner, generator=generator)
    phi_h, phi_e = (fit.scale * _cut(problem, phi[0]) for phi in (fit.point.phi_h, fit.point.phi_e))
    radius = domain_radius_um(phi_h, problem)
    log_gains = fit.model.named_scalars(fit.point)["log_gain"].flatten()
    gains = {f"log_gain_{c}": float(gain) for c, gain in enumerate(log_gains)}
    result = replace(
        first, method="joint", phi_h=_field(fit, phi_h), phi_e=_field(fit, phi_e),
        mollifier_width_um=RIM_PX * min(problem.grid.spacing_um),
        diagnostics={"steps": float(fit.steps), "domain_radius_um": radius, "tau": fit.tau,
                     "smoothness_um": fit.guess.correlation_um, "log_rate_sd": fit.guess.log_sd,
                     "closed_border": float(fit.model.wall_potentials > 0)} | gains,
        flags=(),
    )  # fmt: skip
    nothing = RateMap.unknown(problem.grid.shape)
    if _is_hidden(problem, phi_h):
        return replace(result, methylation=nothing, acetylation=nothing, outcome=Outcome.NOT_IDENTIFIABLE,
                       flags=("unresolved_domains", "methylation_not_identifiable",
                              "acetylation_not_identifiable"))  # fmt: skip
    if not fit.converged:
        return replace(result, methylation=nothing, acetylation=nothing, outcome=Outcome.NOT_CONVERGED,
                       flags=("not_converged",))  # fmt: skip
    own, common = posterior_samples(
        fit.model, fit.point, fit.tau, count=SAMPLES, iterations=ITERATIONS, tolerance=SAMPLE_TOLERANCE,
        generator=generator, inner=fit.inner, balance_error=LEAST_TAU,
    )  # fmt: skip
    return _with_maps(result, fit, own, common)


def first_guess(problem: JointProblem, first: Rates) -> Guess:
    """Mean rates and smoothness from the regression, within what the pixels and the nucleus allow."""
    known = problem.known_acetylation
    acetylation = first.acetylation.mean if known is None else float(known[problem.mask].mean())
    told = first.diagnostics
    if known is None and not first.acetylation.exceeds_noise(GUESS_AT):
        # ℓ is 3 % of L0 in the reference model: the only length that is left.
        acetylation, told = (0.03 / problem.parameters.interface_length_um) ** 2, {}
    side = max(n * h for n, h in zip(problem.grid.shape, problem.grid.spacing_um, strict=True))
    length, log_sd = told.get("smoothness_um", 0.25 * side), told.get("relative_amplitude", 0.3)
    return _smooth(Guess(first.ratio * acetylation, acetylation, length, log_sd), problem, length, log_sd)


def _with_maps(result: Rates, fit: JointFit, own: Unknowns, common: Unknowns) -> Rates:
    """Add maps with standard errors, their means and their ratio, from the samples of the posterior.

    `own` are samples of what is estimated, `common` of what the considered numbers of the calibration do to it.
    """
    model, problem = fit.model, fit.problem
    valid = erode_by_box(problem.mask, [RIM_PX] * problem.grid.ndim) & balanced_pixels(problem)
    values = [fit.scale**2 * _cut(problem, rate[0]) for rate in model.rates(fit.point)]
    spreads = [_log_rate_deviations(fit, samples) for samples in (own, common)]
    width = [POOLING * fit.guess.correlation_um / h for h in problem.grid.spacing_um]
    maps, relative = [], []
    for i, value in enumerate(values):
        if i >= model.maps:
            maps.append(RateMap.given(value, valid).inside(problem.mask))
            relative.append(np.zeros((2, len(spreads[0]))))
            continue
        own_spread, common_spread = (s[:, i] for s in spreads)
        own_variance = pooled_variance(np.mean(own_spread**2, axis=0), problem.mask, width, len(own_spread))
        variance = own_variance + np.mean(common_spread**2, axis=0)
        rate, mean_deviations = _rate_map(value, variance, [own_spread, common_spread], valid, problem.mask)
        maps.append(rate)
        relative.append(mean_deviations / rate.mean)
    ratio, ratio_se, ratio_calibration_se = result.ratio, result.ratio_se, 0.0
    if all(np.isfinite(rate.mean) for rate in maps):
        ratio = maps[0].mean / maps[1].mean
        each = ratio * np.sqrt(np.mean((relative[0] - relative[1]) ** 2, axis=1))
        ratio_se, ratio_calibration_se = float(np.hypot(*each)), float(each[1])
    spread = model.named_scalars(own)["log_gain"].flatten(1).square().mean(0).sqrt()
    told = {
        f"log_gain_{c}_sd": float(sd) for c, sd in enumerate(spread) if model.globals + c in model.estimated
    }
    lost = [m.valid.any() and bool((valid & ~m.valid).any()) for m in maps]
    flags = ("partly_not_identifiable",) if any(lost) else ()
    return replace(result, methylation=maps[0], acetylation=maps[1], ratio=ratio, ratio_se=ratio_se,
                   ratio_calibration_se=ratio_calibration_se, outcome=Outcome.NOT_JUDGED, flags=flags,
                   diagnostics=result.diagnostics | told)  # fmt: skip


def _log_rate_deviations(fit: JointFit, samples: Unknowns) -> FloatField:
    """Deviations of the unknown log-rates on the nucleus's grid, (samples, maps, ...)."""
    model = fit.model
    named = model.named_scalars(samples)
    logs = model.synthesise(samples.modes * model.root) + named["log_rates"] + 2.0 * named["log_scale"]
    return np.stack([np.stack([_cut(fit.problem, s[i]) for i in range(model.maps)]) for s in logs])


def _rate_map(
    value: FloatField, variance: FloatField, spreads: list[FloatField], valid: Mask, mask: Mask
) -> tuple[RateMap, FloatField]:
    """One map with its error, NaN where it is not identifiable, and the deviations of its mean, as `spreads`.

    `variance` is of the log-rate, `spreads` its deviations in samples.
    """
    error = value * np.sqrt(variance)
    known = mask & (error <= LARGEST_RELATIVE_ERROR * value)
    use = valid & known
    if not use.any():
        return RateMap.unknown(value.shape), np.full((len(spreads), len(spreads[0])), np.nan)
    deviations = np.array([[(value * s)[use].mean() for s in spread] for spread in spreads])
    each = np.sqrt(np.mean(deviations**2, axis=1))
    return (
        RateMap(np.where(known, value, np.nan), np.where(known, error, np.nan), use,
                float(value[use].mean()), float(np.hypot(*each)), float(each[1])),
        deviations,
    )  # fmt: skip


def domain_radius_um(phi_h: FloatField, problem: JointProblem) -> float:
    """Twice the area over the border of the dense phase (thrice the volume in 3D), um; NaN without any."""
    dense = (phi_h > 0.5 * problem.parameters.phi_max) & problem.mask
    spacing = problem.grid.spacing_um
    cell = float(np.prod(spacing))
    faces = sum(
        np.count_nonzero(np.diff(dense.astype(np.int8), axis=axis)) * cell / h
        for axis, h in enumerate(spacing)
    )
    # Faces of pixels overestimate a smooth border by 4 / π in 2D and 3 / 2 in 3D.
    border = faces * {2: math.pi / 4, 3: 2 / 3}[dense.ndim]
    return float(dense.ndim * dense.sum() * cell / border) if border > 0.0 else math.nan


def _cut(problem: JointProblem, values: torch.Tensor) -> FloatField:
    window = tuple(slice(0, n) for n in problem.grid.shape)
    return values[window].detach().cpu().numpy().astype(np.float64)


def _field(fit: JointFit, values: FloatField) -> Field:
    return Field(values, fit.problem.grid, "1", fit.problem.mask)
