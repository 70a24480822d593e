"""The steady balance of water: the sum of the two chromatin balances, integrated twice.

    Δ(μ_h + μ_e) = 0, and no flux through the border, hence    μ_h + μ_e = C, one number per nucleus

Conversions cancel in the sum, so this holds whatever the rates are; it is what splits one channel in two.

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

EQUATION = "μ_h + μ_e = C"


@dataclass(frozen=True)
class WaterBalance:
    """μ_h + μ_e of a steady state, and the residuals of Δ(μ_h + μ_e) = 0."""

    parameters: ChromatinParameters

    def potential(self, phi_h: Any, phi_e: Any, *, laplacian: Laplacian) -> Any:
        """μ_h + μ_e, (..., *grid), dimensionless: the same at every point of a steady nucleus."""
        p = self.parameters
        total = phi_h + phi_e
        return bulk_potential(phi_h, p.phi_max) + phi_e - p.interface_length_um**2 * laplacian(total)

    def strong(self, phi_h: Any, phi_e: Any, *, laplacian: Laplacian) -> Any:
        """Δ(μ_h + μ_e), (..., *grid), in um^-2."""
        p = self.parameters
        return strong_residual(
            bulk_potential(phi_h, p.phi_max) + phi_e, phi_h + phi_e, 0.0,
            interface_length=p.interface_length_um, laplacian=laplacian,
        )  # fmt: skip

    def weak(self, phi_h: Any, phi_e: Any, *, test: TestFunction) -> Any:
        """∫ (f(φ_h) + φ_e) Δψ - ℓ² (φ_h + φ_e) ΔΔψ, (...), in um^(ndim - 2)."""
        p = self.parameters
        return weak_residual(
            bulk_potential(phi_h, p.phi_max) + phi_e, phi_h + phi_e, 0.0,
            interface_length=p.interface_length_um, test=test,
        )  # fmt: skip
