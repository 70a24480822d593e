"""Accurate in time: an additive Runge-Kutta method of order 4 with an embedded one of order 3.

    ∂t u = L u + N(u),    L = s Δ - ℓ² Δ² (φ_h),    L = Δ - ℓ² Δ² (φ_e)

L is stiff, linear and solved implicitly, stage by stage; N, the rest of the model, is explicit. The method is
ARK4(3)6L[2]SA: its implicit part is L-stable and stiffly accurate, its two parts share weights, so what the
model conserves is conserved. The difference of the two orders is the error that the step is chosen by.

References
----------
Kennedy & Carpenter, Appl. Numer. Math. 44, 139 (2003), doi:10.1016/S0168-9274(02)00138-1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from chromamol.errors import ParameterError, SimulationError
from chromamol.physics.dynamics import ChromatinDynamics
from chromamol.synthetic.spaces import PeriodicBox, WalledNucleus

DIAGONAL = 0.25
IMPLICIT: tuple[tuple[float, ...], ...] = (
    (),
    (1 / 4,),
    (8611 / 62500, -1743 / 31250),
    (5012029 / 34652500, -654441 / 2922500, 174375 / 388108),
    (15267082809 / 155376265600, -71443401 / 120774400, 730878875 / 902184768, 2285395 / 8070912),
    (82889 / 524892, 0.0, 15625 / 83664, 69875 / 102672, -2260 / 8211),
)
EXPLICIT: tuple[tuple[float, ...], ...] = (
    (),
    (1 / 2,),
    (13861 / 62500, 6889 / 62500),
    (
        -116923316275 / 2393684061468,
        -2731218467317 / 15368042101831,
        9408046702089 / 11113171139209,
    ),
    (
        -451086348788 / 2902428689909,
        -2682348792572 / 7519795681897,
        12662868775082 / 11960479115383,
        3355817975965 / 11060851509271,
    ),
    (
        647845179188 / 3216320057751,
        73281519250 / 8382639484533,
        552539513391 / 3454668386233,
        3354512671639 / 8306763924573,
        4040 / 17871,
    ),
)
WEIGHTS = (82889 / 524892, 0.0, 15625 / 83664, 69875 / 102672, -2260 / 8211, 1 / 4)
EMBEDDED = (
    4586570599 / 29645900160,
    0.0,
    178811875 / 945068544,
    814220225 / 1159782912,
    -3700637 / 11593932,
    61727 / 225920,
)
ORDER = 4


@dataclass(frozen=True)
class TimeSettings:
    """How accurate in time.

    Parameters
    ----------
    tolerance : largest error of a volume fraction per step, as the embedded method estimates it.
    fixed_step : take steps of this size instead, in the model's unit of time; a step that leaves the
        range of volume fractions is then an error.
    max_steps : between two times that were asked for.
    """

    tolerance: float = 1e-5
    fixed_step: float | None = None
    max_steps: int = 100_000

    def __post_init__(self) -> None:
        if not (0.0 < self.tolerance < 0.1 and self.max_steps >= 1):
            raise ParameterError(f"{self}.", expected="0 < tolerance < 0.1 and max_steps >= 1.",
                                 do="leave the defaults.")  # fmt: skip
        if self.fixed_step is not None and not (math.isfinite(self.fixed_step) and self.fixed_step > 0.0):
            raise ParameterError(f"fixed_step = {self.fixed_step}.", expected="a positive number, or None.",
                                 do="leave it out: the step is then chosen by its error.")  # fmt: skip


SAFETY, SHRINK, STRETCH = 0.9, 0.2, 3.0
FIRST_CHANGE = 1e-3  # of a volume fraction, in the first step: small, the error then finds the right one
SMALLEST_STEP = 1e-13
RUNAWAY = 10.0  # a volume fraction beyond it belongs to no mixture: the step was unstable


def evolve(
    dynamics: ChromatinDynamics, state: torch.Tensor, times: Sequence[float], settings: TimeSettings
) -> Iterator[torch.Tensor]:
    """Yield the state at each of `times` but the first, at which it is given.

    Parameters
    ----------
    state : (batch, 2, *grid). One step serves the whole batch: the smallest that any entry needs.
    times : increasing, in the model's unit of time.

    Raises
    ------
    SimulationError : a step that becomes too small, or (with a fixed step) one that is unstable.

    Notes
    -----
    Ends early, with fewer states than times, when `max_steps` are not enough for an interval.
    """
    stepper = _Stepper(dynamics, settings.tolerance)
    rate = dynamics.rate_of_change(state)
    step = settings.fixed_step or FIRST_CHANGE / max(float(rate.abs().max()), 1e-6)
    for start, end in pairwise(times):
        now, taken = start, 0
        while end - now > 1e-12 * max(abs(end), end - start):
            if taken == settings.max_steps:
                return
            # An interval's last two steps are made even, so that none is a sliver.
            left = end - now
            size = left if step >= left else min(step, 0.5 * left) if step > 0.5 * left else step
            new_state, error = stepper.step(state, size)
            taken += 1
            if settings.fixed_step is not None:
                _require_stable(new_state, size)
                state, now = new_state, now + size
                continue
            ratio = error / settings.tolerance
            if ratio <= 1.0:
                state, now = new_state, now + size
            factor = SAFETY * max(ratio, 1e-12) ** (-1.0 / ORDER) if math.isfinite(ratio) else SHRINK
            proposed = size * min(max(factor, SHRINK), STRETCH)
            step = max(step, proposed) if ratio <= 1.0 and size < step else proposed
            if step < SMALLEST_STEP:
                raise SimulationError(f"The time step fell to {step:.2g} units at time {now:.4g}.",
                                      expected="a state that changes smoothly in time.",
                                      do="check the rates and the initial fields for extreme values.")  # fmt: skip
        yield state


def _require_stable(state: torch.Tensor, step: float) -> None:
    size = float(state.abs().max())
    if not size < RUNAWAY:  # also NaN
        raise SimulationError(f"A volume fraction of {size:.3g} after a step of {step:.3g} units of time.",
                              expected="volume fractions between 0 and 1: the step is unstable.",
                              do="use a smaller fixed_step, or none: it is then chosen by its error.")  # fmt: skip


class _Stepper:
    """One step of the method, for one model on one space."""

    def __init__(self, dynamics: ChromatinDynamics, tolerance: float) -> None:
        space = dynamics.space
        assert isinstance(space, PeriodicBox | WalledNucleus)
        self.dynamics, self.space = dynamics, space
        # The middle of the range of f', -phi_max² / 2 to phi_max²: the least that is left to the explicit part.
        stiffness = dynamics.phi_max**2 / 4.0
        self.linear = torch.tensor([stiffness, 1.0], dtype=torch.float64, device=space.inside.device)
        self.linear = self.linear.reshape(2, *(1,) * space.ndim)
        self.solve_tolerance = 1e-3 * tolerance

    def step(self, state: torch.Tensor, size: float) -> tuple[torch.Tensor, float]:
        """Return the state after `size` and the largest error in it."""
        implicit, explicit = [self._implicit(state)], [self._explicit(state)]
        for row_i, row_e in zip(IMPLICIT[1:], EXPLICIT[1:], strict=True):
            right = state + size * sum(
                (a * k + b * n for a, k, b, n in zip(row_i, implicit, row_e, explicit, strict=True)),
                torch.zeros_like(state),
            )
            stage = self._solve(right, DIAGONAL * size)
            implicit.append((stage - right) / (DIAGONAL * size))
            explicit.append(self._explicit(stage))
        total = [k + n for k, n in zip(implicit, explicit, strict=True)]
        change = sum((w * t for w, t in zip(WEIGHTS, total, strict=True)), torch.zeros_like(state))
        defect = sum(
            ((w - e) * t for w, e, t in zip(WEIGHTS, EMBEDDED, total, strict=True)), torch.zeros_like(state)
        )
        return state + size * change, float((size * defect).abs().max())

    def _implicit(self, state: torch.Tensor) -> torch.Tensor:
        """L u."""
        curvature = self.space.laplacian(state)
        return self.space.laplacian(self.linear * state - self.dynamics.interface_length**2 * curvature)

    def _explicit(self, state: torch.Tensor) -> torch.Tensor:
        """N(u): what the model says beyond L u."""
        return self.dynamics.rate_beyond(state, self.linear)

    def _solve(self, right: torch.Tensor, size: float) -> torch.Tensor:
        """(1 - size L)⁻¹ of the right side."""
        quartic = size * self.dynamics.interface_length**2
        return self.space.solve_diffusion(right, size * self.linear, quartic, tolerance=self.solve_tolerance)
