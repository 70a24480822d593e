"""Space in the periodic box: the steady state converges faster than any power of the pixel, down to rounding."""

from __future__ import annotations

import numpy as np
import torch

from chromamol.physics.dynamics import ChromatinDynamics
from chromamol.synthetic.ripen import interpolate
from chromamol.synthetic.spaces import PeriodicBox
from chromamol.synthetic.steady import Outcome, SteadySettings, relax

SIDE, INTERFACE, PHI_MAX = 1.2, 0.06, 0.7  # one droplet, in units of L0
FINEST = 64


def steady_droplet(points: int) -> torch.Tensor:
    """The droplet that an uneven methylation holds in its place, (1, 2, points, points)."""
    y, x = np.meshgrid(*[2.0 * np.pi * np.arange(points) / points] * 2, indexing="ij")
    methylation = torch.as_tensor(0.7 + 0.1 * np.cos(x - 0.4) + 0.1 * np.cos(y - 0.9))[None]
    start = 0.25 + 0.15 * (np.cos(x - 0.4) + np.cos(y - 0.9))
    state = torch.as_tensor(np.stack([start, 0.5 - start.mean() + 0.0 * start]))[None]
    box = PeriodicBox.build((points, points), (SIDE / points,) * 2)
    model = ChromatinDynamics(box, methylation, torch.ones_like(methylation), PHI_MAX, INTERFACE)
    state, _, outcome = relax(model, state, SteadySettings(steadiness=1e-9))
    assert outcome is Outcome.STEADY
    return state


def test_error_falls_faster_than_any_power() -> None:
    truth = steady_droplet(FINEST)
    assert float(truth[0, 0].max()) > 0.5  # two phases and an interface
    assert float(truth[0, 0].min()) < 0.1
    sizes = [8, 12, 16, 20, 24]
    errors = np.array(
        [float((interpolate(steady_droplet(n), (FINEST,) * 2) - truth).abs().max()) for n in sizes]
    )
    orders = -np.diff(np.log(errors)) / np.diff(np.log(sizes))
    # A method of finite order would keep it; 8, 13, 15 and 16 were measured, a factor of 19 and more every four points.
    assert (np.diff(orders) > 0.0).all(), (errors, orders)
    assert orders[-1] > 12.0, (errors, orders)


def test_error_falls_to_rounding() -> None:
    error = interpolate(steady_droplet(32), (FINEST,) * 2) - steady_droplet(FINEST)
    assert float(error.abs().max()) < 1e-9  # 4e-11 with states that are steady to 1e-9
