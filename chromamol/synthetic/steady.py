"""To the steady state: implicit Euler steps that grow until they are Newton's.

One step solves (u - u0) / Δt = R(u), R = ∂t u, by a few Newton iterations with the exact derivative and a
Krylov method: conjugate residuals among Fourier modes in a periodic box (`synthetic.spectral`), preconditioned GMRES
inside a wall. A small Δt follows the flow, Δt -> ∞ is Newton on R = 0. Steps grow as long as the
state changes little, so droplets that ripen are followed, and the end is quadratic. Following the flow
from droplets leads to a stable pattern; a bare Newton method would as soon find an unstable one.

References
----------
Kelley & Keyes, SIAM J. Numer. Anal. 35, 508 (1998), doi:10.1137/S0036142996304796.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import torch

from chromamol.errors import ParameterError
from chromamol.physics.dynamics import ChromatinDynamics
from chromamol.physics.free_energy import bulk_stiffness
from chromamol.synthetic.krylov import Operator, gmres
from chromamol.synthetic.spaces import PeriodicBox, WalledNucleus
from chromamol.synthetic.spectral import newton_change


class Outcome(Enum):
    """How a run ended; the value is the sentence that a user reads."""

    STEADY = "the state is as steady as was asked"
    STEP_LIMIT = "the largest number of steps was reached before the state was as steady as was asked"
    STALLED = "the steps became too small to go on"
    FOLLOWED = "the state was followed for the time asked for, not to rest"
    GIVEN = "the state was given, not simulated"


@dataclass(frozen=True)
class SteadySettings:
    """Parameters
    ----------
    steadiness : stop when max |∂t φ| falls below it, in volume fraction per unit time.
    max_steps : and at the latest after so many steps.
    first_step : Δt of the first step, in the model's unit of time.
    largest_change : change of a volume fraction per step that the size of the steps aims at.
    """

    steadiness: float = 1e-6
    max_steps: int = 1000
    first_step: float = 1e-3
    largest_change: float = 0.2

    def __post_init__(self) -> None:
        if not (self.steadiness > 0.0 and self.max_steps >= 1 and self.first_step > 0.0):
            raise ParameterError(f"{self}.", expected="positive numbers.", do="leave the defaults.")
        if not 0.0 < self.largest_change <= 0.5:
            raise ParameterError(f"largest_change = {self.largest_change}.", expected="a number in (0, 0.5].",
                                 do="use 0.2: larger steps lose the flow.")  # fmt: skip


SMALLEST_STEP, LARGEST_STEP = 1e-12, 1e8
STRETCH, SHRINK, CUT = 3.0, 0.5, 1.0 / 3.0
RECOVERY = 1.3  # after a step that failed, the freedom to stretch comes back by this factor per step
NEWTON_ITERATIONS = 6
NEWTON_TOLERANCE = 0.1  # left of the step's equation over the step's rate: steps are bounded by ripening
INNER_TOLERANCE = 0.1  # of the Krylov method; tighter solves cost more than the iterations they save
LAST_INNER_TOLERANCE = 1e-3  # near the end, where Newton's convergence is worth it


def relax(
    dynamics: ChromatinDynamics, state: torch.Tensor, settings: SteadySettings,
    *, project: Callable[[torch.Tensor], torch.Tensor] = lambda state: state,
) -> tuple[torch.Tensor, torch.Tensor, Outcome]:  # fmt: skip
    """Follow the flow from `state`, (batch, 2, *grid), to a steady state.

    Parameters
    ----------
    project : restores after every step what the flow keeps and rounding does not, a symmetry say.

    Returns
    -------
    the state, max |∂t φ| of each entry of the batch, and how the run ended. The mean of φ_h + φ_e stays
    as it was to rounding.
    """
    state = state.clone()
    step = torch.full((state.shape[0],), settings.first_step, dtype=state.dtype, device=state.device)
    rate, freedom = dynamics.rate_of_change(state), torch.full_like(step, STRETCH)
    for _ in range(settings.max_steps):
        unsteady = largest(rate)
        # Entries of the batch that have arrived rest, and cost nothing, while the others go on.
        going = torch.nonzero(unsteady > settings.steadiness)[:, 0]
        if going.numel() == 0:
            return state, unsteady, Outcome.STEADY
        if bool((step[going] < SMALLEST_STEP).any()):
            return state, unsteady, Outcome.STALLED
        old, size = state[going], step[going]
        entries = dynamics.entries(going)
        new, new_rate, solved = _implicit_step(entries, old, rate[going], size, settings)
        kept = project(new)
        if kept is not new:
            new, new_rate = kept, entries.rate_of_change(kept)
        moved = largest(new - old).clamp_min(1e-300)
        state[going], rate[going] = _where(solved, new, old), _where(solved, new_rate, rate[going])
        freedom[going] = torch.where(solved, (RECOVERY * freedom[going]).clamp_max(STRETCH), 1.0 / RECOVERY)
        stretch = (settings.largest_change / moved).clamp_min(SHRINK).minimum(freedom[going])
        step[going] = (size * torch.where(solved, stretch, CUT)).clamp_max(LARGEST_STEP)
    unsteady = largest(rate)
    steady = bool((unsteady <= settings.steadiness).all())
    return state, unsteady, Outcome.STEADY if steady else Outcome.STEP_LIMIT


def largest(values: torch.Tensor) -> torch.Tensor:
    """max |values| of each entry of a batch."""
    return values.abs().reshape(values.shape[0], -1).amax(1)


def _where(choose: torch.Tensor, yes: torch.Tensor, no: torch.Tensor) -> torch.Tensor:
    return torch.where(choose.reshape(-1, *(1,) * (yes.ndim - 1)), yes, no)


def _implicit_step(
    dynamics: ChromatinDynamics, state: torch.Tensor, rate: torch.Tensor, step: torch.Tensor,
    settings: SteadySettings,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """One implicit Euler step: the new state, its rate, and which entries of the batch were solved."""
    per_step = (1.0 / step).reshape(-1, *(1,) * (state.ndim - 1))
    new_state, new_rate = state, rate
    last = bool((largest(rate) < 1e-3).all())
    left = torch.full_like(step, torch.inf)
    for _ in range(NEWTON_ITERATIONS):
        change = _newton_change(
            dynamics, new_state, new_rate - per_step * (new_state - state), per_step,
            tolerance=LAST_INNER_TOLERANCE if last else INNER_TOLERANCE,
        )  # fmt: skip
        new_state = new_state + change
        new_rate = dynamics.rate_of_change(new_state)
        followed = per_step * (new_state - state)
        before, left = left, torch.linalg.vector_norm((new_rate - followed).flatten(1), dim=1)
        solved = left <= NEWTON_TOLERANCE * torch.linalg.vector_norm(followed.flatten(1), dim=1)
        solved |= largest(new_rate) <= settings.steadiness
        small = largest(new_state - state) <= 2.0 * settings.largest_change  # False for NaN
        solved &= small
        lost = ~small | (left > before)
        if bool((solved | lost).all()):
            break
    return new_state, new_rate, solved


def _newton_change(
    dynamics: ChromatinDynamics, state: torch.Tensor, left: torch.Tensor, per_step: torch.Tensor, *,
    tolerance: float,
) -> torch.Tensor:  # fmt: skip
    """Solve (1 / Δt - J) δ = `left`; how well is judged by the step's own equation afterwards."""
    space = dynamics.space
    if isinstance(space, PeriodicBox):
        return newton_change(dynamics, space, state, left, per_step, tolerance=tolerance)
    assert isinstance(space, WalledNucleus)
    jacobian = dynamics.linearised(state)
    change, _ = gmres(
        lambda direction: per_step * direction - jacobian(direction),
        left,
        precondition=fourier_preconditioner(dynamics, space, state, per_step.squeeze(1)),
        tolerance=tolerance,
    )
    return change


def fourier_preconditioner(
    dynamics: ChromatinDynamics, space: WalledNucleus, state: torch.Tensor, per_step: torch.Tensor
) -> Operator:
    """Invert the same operator with its coefficients averaged over the nucleus, by Fourier transform.

    The operator's periodic extension is inverted and the result cut off at the wall.
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
