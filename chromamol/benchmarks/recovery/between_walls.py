"""A box with walls that nothing passes, exact in space: an even continuation, periodic in a box of twice the side.

Rounding breaks the symmetry, and a pattern that moves amplifies that; so it is restored after every step.
"""

from __future__ import annotations

import numpy as np
import torch

from chromamol.physics.dynamics import ChromatinDynamics
from chromamol.physics.parameters import ChromatinParameters
from chromamol.shapes import FloatField
from chromamol.synthetic import SimulatedChromatin
from chromamol.synthetic.inputs import unit_length
from chromamol.synthetic.spaces import PeriodicBox
from chromamol.synthetic.start import droplets, local_heterochromatin
from chromamol.synthetic.steady import Outcome, SteadySettings, relax

CHROMATIN = 0.5
"""Mean of φ_h + φ_e: half of the volume is water."""


def relax_between_walls(
    methylation: FloatField, acetylation: FloatField, *, pixel: float, parameters: ChromatinParameters,
    steadiness: float, max_steps: int, seed: int, initial: tuple[FloatField, FloatField] | None = None,
) -> SimulatedChromatin:  # fmt: skip
    """Follow a pattern to its rest, or to the step limit; the arguments are those of `simulate_chromatin`."""
    length = unit_length(float(acetylation.mean()), parameters)
    inside = np.ones(methylation.shape, dtype=bool)
    spacing = (pixel / length,) * methylation.ndim
    if initial is None:
        even = local_heterochromatin(methylation, acetylation, CHROMATIN)
        start = droplets(
            inside, spacing, heterochromatin=even, total=CHROMATIN, rng=np.random.default_rng(seed)
        )
    else:
        start = np.stack(initial)
    box = PeriodicBox.build([2 * n for n in methylation.shape], spacing, device=torch.device("cpu"))
    made, removed = (torch.as_tensor(mirrored(rate) * length**2)[None] for rate in (methylation, acetylation))
    dynamics = ChromatinDynamics(
        box, made, removed, parameters.phi_max, parameters.interface_length_um / length
    )
    whole = torch.as_tensor(np.stack([mirrored(phi) for phi in start]))[None]
    state, unsteady, outcome = relax(
        dynamics, whole, SteadySettings(steadiness=steadiness, max_steps=max_steps), project=_even
    )
    phi_h, phi_e = state[0][(slice(None), *(slice(0, n) for n in methylation.shape))].numpy()
    reached = float(unsteady[0])
    return SimulatedChromatin(phi_h, phi_e, methylation, acetylation, inside, (pixel,) * methylation.ndim, parameters,
                              reached, Outcome.STEADY if reached <= steadiness else outcome)  # fmt: skip


def mirrored(values: FloatField) -> FloatField:
    """Return the even continuation: twice as many pixels along every axis, periodic."""
    return np.pad(values, [(0, n) for n in values.shape], mode="symmetric")


def _even(state: torch.Tensor) -> torch.Tensor:
    """The mean over all mirror images of (batch, fields, *box)."""
    for axis in range(2, state.ndim):
        state = 0.5 * (state + state.flip(axis))
    return state
