"""Shared by the tests of the synthetic nuclei: one small simulated pattern of each kind, made once."""

from __future__ import annotations

import numpy as np
import pytest

from chromamol.physics.parameters import ChromatinParameters
from chromamol.synthetic import SimulatedChromatin, SolverSettings, simulate_chromatin
from chromamol.synthetic.shapes import nucleus_mask

REFERENCE = ChromatinParameters(interface_length_um=0.03)  # with L0 = 1 um


@pytest.fixture(scope="session")
def reference() -> ChromatinParameters:
    return REFERENCE


@pytest.fixture(scope="session")
def box() -> SimulatedChromatin:
    """A steady pattern in a periodic box 2.4 L0 wide, both rates uniform and equal."""
    return simulate_chromatin(
        1.0, 1.0, pixel_size_um=0.05, shape=(48, 48), parameters=REFERENCE, seed=3,
        settings=SolverSettings(steadiness=1e-4),
    )  # fmt: skip


@pytest.fixture(scope="session")
def nucleus() -> SimulatedChromatin:
    """A nucleus 2.4 L0 across with a wall and an uneven methylation."""
    mask = nucleus_mask(2.4, (0.06, 0.06), rng=np.random.default_rng(0))
    methylation = np.broadcast_to(np.linspace(0.6, 1.0, mask.shape[1]), mask.shape)
    return simulate_chromatin(
        methylation, 1.0, pixel_size_um=0.06, mask=mask, parameters=REFERENCE, seed=1,
        settings=SolverSettings(steadiness=1e-4),
    )  # fmt: skip
