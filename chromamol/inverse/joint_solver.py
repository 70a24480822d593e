"""Damped Gauss-Newton steps of the joint fit, and samples of its linearised posterior.

References
----------
Nocedal & Wright, Numerical Optimization (2006), chapter 10.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch

from chromamol.inverse.joint_linear import Linearisation
from chromamol.inverse.joint_model import JointModel, Unknowns, squares
from chromamol.inverse.joint_normal import NormalSolver, unit

LARGEST_CHANGE = 0.3
"""Largest change of a volume fraction in one step: beyond it f(φ) is another function."""

HALVINGS = 6

LARGEST_RECALIBRATION = 0.5
"""Largest change of the calibration in one step, in prior deviations: rates follow the third power of a gain of which
they know little, and a full first step led to fractions far below zero."""

PIXELS_AT_ONCE = 300_000
"""Samples that are solved for together on a CPU, in pixels: with twice as many the arrays of one product fill 64 MB,
which the C library then gives back and asks for again every time (a quarter of the time)."""

LEAST_GAIN = 1e-7
"""Share of the cost below which r·Mr is not worth another inner iteration."""


@dataclass(frozen=True, eq=False)
class Step:
    """One Gauss-Newton step: where it led, what it cost, and how large it was.

    Parameters
    ----------
    point : after the step.
    cost, gained : half the sum of squares there, and by how much it fell, (B,).
    decreased : whether the cost fell, (B,).
    length : share of the full step that was taken, (B,).
    """

    point: Unknowns
    cost: torch.Tensor
    gained: torch.Tensor
    decreased: torch.Tensor
    length: torch.Tensor


def gauss_newton_step(
    model: JointModel, x: Unknowns, tau: float, *, iterations: int, tolerance: float,
    inner: torch.dtype = torch.float64, calibrate: bool = True,
) -> Step:  # fmt: skip
    """Take one damped step: cut to a change of `LARGEST_CHANGE`, then halved until the cost falls.

    Without `calibrate` the calibration stays as it is.
    """
    residuals = model.residuals(x, tau)
    exact = Linearisation.at(model, x, tau)
    right = exact.adjoint(residuals).map(lambda g: -g.to(inner))
    before = 0.5 * squares(residuals)
    at = Linearisation.at(model.to(inner), x.map(lambda a: a.to(inner)), tau)
    solver = NormalSolver.of(exact, at, iterations=iterations, tolerance=tolerance, calibrate=calibrate)
    change = solver(right, floor=(LEAST_GAIN * before).to(inner), largest=LARGEST_RECALIBRATION)
    change = change.map(lambda a: a.to(x.phi_h.dtype))
    largest = (change.phi_h * model.balanced).abs().flatten(1).amax(1)
    length = (LARGEST_CHANGE / largest.clamp_min(1e-30)).clamp_max(1.0)
    for _ in range(HALVINGS):
        point = x.plus(length, change)
        cost = 0.5 * squares(model.residuals(point, tau))
        decreased = cost < before
        if bool(decreased.all()):
            break
        length = torch.where(decreased, length, 0.5 * length)
    stay = torch.where(decreased, length, torch.zeros_like(length))
    reached = torch.where(decreased, cost, before)
    # Where no step is taken the change may be NaN, and 0 · NaN is NaN.
    taken = x.plus(stay, change.map(torch.nan_to_num))
    return Step(taken, reached, before - reached, decreased, stay)


def posterior_samples(
    model: JointModel, x: Unknowns, tau: float, *, count: int, iterations: int, tolerance: float,
    generator: torch.Generator, inner: torch.dtype = torch.float64, balance_error: float | None = None,
) -> tuple[Unknowns, Unknowns]:  # fmt: skip
    """Draw deviations from the linearised posterior of the first entry, and those of the calibration, (count, ...).

    H⁻¹ Jᵀ n with white n has the covariance H⁻¹ JᵀJ H⁻¹ = H⁻¹. Where the balance is known to err by less than the `tau`
    that weighs it, its part of n is that smaller `balance_error`: the samples are then of what the estimate errs by.
    Independent of them is what the considered numbers of the calibration do: each is drawn from its prior, and
    everything that is estimated responds as the fit would.

    References
    ----------
    Bardsley et al., SIAM J. Sci. Comput. 36, A1895 (2014), doi:10.1137/140964023; Schmidt, Adv. Control Syst. 3, 293
    (1966) (considered parameters).
    """
    exact = Linearisation.at(model, x, tau)
    at = Linearisation.at(model.to(inner), x.map(lambda a: a.to(inner)), tau)
    shapes = at.forward(x.map(lambda a: torch.zeros_like(a, dtype=inner)))
    white = {
        name: torch.randn((count, *value.shape[1:]), generator=generator, dtype=inner).to(value.device)
        for name, value in shapes.items()
    }
    if balance_error is not None:
        white["balance"] *= min(1.0, balance_error / tau)
    solver = NormalSolver.of(exact, at, iterations=iterations, tolerance=tolerance, calibrate=True)
    deviations = solve_in_parts(solver, at.adjoint(white))
    drawn = _orthogonal(count, len(model.considered), generator).to(deviations.phi_h)
    considered = deviations.map(torch.zeros_like)
    for j, factors in zip(model.considered, drawn.T, strict=True):
        one = unit(at, j)
        considered = considered.plus(factors, one.map(torch.sub, solver(at.normal(one))))
    own, common = (d.map(lambda a: a.to(x.phi_h.dtype)) for d in (deviations, considered))
    return own, common


def solve_in_parts(solver: NormalSolver, right: Unknowns) -> Unknowns:
    """Return H⁻¹ `right`, as many entries of the batch at a time as memory is good for."""
    at_once = len(right.phi_h) if right.phi_h.is_cuda else max(1, PIXELS_AT_ONCE // right.phi_h[0].numel())
    parts = zip(*(part.split(at_once) for part in right.parts()), strict=True)
    return functools.reduce(
        lambda some, more: some.map(lambda a, b: torch.cat([a, b]), more),
        (solver(Unknowns(*part)) for part in parts),
    )


def _orthogonal(count: int, columns: int, generator: torch.Generator) -> torch.Tensor:
    """(count, columns) of mean square one and without correlation: few samples that have the variance of many."""
    drawn = torch.randn((count, columns), generator=generator, dtype=torch.float64)
    return math.sqrt(count) * torch.linalg.qr(drawn)[0]
