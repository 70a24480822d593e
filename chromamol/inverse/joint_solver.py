"""Damped Gauss-Newton steps of the joint fit, and solutions of its normal equations.

References
----------
Nocedal & Wright, Numerical Optimization (2006), chapter 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from chromamol.inverse.joint_calibrated import NormalSolver
from chromamol.inverse.joint_linear import Linearisation
from chromamol.inverse.joint_model import JointModel
from chromamol.inverse.joint_unknowns import Unknowns, concatenated, squares

LARGEST_CHANGE = 0.3
"""Largest change of a volume fraction in one step: beyond it f(φ) is another function."""

HALVINGS = 6

LARGEST_RECALIBRATION = 0.5
"""Largest change of the calibration in one step, in prior deviations: rates follow the third power of a gain of which
they know little, and a full first step led to fractions far below zero."""

PIXELS_AT_ONCE = 300_000
"""Samples that are solved for together on a CPU, in pixels: with twice as many the arrays of one product fill 64 MB,
which the C library then gives back and asks for again every time (a quarter of the time)."""

ITERATIONS = 600
"""Most inner iterations of a solve."""

PIXELS_AT_ONCE_ON_GPU = 16_000_000
"""The same on a GPU, for samples of many nuclei: about 4 GB."""

RESPONSE_TOLERANCE = 1e-2
"""Of what the fields answer a change of the calibration with, in a step. A step along inexact responses is still one of
descent, and where the calibration rests they do not matter. One pattern took 8 steps so, 10 with 3e-2, 9 with 3e-3."""

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
    responses : of the fields to the calibration (`NormalSolver.fields_of_responses`): the next step starts from them.
    """

    point: Unknowns
    cost: torch.Tensor
    gained: torch.Tensor
    decreased: torch.Tensor
    length: torch.Tensor
    responses: torch.Tensor | None


def gauss_newton_step(
    model: JointModel, x: Unknowns, tau: torch.Tensor | float, *, tolerance: torch.Tensor | float,
    inner: torch.dtype = torch.float64, calibrate: bool = True, near: torch.Tensor | None = None,
) -> Step:  # fmt: skip
    """Take one damped step: cut to a change of `LARGEST_CHANGE`, then halved until the cost falls.

    `tau` and `tolerance` are one for all or one for each entry. Without `calibrate` the calibration stays as it is;
    with it, `near` are the responses to it of a step before.
    """
    residuals = model.residuals(x, tau)
    exact, solver = _solver(
        model, x, tau, tolerance=RESPONSE_TOLERANCE, inner=inner, calibrate=calibrate, near=near
    )
    solver = solver.solving_to(tolerance)
    right = exact.adjoint(residuals).map(torch.neg)
    before = 0.5 * squares(residuals)
    change = solver(right, floor=(LEAST_GAIN * before).to(inner), largest=LARGEST_RECALIBRATION)
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
    return Step(taken, reached, before - reached, decreased, stay, solver.fields_of_responses)


def solve_normal(
    model: JointModel, x: Unknowns, tau: torch.Tensor | float, rights: Sequence[Sequence[Unknowns]],
    *, tolerances: Sequence[float], passes: Sequence[int], inner: torch.dtype = torch.float64, calibrate: bool = True,
) -> list[tuple[Unknowns, ...]]:  # fmt: skip
    """Return H⁻¹ times right sides, with the calibration held unless `calibrate`.

    Parameters
    ----------
    rights : groups of right sides, (n, ...) each, for every nucleus of the batch.
    tolerances, passes : of each group (`NormalSolver.refined`); what depends on the calibration is solved for to the
        loosest of them, in as many passes as the most of them.
    """
    _, solver = _solver(
        model, x, tau, tolerance=max(tolerances), inner=inner, calibrate=calibrate, passes=max(passes)
    )
    groups = zip(zip(*rights, strict=True), tolerances, passes, strict=True)
    solved = [_solved(solver.solving_to(tolerance), group, count) for group, tolerance, count in groups]
    return [tuple(mine) for mine in zip(*solved, strict=True)]


def _solved(solver: NormalSolver, right: Sequence[Unknowns], passes: int) -> list[Unknowns]:
    """Solve for as many right sides of every nucleus at a time as memory is good for."""
    first = right[0].phi_h
    most = PIXELS_AT_ONCE if first.device.type == "cpu" else PIXELS_AT_ONCE_ON_GPU
    at_once = max(1, most // (len(right) * first[0].numel()))
    solved = []
    for part in zip(*(each.split(at_once) for each in right), strict=True):
        count = len(part[0].phi_h)
        solved.append(solver.repeated(count).refined(concatenated(part), passes).split(count))
    return [concatenated(mine) for mine in zip(*solved, strict=True)]


def _solver(
    model: JointModel, x: Unknowns, tau: torch.Tensor | float, *, tolerance: float, inner: torch.dtype,
    calibrate: bool, passes: int = 1, near: torch.Tensor | None = None,
) -> tuple[Linearisation, NormalSolver]:  # fmt: skip
    """Return the derivative in float64, and the normal equations with it, which are iterated on in `inner`.

    `tolerance` and `passes` are of what depends on the calibration.
    """
    exact = Linearisation.at(model, x, tau)
    at = Linearisation.at(model.to(inner), x.map(lambda a: a.to(inner)), tau)
    solver = NormalSolver.of(
        exact, at, iterations=ITERATIONS, tolerance=tolerance, calibrate=calibrate, passes=passes,
        near=near,
    )  # fmt: skip
    return exact, solver
