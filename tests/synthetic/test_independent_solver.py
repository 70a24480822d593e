"""The reaction-free limit is a Cahn-Hilliard equation, which py-pde solves by finite differences and explicit steps."""

from __future__ import annotations

import numpy as np
import pytest

from chromamol.physics.parameters import ChromatinParameters
from chromamol.synthetic import EvolutionSettings, evolve_chromatin

pde = pytest.importorskip("pde", reason="py-pde is not installed (the dev extra has it)")

SIDE, END, ELL, TOP = 0.72, 0.2, 0.03, 0.7
PERIODIC = "auto_periodic_neumann"


def start(pixels: int) -> np.ndarray:
    x = SIDE * (np.arange(pixels) + 0.5) / pixels * 2 * np.pi / SIDE
    return 0.3 + 0.15 * np.cos(x)[:, None] * np.cos(2 * x + 0.4) + 0.05 * np.sin(x)[None]


class CahnHilliard(pde.PDEBase):
    """With scipy's stencils: the others would be compiled at run time, which takes most of a minute."""

    def evolution_rate(self, state, t=0):
        potential = state * (TOP - state) * (TOP - 2 * state) - ELL**2 * state.laplace(
            "auto_periodic_neumann", backend="scipy"
        )
        return potential.laplace(PERIODIC, backend="scipy")


def by_py_pde(pixels: int) -> np.ndarray:
    grid = pde.CartesianGrid([[0, SIDE]] * 2, pixels, periodic=True)
    step = 0.2 * (SIDE / pixels) ** 4 / (8 * ELL**2)
    state = pde.ScalarField(grid, start(pixels))
    return CahnHilliard().solve(state, t_range=END, dt=step, backend="numpy", tracker=None).data


def test_cahn_hilliard_agrees_with_an_independent_solver() -> None:
    """Its second-order differences converge to our spectral solution with order 2."""
    errors = []
    for pixels in (12, 24):
        phi = start(pixels)
        movie = evolve_chromatin(
            start(48), 0.0 * start(48), 0.0, 0.0, times=[0.0, END], pixel_size_um=SIDE / 48,
            parameters=ChromatinParameters(phi_max=TOP, interface_length_um=ELL),
            settings=EvolutionSettings(tolerance=1e-7),
        )  # fmt: skip
        # Cell means of the fine solution are second-order accurate point values at the coarse cell centres.
        ours = movie.heterochromatin[-1].reshape(pixels, 48 // pixels, pixels, 48 // pixels).mean((1, 3))
        assert np.abs(ours - phi).max() > 0.1  # the phases did separate
        errors.append(np.abs(by_py_pde(pixels) - ours).max())
    assert errors[1] < 0.02
    assert np.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.4), errors
