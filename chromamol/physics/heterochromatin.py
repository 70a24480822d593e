"""The balance of heterochromatin, of fourth order.

    ∂t φ_h = D Δμ_h + Γ_me φ_e - Γ_ac φ_h,    μ_h = f(φ_h) - ℓ² Δφ_h,    f(φ) = φ (φ_max - φ) (φ_max - 2 φ)

References
----------
Kant et al., Nat. Commun. 15, 4338 (2024), doi:10.1038/s41467-024-48698-z; arXiv:2505.11682.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chromamol.physics.free_energy import bulk_potential
from chromamol.physics.parameters import ChromatinParameters
from chromamol.physics.residuals import Laplacian, TestFunction, strong_residual, weak_residual

EQUATION = "∂t φ_h = D Δ[φ_h (φ_max - φ_h) (φ_max - 2 φ_h) - ℓ² Δφ_h]"


@dataclass(frozen=True)
class HeterochromatinBalance:
    """Strong and weak residual of the balance of φ_h, over D, in um^-2 (times um^ndim if weak)."""

    parameters: ChromatinParameters

    def potential(self, phi_h: Any, *, laplacian: Laplacian) -> Any:
        """μ_h, dimensionless."""
        p = self.parameters
        return bulk_potential(phi_h, p.phi_max) - p.interface_length_um**2 * laplacian(phi_h)

    def strong(self, phi_h: Any, conversion: Any, *, laplacian: Laplacian, change: Any = 0.0) -> Any:
        """Δμ_h + conversion - ∂t φ_h / D, (..., *grid).

        Parameters
        ----------
        conversion : Γ_me φ_e - Γ_ac φ_h and whatever else turns φ_e into φ_h, over D, in um^-2.
        laplacian : Δ over the grid, in um^-2.
        change : ∂t φ_h / D in um^-2; zero for a steady state.
        """
        p = self.parameters
        return strong_residual(
            bulk_potential(phi_h, p.phi_max), phi_h, conversion, interface_length=p.interface_length_um,
            laplacian=laplacian, change=change,
        )  # fmt: skip

    def weak(self, phi_h: Any, conversion: Any, *, test: TestFunction, change: Any = 0.0) -> Any:
        """∫ f(φ_h) Δψ - ℓ² φ_h ΔΔψ + (conversion - ∂t φ_h / D) ψ, (...); arguments as `strong`."""
        p = self.parameters
        return weak_residual(
            bulk_potential(phi_h, p.phi_max), phi_h, conversion, interface_length=p.interface_length_um,
            test=test, change=change,
        )  # fmt: skip
