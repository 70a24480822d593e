"""What every balance of the model shares: its two forms, and the functions that a weak form is tested with.

A balance reads ∂t φ / D = Δμ + source, with μ = f(φ) - ℓ² Δφ. Its residual is

    strong:   Δ(f(φ) - ℓ² Δφ) + source - ∂t φ / D                                at every point
    weak:     ∫ f(φ) Δψ - ℓ² φ ΔΔψ + (source - ∂t φ / D) ψ                        for a test function ψ

The weak form differentiates ψ alone, never the data. With a ψ that vanishes with three derivatives at the border
of its support, it needs no boundary condition.

Everything works on numpy arrays and torch tensors alike: the last `ndim` axes are the grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial import Polynomial

from chromamol.errors import KernelError

Laplacian = Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class TestFunction:
    """A test function on a grid, with the derivatives that the weak form needs.

    Parameters
    ----------
    values, laplacian, bilaplacian : ψ, Δψ, ΔΔψ, (*grid); in 1, 1 / length² and 1 / length⁴.
    cell_volume : of one grid cell, in length^ndim.
    """

    __test__ = False  # pytest takes classes called Test... for tests

    values: Any
    laplacian: Any
    bilaplacian: Any
    cell_volume: float

    @property
    def ndim(self) -> int:
        return int(self.values.ndim)

    def integrate(self, integrand: Any) -> Any:
        """∫ over the grid by the midpoint rule, which is spectrally accurate for a compact smooth integrand."""
        return integrand.sum(tuple(range(-self.ndim, 0))) * self.cell_volume

    @classmethod
    def bump(
        cls, shape: Sequence[int], spacing: Sequence[float], *, centre: Sequence[float], radius: float,
        power: int = 6,
    ) -> TestFunction:  # fmt: skip
        """(1 - r² / radius²)^power inside the radius, zero outside, with exact derivatives.

        Parameters
        ----------
        shape, spacing : of the grid; the first cell's centre is at 0.
        centre, radius : in the units of `spacing`.
        power : at least 5, so that the bilaplacian is continuous.

        Raises
        ------
        KernelError : a power that is too small, or a radius under four cells.
        """
        if power < 5:
            raise KernelError(f"power = {power}.", expected="at least 5: the weak form takes four derivatives.",
                              do="use 6.")  # fmt: skip
        if radius < 4.0 * max(spacing):
            raise KernelError(f"radius = {radius:.4g} on cells of {max(spacing):.4g}.",
                              expected="at least four cells.", do="use a wider test function.")  # fmt: skip
        axes = [h * np.arange(n) - c for n, h, c in zip(shape, spacing, centre, strict=True)]
        square = sum(x**2 for x in np.meshgrid(*axes, indexing="ij")) / radius**2
        psi = Polynomial([1.0, -1.0]) ** power
        once = _radial_laplacian(psi, len(shape))
        twice = _radial_laplacian(once, len(shape))
        values = [np.where(square < 1.0, p(square), 0.0) for p in (psi, once, twice)]
        cell = float(np.prod(spacing))
        return cls(values[0], values[1] / radius**2, values[2] / radius**4, cell)


def _radial_laplacian(profile: Polynomial, ndim: int) -> Polynomial:
    """Δ g(r²) = 4 r² g'' + 2 d g', as a polynomial in r²."""
    return 4.0 * Polynomial([0.0, 1.0]) * profile.deriv(2) + 2.0 * ndim * profile.deriv(1)


def strong_residual(
    bulk: Any, phi: Any, source: Any, *, interface_length: float, laplacian: Laplacian, change: Any = 0.0
) -> Any:
    """Δ(f(φ) - ℓ² Δφ) + source - ∂t φ / D, (..., *grid), in 1 / length².

    Parameters
    ----------
    bulk, phi : f(φ) and φ.
    source : net production of φ over D, in 1 / length².
    laplacian : Δ over the grid.
    change : ∂t φ / D, zero for a steady state.
    """
    return laplacian(bulk - interface_length**2 * laplacian(phi)) + source - change


def weak_residual(
    bulk: Any, phi: Any, source: Any, *, interface_length: float, test: TestFunction, change: Any = 0.0
) -> Any:
    """∫ f(φ) Δψ - ℓ² φ ΔΔψ + (source - ∂t φ / D) ψ, (...), in length^(ndim - 2); arguments as `strong_residual`."""
    flux = bulk * test.laplacian - interface_length**2 * phi * test.bilaplacian
    return test.integrate(flux + (source - change) * test.values)
