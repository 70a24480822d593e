"""The chromatin model as an evolution equation, on any space that knows its Laplacian.

    ∂t φ_h = D Δμ_h + Γ_me φ_e - Γ_ac φ_h
    ∂t φ_e = D Δμ_e - Γ_me φ_e + Γ_ac φ_h

    μ_h = f(φ_h) - ℓ² Δφ_h - V_L ℓ δ_wall,    μ_e = φ_e - ℓ² Δφ_e

Lengths are in units of one length L, times in units of L² / D, so that D = 1 here. A state is one tensor
(..., 2, *grid) that holds φ_h and φ_e, in that order. The space decides what Δ is (spectral in a periodic
box, finite volumes inside a wall), so nothing below depends on the discretisation.

References
----------
Kant et al., Nat. Commun. 15, 4338 (2024), doi:10.1038/s41467-024-48698-z; arXiv:2505.11682.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch

from chromamol.physics.conversion import Conversion, EpigeneticExchange, conversion_slopes
from chromamol.physics.free_energy import bulk_energy, bulk_potential, bulk_stiffness


@runtime_checkable
class Space(Protocol):
    """What the model asks of a space: its Laplacian, and how much wall each cell has."""

    @property
    def wall_per_length(self) -> torch.Tensor:
        """Wall area over cell volume, (*grid), in 1 / length; zeros where there is no wall."""
        ...

    @property
    def ndim(self) -> int: ...

    def laplacian(self, values: torch.Tensor) -> torch.Tensor:
        """Δ over the last `ndim` axes, with the space's own boundary condition."""
        ...


@dataclass(frozen=True)
class ChromatinDynamics:
    """The right-hand side of the model and its derivative.

    Parameters
    ----------
    space : the discretised domain.
    methylation, acetylation : Γ_me and Γ_ac, (batch, *grid) or (1, *grid), in units of D / L².
    phi_max : volume fraction of the dense phase.
    interface_length : ℓ in units of L.
    adhesion : V_L; at the wall it makes ℓ ∂n φ_h = V_L. The wall is fully wetted from
        V_L = phi_max² / 6 on, where the gain V_L φ_max reaches the cost of an interface, φ_max³ / 6.
    conversions : further ones, such as a transcription term; rates in um^-2.
    length_um : L in um, which turns their rates into the model's unit.
    """

    space: Space
    methylation: torch.Tensor
    acetylation: torch.Tensor
    phi_max: float
    interface_length: float
    adhesion: float = 0.0
    conversions: tuple[Conversion, ...] = ()
    length_um: float = 1.0

    def exchange(self, state: torch.Tensor) -> torch.Tensor:
        """Γ_me φ_e - Γ_ac φ_h + further conversions, (..., *grid): how fast euchromatin becomes heterochromatin."""
        phi_h, phi_e = state.unbind(self._field_axis)
        rate = self._own_exchange(phi_h, phi_e)
        for conversion in self.conversions:
            rate = rate + self.length_um**2 * conversion(phi_h, phi_e)
        return rate

    def entries(self, chosen: torch.Tensor) -> ChromatinDynamics:
        """The same model for some entries of the batch, given by their indices; rates of batch 1 serve all."""
        maps = self.methylation, self.acetylation
        methylation, acetylation = (m[chosen] if m.shape[0] > 1 else m for m in maps)
        return replace(self, methylation=methylation, acetylation=acetylation)

    def potentials(self, state: torch.Tensor) -> torch.Tensor:
        """μ_h and μ_e, (..., 2, *grid)."""
        return self._bulk(state) - self.interface_length**2 * self.space.laplacian(state)

    def free_energy(self, state: torch.Tensor) -> torch.Tensor:
        """F over the volume of one cell, (...): it never rises without reactions.

        The gradient term is -½ ℓ² φ Δφ, which is ½ ℓ² |∇φ|² summed by parts: exact for a symmetric Laplacian.
        """
        phi_h, phi_e = state.unbind(self._field_axis)
        gradient = (
            -0.5 * self.interface_length**2 * (state * self.space.laplacian(state)).sum(self._field_axis)
        )
        energy = bulk_energy(phi_h, self.phi_max) + 0.5 * phi_e**2 + gradient
        if self.adhesion:
            energy = energy - self.adhesion * self.interface_length * self.space.wall_per_length * phi_h
        return energy.sum(tuple(range(-self.space.ndim, 0)))

    def rate_of_change(self, state: torch.Tensor) -> torch.Tensor:
        """∂t of both fields, (..., 2, *grid), per unit of L² / D."""
        return self._assemble(self.potentials(state), self.exchange(state))

    def rate_beyond(self, state: torch.Tensor, linear: torch.Tensor) -> torch.Tensor:
        """`rate_of_change` less D Δ(s u - ℓ² Δu), s = `linear`, (2, *grid) or broadcastable to it.

        This is what a method that treats the stiff linear part implicitly has left to do explicitly.
        """
        return self._assemble(self._bulk(state) - linear * state, self.exchange(state))

    def exchange_slopes(self, state: torch.Tensor) -> torch.Tensor:
        """Derivatives of `exchange` by φ_h and by φ_e, (..., 2, *grid)."""
        axis = self._field_axis
        phi_h, phi_e = state.unbind(axis)
        slope_h, slope_e = -self.acetylation, self.methylation
        for conversion in self.conversions:
            by_h, by_e = conversion_slopes(conversion, phi_h, phi_e)
            slope_h, slope_e = slope_h + self.length_um**2 * by_h, slope_e + self.length_um**2 * by_e
        return torch.stack(torch.broadcast_tensors(slope_h, slope_e, phi_h)[:2], axis)

    def linearised(self, state: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the exact derivative of `rate_of_change` at `state` as a map change -> rate."""
        axis = self._field_axis
        stiffness = bulk_stiffness(state.select(axis, 0), self.phi_max)
        weight = torch.stack([stiffness, torch.ones_like(stiffness)], axis)
        slope_h, slope_e = self.exchange_slopes(state).unbind(axis)

        def apply(change: torch.Tensor) -> torch.Tensor:
            potentials = weight * change - self.interface_length**2 * self.space.laplacian(change)
            change_h, change_e = change.unbind(axis)
            exchange = slope_h * change_h + slope_e * change_e
            return self._assemble(potentials, exchange)

        return apply

    @property
    def _own_exchange(self) -> EpigeneticExchange:
        return EpigeneticExchange(self.methylation, self.acetylation)

    def _bulk(self, state: torch.Tensor) -> torch.Tensor:
        """The potentials without their gradient terms."""
        phi_h, phi_e = state.unbind(self._field_axis)
        bulk_h = bulk_potential(phi_h, self.phi_max)
        if self.adhesion:
            bulk_h = bulk_h - self.adhesion * self.interface_length * self.space.wall_per_length
        return torch.stack([bulk_h, phi_e], self._field_axis)

    @property
    def _field_axis(self) -> int:
        return -self.space.ndim - 1

    def _assemble(self, potentials: torch.Tensor, exchange: torch.Tensor) -> torch.Tensor:
        return self.space.laplacian(potentials) + torch.stack([exchange, -exchange], self._field_axis)
