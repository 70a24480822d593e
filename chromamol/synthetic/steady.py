"""To the steady state: implicit steps that grow until they are Newton's.

One step solves (1 / Δt - J) δ = R, with R = ∂t u and J its exact derivative, by preconditioned GMRES.
A small Δt is a linearly implicit Euler step along the flow, Δt -> ∞ is Newton on R = 0. The steps grow
as long as the state changes little, so droplets that ripen are followed, and the end is quadratic.
Following the flow from droplets leads to a stable pattern; a bare Newton method would as soon find an
unstable one.

References
----------
Kelley & Keyes, SIAM J. Numer. Anal. 35, 508 (1998), doi:10.1137/S0036142996304796.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import torch

from chromamol.errors import ParameterError
from chromamol.physics.dynamics import ChromatinDynamics
from chromamol.physics.free_energy import bulk_stiffness
from chromamol.synthetic.krylov import Operator, gmres
from chromamol.synthetic.spaces import PeriodicBox, WalledNucleus


class Outcome(Enum):
    """How a run ended; the value is the sentence that a user reads."""

    STEADY = "the state is as steady as was asked"
    STEP_LIMIT = "the largest number of steps was reached before the state was as steady as was asked"
    STALLED = "the steps became too small to go on"


@dataclass(frozen=True)
class SteadySettings:
    """Parameters
    ----------
    steadiness : stop when max |∂t φ| falls below it, in volume fraction per unit time.
    max_steps : and at the latest after so many steps.
    first_step : Δt of the first step, in the model's unit of time.
    largest_change : change of a volume fraction at which a step is neither stretched nor cut.
    """

    steadiness: float = 1e-6
    max_steps: int = 1000
    first_step: float = 1e-3
    largest_change: float = 0.1

    def __post_init__(self) -> None:
        if not (self.steadiness > 0.0 and self.max_steps >= 1 and self.first_step > 0.0):
            raise ParameterError(f"{self}.", expected="positive numbers.", do="leave the defaults.")
        if not 0.0 < self.largest_change <= 0.5:
            raise ParameterError(f"largest_change = {self.largest_change}.", expected="a number in (0, 0.5].",
                                 do="use 0.1: larger steps are unstable.")  # fmt: skip


SMALLEST_STEP, LARGEST_STEP = 1e-12, 1e8
STRETCH, CUT = 2.0, 1.0 / 3.0
INNER_TOLERANCE = 1e-2  # of GMRES; tighter solves cost more than the steps they save
LAST_INNER_TOLERANCE = 1e-4  # near the end, where Newton's convergence is worth it


def relax(
    dynamics: ChromatinDynamics, state: torch.Tensor, settings: SteadySettings
) -> tuple[torch.Tensor, torch.Tensor, Outcome]:
    """Follow the flow from `state`, (batch, 2, *grid), to a steady state.

    Returns
    -------
    the state, max |∂t φ| of each entry of the batch, and how the run ended. The mean of φ_h + φ_e stays
    as it was to rounding.
    """
    space = dynamics.space
    assert isinstance(space, PeriodicBox | WalledNucleus)
    batch = state.shape[0]
    step = torch.full((batch,), settings.first_step, dtype=state.dtype, device=state.device)
    rate = dynamics.rate_of_change(state)
    unsteady = _largest(rate)
    for _ in range(settings.max_steps):
        if bool((unsteady <= settings.steadiness).all()):
            return state, unsteady, Outcome.STEADY
        if bool((step < SMALLEST_STEP).any()):
            return state, unsteady, Outcome.STALLED
        # Entries of the batch that have arrived rest while the others go on.
        moving = (unsteady > settings.steadiness).reshape(-1, *(1,) * (state.ndim - 1))
        change, residual = _implicit_step(dynamics, space, state, rate * moving, step, unsteady)
        moved = _largest(change)
        new_state = state + change
        new_rate = dynamics.rate_of_change(new_state)
        new_unsteady = _largest(new_rate)
        accept = _acceptable(moved, residual, unsteady, new_unsteady, settings)
        keep = accept.reshape(-1, *(1,) * (state.ndim - 1))
        state, rate = torch.where(keep, new_state, state), torch.where(keep, new_rate, rate)
        unsteady = torch.where(accept, new_unsteady, unsteady)
        stretch = (settings.largest_change / moved.clamp_min(1e-300)).clamp(0.5, STRETCH)
        step = (step * torch.where(accept, stretch, torch.full_like(step, CUT))).clamp_max(LARGEST_STEP)
    outcome = Outcome.STEADY if bool((unsteady <= settings.steadiness).all()) else Outcome.STEP_LIMIT
    return state, unsteady, outcome


def _largest(values: torch.Tensor) -> torch.Tensor:
    return values.abs().reshape(values.shape[0], -1).amax(1)


def _acceptable(
    moved: torch.Tensor, residual: torch.Tensor, before: torch.Tensor, after: torch.Tensor,
    settings: SteadySettings,
) -> torch.Tensor:  # fmt: skip
    """A step counts if it is small, was solved, and does not throw a nearly steady state far off."""
    thrown_off = (after > 20.0 * before) & (before < 0.1)
    return (moved <= 2.0 * settings.largest_change) & (residual <= 0.1) & ~thrown_off & after.isfinite()


def _implicit_step(
    dynamics: ChromatinDynamics, space: PeriodicBox | WalledNucleus, state: torch.Tensor, rate: torch.Tensor,
    step: torch.Tensor, unsteady: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    jacobian = dynamics.linearised(state)
    per_step = (1.0 / step).reshape(-1, *(1,) * (state.ndim - 1))
    last = bool((unsteady < 1e-4).all())
    return gmres(
        lambda change: per_step * change - jacobian(change),
        rate,
        precondition=fourier_preconditioner(dynamics, space, state, per_step.squeeze(1)),
        tolerance=LAST_INNER_TOLERANCE if last else INNER_TOLERANCE,
    )


def fourier_preconditioner(
    dynamics: ChromatinDynamics,
    space: PeriodicBox | WalledNucleus,
    state: torch.Tensor,
    per_step: torch.Tensor,
) -> Operator:
    """Invert the same operator with its coefficients averaged over the nucleus, by Fourier transform.

    For a nucleus with a wall the periodic extension is inverted and the result cut off at the wall.
    """
    axis = -space.ndim - 1
    stiffness = bulk_stiffness(state.select(axis, 0), dynamics.phi_max)
    # The mean stiffness is negative before phases separate; the preconditioner must stay definite.
    stiffness = space.mean(stiffness).clamp_min(0.1)
    methylation, acetylation = space.mean(dynamics.methylation), space.mean(dynamics.acetylation)
    square = -space.symbol
    quartic = dynamics.interface_length**2 * square**2
    diagonal_h = per_step + stiffness * square + quartic + acetylation
    diagonal_e = per_step + square + quartic + methylation
    determinant = diagonal_h * diagonal_e - methylation * acetylation

    def apply(residual: torch.Tensor) -> torch.Tensor:
        mode_h, mode_e = space.transform(residual).unbind(axis)
        solved = torch.stack(
            [
                (diagonal_e * mode_h + methylation * mode_e) / determinant,
                (acetylation * mode_h + diagonal_h * mode_e) / determinant,
            ],
            axis,
        )
        change = space.inverse_transform(solved) * space.inside
        # Total chromatin is conserved by every step, also by one that was solved only roughly.
        surplus = space.mean(change.sum(axis, keepdim=True)) / 2.0
        return change - surplus * space.inside

    return apply
