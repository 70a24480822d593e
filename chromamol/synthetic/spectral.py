"""The linear system of one Newton step in a periodic box, solved among Fourier modes.

    (1 / Δt - J) δ = r,    J δ = (Δ(f' δ_h - ℓ² Δδ_h) + x, Δ(δ_e - ℓ² Δδ_e) - x),    x = c_h δ_h + c_e δ_e

With f', c_h and c_e replaced by their means the matrix falls apart into one 2 x 2 block per mode, which
elimination of δ_e makes diagonal. Scaled by the roots of that diagonal, and measured like H⁻¹, which makes
-Δ f' symmetric, the system is

    (1 + K) y = b,    K symmetric but for the unevenness of the rates and for the mean, which moves all, moved by none.

Conjugate residuals then need a few vectors where GMRES needs a growing basis, and one iteration takes one
transform back and forth per field where the fields themselves take six.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from chromamol.physics.dynamics import ChromatinDynamics
from chromamol.physics.free_energy import bulk_stiffness
from chromamol.synthetic.krylov import SINGLE_PRECISION_TOLERANCE, conjugate_residuals
from chromamol.synthetic.spaces import PeriodicBox

WINDOW_EVEN, WINDOW_UNEVEN = 2, 4
EVEN = 1e-12  # slopes that vary less, relative to the largest, are even
SOFTEST = 0.1  # the mean of f' is negative before phases separate; the scalings need a positive one


def newton_change(
    dynamics: ChromatinDynamics, space: PeriodicBox, state: torch.Tensor, left: torch.Tensor,
    per_step: torch.Tensor, *, tolerance: float,
) -> torch.Tensor:  # fmt: skip
    """Solve (1 / Δt - J) δ = `left` until the residual, measured like H⁻¹, has fallen by `tolerance`.

    Parameters
    ----------
    state, left : (batch, 2, *grid).
    per_step : 1 / Δt > 0, (batch, 1, 1, ...) of the same rank.

    Total chromatin stays as it is, also where the system is solved only roughly.
    """
    system = SpectralSystem.build(dynamics, space, state, per_step)
    target = system.enter(left)
    if tolerance >= SINGLE_PRECISION_TOLERANCE:
        # Half the digits are plenty: the caller computes the residual that counts anew.
        system, target = system.in_single_precision(), target.to(torch.complex64)
    if system.slopes is None:
        coupled, free = target.split(1, 1)
        coupled = conjugate_residuals(system.apply, coupled, tolerance=tolerance, window=WINDOW_EVEN)
        unknown = torch.cat([coupled, free], 1)
    else:
        unknown = conjugate_residuals(system.apply, target, tolerance=tolerance, window=WINDOW_UNEVEN)
    change = system.leave(unknown).to(left.dtype)
    return (
        change - space.mean(change.sum(1, keepdim=True)) / 2.0
    )  # rounding, of which many steps make a drift


@dataclass(frozen=True, eq=False)
class SpectralSystem:
    """1 + K, and the way into and out of it; everything has the batch first and an axis of fields.

    Parameters
    ----------
    stiffness : f' less its mean, (batch, 1, *grid).
    slopes : c_h and c_e less their means, (batch, 2, *grid), or None where they are even: K acts on y_h alone then.
    inward : from (r_h + lift r_e, r_e) to b, (batch, 2, *modes); it also weighs modes as Parseval's sum does.
    outward : from y to (δ_h, δ_e - share δ_h), (batch, 2, *modes).
    lift, share : of the elimination of δ_e, (batch, 1, *modes).
    bending : k² `inward` of φ_h, (batch, 1, *modes).
    """

    space: PeriodicBox
    stiffness: torch.Tensor
    slopes: torch.Tensor | None
    inward: torch.Tensor
    outward: torch.Tensor
    lift: torch.Tensor
    share: torch.Tensor
    bending: torch.Tensor

    @classmethod
    def build(
        cls, dynamics: ChromatinDynamics, space: PeriodicBox, state: torch.Tensor, per_step: torch.Tensor
    ) -> SpectralSystem:
        """The system at `state`, as `newton_change` takes it."""
        stiffness = bulk_stiffness(state[:, :1], dynamics.phi_max)
        middle = space.mean(stiffness).clamp_min(SOFTEST)
        slopes = dynamics.exchange_slopes(state)
        means = space.mean(slopes)
        uneven = slopes - means
        loss, gain = (-means[:, :1]).clamp_min(0.0), means[:, 1:].clamp_min(0.0)

        square = -space.symbol
        quartic = dynamics.interface_length**2 * square**2
        pivot_e = per_step + square + quartic + gain
        lift, share = gain / pivot_e, loss / pivot_e
        pivot_h = per_step + middle * square + quartic + loss - loss * lift
        # In the mean, what one field gains the other loses: one equation for δ_h = -δ_e.
        mean = square == 0.0
        pivot_h = torch.where(mean, per_step + loss + gain, pivot_h)
        lift, share = lift.masked_fill(mean, 0.0), share.masked_fill(mean, -1.0)

        metric = square.masked_fill(mean, float(square[~mean].min()))
        pivots, weight = torch.cat([pivot_h, pivot_e], 1), space.mode_weights.sqrt()
        inward, outward = weight / (metric * pivots).sqrt(), (metric / pivots).sqrt() / weight
        kept = torch.stack([torch.ones_like(mean), ~mean])
        inward, outward = inward * kept, outward * kept
        even = bool(uneven.abs().max() <= EVEN * slopes.abs().max())
        return cls(
            space, stiffness - middle, None if even else uneven, inward, outward, lift, share, inward[:, :1] * square
        )  # fmt: skip

    def in_single_precision(self) -> SpectralSystem:
        single = torch.float32
        return SpectralSystem(
            self.space,
            self.stiffness.to(single),
            None if self.slopes is None else self.slopes.to(single),
            *(part.to(single) for part in (self.inward, self.outward, self.lift, self.share, self.bending)),
        )

    def enter(self, residual: torch.Tensor) -> torch.Tensor:
        """b of a residual (batch, 2, *grid)."""
        mode_h, mode_e = self.space.transform(residual).split(1, 1)
        return self.inward * torch.cat([mode_h + self.lift * mode_e, mode_e], 1)

    def leave(self, unknown: torch.Tensor) -> torch.Tensor:
        """δ of y, (batch, 2, *grid)."""
        mode_h, mode_e = (self.outward * unknown).split(1, 1)
        return self.space.inverse_transform(torch.cat([mode_h, mode_e + self.share * mode_h], 1))

    def apply(self, unknown: torch.Tensor) -> torch.Tensor:
        """(1 + K) y; of y_h alone where the slopes are even."""
        space = self.space
        if self.slopes is None:
            change = space.inverse_transform(self.outward[:, :1] * unknown)
            return unknown + self.bending * space.transform(self.stiffness * change)
        change = self.leave(unknown)
        exchange = (self.slopes * change).sum(1, keepdim=True)
        products = torch.cat([self.stiffness * change[:, :1], exchange], 1)
        bulk, gained = space.transform(products).split(1, 1)
        scaled = self.inward * torch.cat([(self.lift - 1.0) * gained, gained], 1)
        return unknown + scaled + torch.cat([self.bending * bulk, torch.zeros_like(bulk)], 1)
