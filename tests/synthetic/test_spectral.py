"""The Newton system among Fourier modes: it is the system of the model, whatever the rates and the dimension."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from chromamol.physics.dynamics import ChromatinDynamics
from chromamol.synthetic.krylov import conjugate_residuals
from chromamol.synthetic.rates import log_normal_rate
from chromamol.synthetic.spaces import PeriodicBox
from chromamol.synthetic.spectral import SpectralSystem, newton_change


@dataclass(frozen=True)
class Transcription:
    """A conversion whose slopes vary with the fields."""

    equation: str = "- 0.3 φ_h φ_e"

    def __call__(self, phi_h: torch.Tensor, phi_e: torch.Tensor) -> torch.Tensor:
        return -0.3 * phi_h * phi_e


def case(
    shape: tuple[int, ...], *, even: bool, per_step: float, batch: int = 2
) -> tuple[ChromatinDynamics, PeriodicBox, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    spacing = tuple(0.05 + 0.01 * axis for axis in range(len(shape)))
    box = PeriodicBox.build(shape, spacing)
    rates = [
        log_normal_rate(shape, spacing, mean=m, log_sd=0.0 if even else 0.3, correlation_um=0.4, rng=rng)
        for m in (0.8, 1.0)
    ]
    methylation, acetylation = (torch.as_tensor(r)[None] for r in rates)
    conversions = () if even else (Transcription(),)
    dynamics = ChromatinDynamics(box, methylation, acetylation, 0.7, 0.03, conversions=conversions)
    phi_h = [
        log_normal_rate(shape, spacing, mean=0.3, log_sd=0.4, correlation_um=0.2, rng=rng)
        for _ in range(batch)
    ]
    state = torch.as_tensor(np.stack([np.stack([h, 0.5 - 0.2 * h]) for h in phi_h]))
    return dynamics, box, state, torch.full((batch, *(1,) * (len(shape) + 1)), per_step, dtype=torch.float64)


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("shape", [(20, 24), (15, 21), (10, 12, 14)])
def test_solves_the_linearised_model(shape: tuple[int, ...], even: bool) -> None:
    dynamics, box, state, per_step = case(shape, even=even, per_step=20.0)
    truth = torch.as_tensor(np.random.default_rng(1).standard_normal(state.shape))
    truth = truth - box.mean(truth.sum(1, keepdim=True)) / 2.0
    left = per_step * truth - dynamics.linearised(state)(truth)
    found = newton_change(dynamics, box, state, left, per_step, tolerance=1e-12)
    torch.testing.assert_close(found, truth, rtol=0.0, atol=1e-8)


def test_single_precision_solves_to_its_tolerance() -> None:
    dynamics, box, state, per_step = case((20, 24), even=False, per_step=20.0)
    left = dynamics.rate_of_change(state)
    exact = newton_change(dynamics, box, state, left, per_step, tolerance=1e-12)
    found = newton_change(dynamics, box, state, left, per_step, tolerance=1e-3)
    assert found.dtype == torch.float64
    assert float((found - exact).norm()) < 1e-2 * float(exact.norm())


def test_a_rough_solve_keeps_total_chromatin() -> None:
    dynamics, box, state, per_step = case((20, 24), even=False, per_step=1e-6)
    change = newton_change(dynamics, box, state, dynamics.rate_of_change(state), per_step, tolerance=0.5)
    assert float(change.abs().max()) > 1e-3
    assert float(box.mean(change.sum(1, keepdim=True)).abs().max()) < 1e-15


def test_even_rates_make_the_system_symmetric() -> None:
    dynamics, box, state, per_step = case((15, 20), even=True, per_step=1e-3)
    system = SpectralSystem.build(dynamics, box, state, per_step)
    rng = np.random.default_rng(2)
    # Modes of real fields, so that Parseval's sum over half of them is the one over all.
    a, b = (system.enter(torch.as_tensor(rng.standard_normal(state.shape)))[:, :1] for _ in range(2))
    a[..., 0, 0] = b[..., 0, 0] = 0.0  # the mean moves the others and is moved by none
    one, other = ((x.conj() * system.apply(y)).real.sum() for x, y in ((a, b), (b, a)))
    torch.testing.assert_close(one, other, rtol=1e-10, atol=0.0)


def test_conjugate_residuals_on_a_batch_of_symmetric_systems() -> None:
    torch.manual_seed(0)
    root = torch.randn(3, 12, 12, dtype=torch.float64)
    matrices = root @ root.mT + torch.eye(12, dtype=torch.float64)
    truth = torch.randn(3, 12, dtype=torch.float64)
    right = (matrices @ truth[..., None])[..., 0]
    right[1] = 0.0  # an entry that is solved already rests
    found = conjugate_residuals(lambda x: (matrices @ x[..., None])[..., 0], right, tolerance=1e-12, window=2)
    truth[1] = 0.0
    torch.testing.assert_close(found, truth)
