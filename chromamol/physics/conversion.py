"""What turns euchromatin into heterochromatin and back: the two marks, and room for more.

A conversion adds its rate to ∂t φ_h and takes it from ∂t φ_e, so chromatin is conserved whatever the rate.
Methylation and acetylation are the model's own. **This is where a transcription term goes**: the source
lets transcription turn heterochromatin into euchromatin, but gives no form that a snapshot can fix, so none is
built in. Write a class with an `equation` and a `__call__`, and give `simulate_chromatin` or `evolve_chromatin`
`parameters=ChromatinModel(parameters, conversions=(...,))`:

    @dataclass(frozen=True)
    class Transcription:
        rate_per_um2: torch.Tensor                       # Γ_tr / D on the grid
        equation: str = "- Γ_tr φ_h φ_e"

        def __call__(self, phi_h, phi_e):
            return -self.rate_per_um2 * phi_h * phi_e    # in um^-2; negative: heterochromatin is lost

Its derivative, which the steady solver needs, is found by automatic differentiation.

References
----------
Kant et al., Nat. Commun. 15, 4338 (2024), doi:10.1038/s41467-024-48698-z.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch


@runtime_checkable
class Conversion(Protocol):
    """A local rate at which euchromatin becomes heterochromatin."""

    @property
    def equation(self) -> str:
        """As it stands in the balance of φ_h, with its sign."""
        ...

    def __call__(self, phi_h: Any, phi_e: Any) -> Any:
        """Net rate over D in um^-2, (..., *grid); a function of the two fields at the same point."""
        ...


@dataclass(frozen=True, eq=False)
class EpigeneticExchange:
    """Γ_me φ_e - Γ_ac φ_h.

    Parameters
    ----------
    methylation, acetylation : Γ_me / D and Γ_ac / D in um^-2, numbers or maps (..., *grid).
    """

    methylation: Any
    acetylation: Any
    equation: str = "+ Γ_me φ_e - Γ_ac φ_h"

    def __call__(self, phi_h: Any, phi_e: Any) -> Any:
        return self.methylation * phi_e - self.acetylation * phi_h


def conversion_slopes(
    conversion: Conversion, phi_h: torch.Tensor, phi_e: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Derivatives of a conversion by φ_h and by φ_e at the same point, exact; it is local, so that is all of them."""
    with torch.enable_grad():
        fields = phi_h.detach().requires_grad_(), phi_e.detach().requires_grad_()
        total = (conversion(*fields) + 0.0 * (fields[0] + fields[1])).sum()  # a term may leave out one field
        slope_h, slope_e = torch.autograd.grad(total, fields)
    return slope_h, slope_e
