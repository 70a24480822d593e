"""From a rough guess of the rates to the minimum of the joint fit.

The weight of the balance rises from step to step until its residual is a small share of the noise (see
`joint_setup.TAU_PER_NOISE`); each step is damped Gauss-Newton.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from chromamol.field import Field
from chromamol.inverse.joint_model import JointModel
from chromamol.inverse.joint_setup import (
    Guess,
    JointProblem,
    build_model,
    last_tau,
    log_rate_basis,
    start,
)
from chromamol.inverse.joint_smoothness import LARGEST_STEP, evidence_step, in_basis
from chromamol.inverse.joint_together import Fit, NextStep
from chromamol.inverse.joint_unknowns import Unknowns
from chromamol.physics.parameters import ChromatinParameters
from chromamol.shapes import FloatField

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

TOLERANCE, LAST_TOLERANCE = 1e-2, 1e-3
"""Of the inner solves, on the way and at the last τ. 1e-1 and 1e-2 lead astray: three more steps, measured."""

HOPELESS = 30.0
"""Cost per pixel and image, below `CALIBRATED_BELOW`, of a pattern that no rates keep steady. Fits that converge (four
patterns, 0 to 5 % noise, one and two images, PSF up to 4 px, uncertain gains) have 5 at the most there and .5 to 1 in
the end; a real nucleus with a pixel size that is not its own had 4, 27, 85 and 217 from step to step."""

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
    box: tuple[int, ...] | None = None,
    device: torch.device,
    inner: torch.dtype,
    generator: torch.Generator,
) -> Fit[JointFit]:
    """Run the fit from a rough guess of the rates and their smoothness.

    It ends early, unconverged, where the domains' shape is not in the image, since steps that ask for it lead nowhere,
    and where no rates keep the pattern steady.

    Parameters
    ----------
    box : periodic box, in pixels; `own_box` when None.
    inner : number type of the inner linear solves; where those find no descent they go on in float64.
    generator : of the random signs with which the evidence of a smoothness is estimated.
    """
    model = build_model(problem, guess, box=box, device=device)
    point = start(problem, model)
    last = last_tau(problem)
    tau, converged, steps, first, chosen = max(FIRST_TAU, last), False, 0, guess, False
    most, balanced, responses = MAX_STEPS, model.balanced > 0.0, None
    observed = float(model.inside.sum()) * model.channels
    while steps < most and not converged:
        tolerance = LAST_TOLERANCE if tau <= last else TOLERANCE
        step = yield NextStep(
            model, point, tau, tolerance, inner, calibrate=tau <= max(last, CALIBRATED_BELOW), near=responses
        )
        moved = _rms_change(model, point, step.point, balanced)
        point, steps, descended = step.point, steps + 1, bool(step.decreased.all())
        responses = step.responses
        if not descended and inner is not torch.float64:
            inner = torch.float64  # rounding can spoil a solve where little noise makes the balance stiff
            continue
        if tau <= last and not descended:
            break  # what was reached is not known to be the minimum
        if tau < CALIBRATED_BELOW and float(step.cost) > HOPELESS * observed:
            break
        rests = moved < SETTLED and bool((step.gained < SETTLED_COST * step.cost).all())
        whole = float(step.length.min()) == 1.0
        converged = tau <= last and whole and rests and chosen
        if tau * TAU_FACTOR <= last and whole and moved < NEARLY_SETTLED and not chosen:
            fit = JointFit(problem, guess, model, point, tau, False, steps, inner)
            model, point, guess, chosen = yield from _smoothed_anew(fit, first, generator)
        if converged and guess.closed and _leaks(model, point, tau):
            guess, converged, chosen, most = replace(guess, closed=False), False, False, steps + MAX_STEPS
            model, point = _opened(problem, guess, model, point)
        following = max(last, TAU_FACTOR * tau)
        if following <= CALIBRATED_BELOW < tau and is_hidden(problem, cut(problem, point.phi_h[0])):
            break
        tau = following
    converged = converged and _is_calibrated(model, point)
    return JointFit(problem, guess, model, point, tau, converged, steps, inner)


def _smoothed_anew(
    fit: JointFit, first: Guess, generator: torch.Generator
) -> Fit[tuple[JointModel, Unknowns, Guess, bool]]:
    """Take one step of the rates' smoothness towards higher evidence; the last value is whether that was a short one.

    `first` is the guess that the whole fit began with. Where rounding spoils the solves they are done once more in
    float64. If that is no help, the smoothness stays as it is, and is not taken for chosen.
    """
    now = fit.guess
    basis = log_rate_basis(fit.problem, now)
    behind = np.log([now.log_sd / first.log_sd, now.correlation_um / first.correlation_um])
    for inner in dict.fromkeys((fit.inner, torch.float64)):
        step = yield from evidence_step(fit.model, fit.point, fit.tau, basis.slopes(), behind=behind,
                                        generator=generator, inner=inner)  # fmt: skip
        if np.isfinite(step).all():
            break
    else:
        return fit.model, fit.point, now, False
    log_sd, length = np.exp(step) * (now.log_sd, now.correlation_um)
    better = smoothed(now, fit.problem, float(length), float(log_sd))
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
    model = build_model(problem, guess, box=model.box, device=model.images.device)
    return model, replace(point, outer=point.outer.new_zeros((1, model.outer_potentials.shape[1])))


def smoothed(guess: Guess, problem: JointProblem, correlation_um: float, log_sd: float) -> Guess:
    """Return the guess with another correlation length and strength, within what pixels and nucleus allow."""
    sides = [n * h for n, h in zip(problem.grid.shape, problem.grid.spacing_um, strict=True)]
    pixels, share = CORRELATION_BOUNDS_PX
    low, high = pixels * min(problem.grid.spacing_um), share * max(sides)
    return replace(guess, correlation_um=float(np.clip(correlation_um, low, max(low, high))),
                   log_sd=float(np.clip(log_sd, *LOG_SD_BOUNDS)))  # fmt: skip


def _is_calibrated(model: JointModel, point: Unknowns) -> bool:
    """Whether gains and ℓ are where their prior can mean them to be; the fit knows them in its deviations."""
    return not model.estimated or float(point.scalars[:, model.estimated].abs().max()) <= FARTHEST_CALIBRATION


def is_hidden(problem: JointProblem, phi_h: FloatField) -> bool:
    """Whether the point spread function is too wide for the domains."""
    field = problem.images[0].like(phi_h)
    return problem.psf_sigma_um > LARGEST_BLUR * domain_radius_um(field, problem.parameters)


def _rms_change(model: JointModel, before: Unknowns, after: Unknowns, where: torch.Tensor) -> float:
    pairs = zip(model.rates(before)[: model.maps], model.rates(after)[: model.maps], strict=True)
    return max(float(torch.log(b / a)[where].square().mean().sqrt()) for a, b in pairs)


def domain_radius_um(phi_h: Field, parameters: ChromatinParameters) -> float:
    """Twice the area over the border of the dense phase (thrice the volume in 3D), um; NaN without any."""
    dense = (phi_h.values > 0.5 * parameters.phi_max) & phi_h.mask
    spacing = phi_h.grid.spacing_um
    cell = float(np.prod(spacing))
    faces = sum(
        np.count_nonzero(np.diff(dense.astype(np.int8), axis=axis)) * cell / h
        for axis, h in enumerate(spacing)
    )
    # Faces of pixels overestimate a smooth border by 4 / π in 2D and 3 / 2 in 3D.
    border = faces * {2: math.pi / 4, 3: 2 / 3}[dense.ndim]
    return float(dense.ndim * dense.sum() * cell / border) if border > 0.0 else math.nan


def cut(problem: JointProblem, values: torch.Tensor) -> FloatField:
    """Values on the nucleus's own grid, from those on its box."""
    window = tuple(slice(0, n) for n in problem.grid.shape)
    return values[window].detach().cpu().numpy().astype(np.float64)
