"""Manufactured solutions inside a wall: a state is prescribed, the force that holds it is added, the error is measured.

The force is what the model's differential equation, worked out by hand, says of the prescribed state; the solver must
find the state. Both obey ∂n φ = ∂n Δφ = 0 at the wall, which is no flux.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from numpy.polynomial import Polynomial

from chromamol.physics.dynamics import ChromatinDynamics
from chromamol.physics.free_energy import bulk_curvature, bulk_stiffness
from chromamol.synthetic.spaces import WalledNucleus
from chromamol.synthetic.steady import Outcome, SteadySettings, relax

LENGTH, PHI_MAX, METHYLATION = 0.15, 0.7, 0.8


@dataclass(frozen=True)
class Forced(ChromatinDynamics):
    """The model with a given force, (1, 2, *grid)."""

    force: torch.Tensor = field(default_factory=lambda: torch.zeros(1))

    def rate_of_change(self, state: torch.Tensor) -> torch.Tensor:
        return super().rate_of_change(state) + self.force


def error_of(mask: np.ndarray, h: float, phi_h: list[np.ndarray], phi_e: list[np.ndarray]) -> float:
    """Root mean square error of the steady state; each field with φ, |∇φ|², Δφ, ΔΔφ."""
    (h0, h1, h2, h4), (e0, _, e2, e4) = phi_h, phi_e
    exchange = METHYLATION * e0 - h0
    flux_h = bulk_stiffness(h0, PHI_MAX) * h2 + bulk_curvature(h0, PHI_MAX) * h1 - LENGTH**2 * h4
    rate = np.stack([flux_h + exchange, e2 - LENGTH**2 * e4 - exchange]) * mask
    space = WalledNucleus.build(mask, (h,) * mask.ndim)
    truth = torch.as_tensor(np.stack([h0, e0]) * mask)[None]
    force = -torch.as_tensor(rate)[None]
    # Total chromatin is conserved only if the force adds none on this grid; its mean is a discretisation error.
    force = force - space.mean(force.sum(1, keepdim=True)) / 2.0 * space.inside
    inside = space.inside[None]
    model = Forced(space, METHYLATION * inside, inside, PHI_MAX, LENGTH, force=force)
    state, _, outcome = relax(model, truth, SteadySettings(steadiness=1e-9))
    assert outcome is Outcome.STEADY
    return float(torch.linalg.vector_norm(state - truth)) / float(np.sqrt(2 * mask.sum()))


def square(cells: int) -> tuple[np.ndarray, float, list[np.ndarray]]:
    """cos πx cos πy on the unit square: a wall along the grid."""
    h = 1.0 / cells
    mask = np.pad(np.ones((cells, cells), dtype=bool), 2)
    y, x = (np.indices(mask.shape) - 1.5) * h
    cx, cy, sx, sy = np.cos(np.pi * x), np.cos(np.pi * y), np.sin(np.pi * x), np.sin(np.pi * y)
    slope = np.pi**2 * ((sx * cy) ** 2 + (cx * sy) ** 2)
    return mask, h, [cx * cy, slope, -2 * np.pi**2 * cx * cy, 4 * np.pi**4 * cx * cy]


def disc(cells: int) -> tuple[np.ndarray, float, list[np.ndarray]]:
    """6 s - 4.5 s² + s³ of s = r² in the unit disc: a wall across the grid; Δ g(s) = 4 s g'' + 4 g'."""
    h = 2.0 / cells
    y, x = (np.indices((cells + 4, cells + 4)) - (cells + 3) / 2) * h
    s = x**2 + y**2
    g = Polynomial([0.0, 6.0, -4.5, 1.0]) / 2.5
    once = 4 * Polynomial([0.0, 1.0]) * g.deriv(2) + 4 * g.deriv(1)
    twice = 4 * Polynomial([0.0, 1.0]) * once.deriv(2) + 4 * once.deriv(1)
    return s < 1.0, h, [g(s), 4 * s * g.deriv(1)(s) ** 2, once(s), twice(s)]


@pytest.mark.parametrize(
    ("shape", "sizes", "low", "high"), [(square, (10, 20, 40), 3.7, 4.3), (disc, (24, 48, 96), 0.8, 2.2)]
)
def test_steady_state_converges_to_the_manufactured_one(shape, sizes, low, high) -> None:
    """Order 4 along a wall that follows the grid; a staircase for a round wall costs the high order."""
    errors = []
    for cells in sizes:
        mask, h, wave = shape(cells)
        factors = (0.1, 0.1**2, 0.1, 0.1)
        phi_h = [f * w for f, w in zip(factors, wave, strict=True)]
        phi_e = [-0.5 * w for w in phi_h]
        phi_h[0], phi_e[0] = phi_h[0] + 0.2, phi_e[0] + 0.3
        errors.append(error_of(mask, h, phi_h, phi_e))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert low < orders[-1] < high, (errors, orders)
