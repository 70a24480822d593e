"""The right-hand side of the model: its derivative, its conservation, its dissipation."""

from __future__ import annotations

import numpy as np
import torch

from chromamol.physics.dynamics import ChromatinDynamics
from chromamol.synthetic.shapes import nucleus_mask
from chromamol.synthetic.spaces import PeriodicBox, WalledNucleus
from chromamol.synthetic.steady import SteadySettings, relax


def model(*, walled: bool, reacting: bool = True, adhesion: float = 0.0) -> ChromatinDynamics:
    rng = np.random.default_rng(0)
    if walled:
        mask = nucleus_mask(1.2, (0.06, 0.06), rng=rng)
        space: PeriodicBox | WalledNucleus = WalledNucleus.build(mask, (0.06, 0.06))
    else:
        space = PeriodicBox.build((20, 24), (0.06, 0.05))
    rate = space.inside * float(reacting)
    return ChromatinDynamics(space, 0.8 * rate, rate, 0.7, 0.03, adhesion)


def some_state(dynamics: ChromatinDynamics, seed: int) -> torch.Tensor:
    space = dynamics.space
    assert isinstance(space, PeriodicBox | WalledNucleus)
    noise = np.random.default_rng(seed).standard_normal((1, 2, *space.shape))
    return (0.25 + 0.1 * torch.as_tensor(noise)) * space.inside


def test_derivative_matches_differences() -> None:
    for walled in (False, True):
        dynamics = model(walled=walled, adhesion=0.05)
        state, change = some_state(dynamics, 1), some_state(dynamics, 2)
        step = 1e-5
        ahead, behind = (dynamics.rate_of_change(state + s * step * change) for s in (1, -1))
        exact = dynamics.linearised(state)(change)
        assert float((exact - (ahead - behind) / (2 * step)).norm() / exact.norm()) < 1e-8


def test_rates_of_both_kinds_cancel_in_the_total() -> None:
    for walled in (False, True):
        dynamics = model(walled=walled, adhesion=0.05)
        rate = dynamics.rate_of_change(some_state(dynamics, 1))
        assert abs(float(rate.sum())) < 1e-12 * float(rate.abs().sum())


def test_uniform_mixture_exchanges_at_the_net_rate() -> None:
    dynamics = model(walled=True)
    inside = dynamics.space.wall_per_length * 0.0 + model(walled=True).acetylation
    state = torch.stack([0.2 * inside, 0.3 * inside])[None]
    rate = dynamics.rate_of_change(state)
    torch.testing.assert_close(rate[0, 0], (0.8 * 0.3 - 0.2) * inside)
    torch.testing.assert_close(rate[0, 1], -(0.8 * 0.3 - 0.2) * inside)


def test_free_energy_never_rises_without_reactions() -> None:
    for walled in (False, True):
        dynamics = model(walled=walled, reacting=False)
        state = some_state(dynamics, 3)
        energies = [float(dynamics.free_energy(state))]
        for _ in range(12):
            state, _, _ = relax(dynamics, state, SteadySettings(max_steps=1, first_step=3e-3))
            energies.append(float(dynamics.free_energy(state)))
        assert np.all(np.diff(energies) <= 1e-12 * energies[0])
        assert energies[-1] < 0.9 * energies[0]
