"""The free energy of the chromatin model and its derivatives.

    F = ∫ ½ φ_e² + ½ φ_h² (φ_max - φ_h)² + ½ ℓ² (|∇φ_h|² + |∇φ_e|²)

    μ_h = f(φ_h) - ℓ² Δφ_h,    f(φ) = φ (φ_max - φ) (φ_max - 2 φ)
    μ_e = φ_e    - ℓ² Δφ_e

The functions are polynomials and take numbers, numpy arrays or torch tensors alike.

References
----------
Kant et al., Nat. Commun. 15, 4338 (2024), doi:10.1038/s41467-024-48698-z; the form used here is that of
arXiv:2505.11682.
"""

from __future__ import annotations

from typing import Any

BULK_SKEWNESS = 12.0
"""f'''(φ), which is the same everywhere."""


def bulk_energy(phi_h: Any, phi_max: Any) -> Any:
    """½ φ² (φ_max - φ)², the double well of heterochromatin. Dimensionless, same shape as `phi_h`."""
    return 0.5 * phi_h**2 * (phi_max - phi_h) ** 2


def bulk_potential(phi_h: Any, phi_max: Any) -> Any:
    """f(φ) = φ (φ_max - φ) (φ_max - 2 φ), the derivative of `bulk_energy`."""
    return phi_h * (phi_max - phi_h) * (phi_max - 2.0 * phi_h)


def bulk_stiffness(phi_h: Any, phi_max: Any) -> Any:
    """f'(φ) = φ_max² - 6 φ_max φ + 6 φ²; negative where the uniform mixture is unstable."""
    return phi_max**2 - 6.0 * phi_max * phi_h + 6.0 * phi_h**2


def bulk_curvature(phi_h: Any, phi_max: Any) -> Any:
    """f''(φ) = 12 φ - 6 φ_max; with noise of variance σ², E f(φ + n) = f(φ) + ½ f''(φ) σ² + O(σ⁴)."""
    return 12.0 * phi_h - 6.0 * phi_max
