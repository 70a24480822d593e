"""The balance of euchromatin.

    ∂t φ_e = D Δμ_e - Γ_me φ_e + Γ_ac φ_h,    μ_e = φ_e - ℓ² Δφ_e

References
----------
Kant et al., Nat. Commun. 15, 4338 (2024), doi:10.1038/s41467-024-48698-z; arXiv:2505.11682.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chromamol.physics.parameters import ChromatinParameters
from chromamol.physics.residuals import Laplacian, TestFunction, strong_residual, weak_residual

EQUATION = "∂t φ_e = D Δ[φ_e - ℓ² Δφ_e]"


@dataclass(frozen=True)
class EuchromatinBalance:
    """Strong and weak residual of the balance of φ_e, over D, in um^-2 (times um^ndim if weak)."""

    parameters: ChromatinParameters

    def potential(self, phi_e: Any, *, laplacian: Laplacian) -> Any:
        """μ_e, dimensionless."""
        return phi_e - self.parameters.interface_length_um**2 * laplacian(phi_e)

    def strong(self, phi_e: Any, conversion: Any, *, laplacian: Laplacian, change: Any = 0.0) -> Any:
        """Δμ_e - conversion - ∂t φ_e / D, (..., *grid); arguments as for heterochromatin, `change` of φ_e."""
        return strong_residual(
            phi_e, phi_e, -conversion, interface_length=self.parameters.interface_length_um,
            laplacian=laplacian, change=change,
        )  # fmt: skip

    def weak(self, phi_e: Any, conversion: Any, *, test: TestFunction, change: Any = 0.0) -> Any:
        """∫ φ_e Δψ - ℓ² φ_e ΔΔψ - (conversion + ∂t φ_e / D) ψ, (...)."""
        return weak_residual(
            phi_e, phi_e, -conversion, interface_length=self.parameters.interface_length_um, test=test,
            change=change,
        )  # fmt: skip
