"""Let a pattern in a periodic box ripen on every second point, then carry it over to all of them.

Ripening takes a hundred steps and needs two points per interface; the fine grid only has to sharpen what it is
given, in a few steps. Between the grids the fields are interpolated by their Fourier series, which loses
nothing that the coarse grid holds.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from chromamol.physics.dynamics import ChromatinDynamics
from chromamol.synthetic.spaces import PeriodicBox
from chromamol.synthetic.steady import SteadySettings, relax

SMALLEST_SIDE = 16


def ripen(
    dynamics: ChromatinDynamics, state: torch.Tensor, settings: SteadySettings, *, largest_spacing: float
) -> torch.Tensor:
    """Return `state`, (batch, 2, *grid), ripened on the half grid, or as it was where that grid cannot be.

    Parameters
    ----------
    largest_spacing : up to which the interface is resolved, in the model's unit of length.
    """
    coarse = _half(dynamics, largest_spacing)
    if coarse is None:
        return state
    axes = dynamics.space.ndim
    start = _every_second(state, axes)
    # Every second point has another mean by a hair; total chromatin must stay what it was.
    fine_total, total = (s.sum(1).flatten(1).mean(1) for s in (state, start))
    start[:, 1] += (fine_total - total).reshape(-1, *(1,) * axes)
    # All the way: slow modes that are left over would be followed on the fine grid, at four times the price.
    ripened, _, _ = relax(coarse, start, settings)
    return interpolate(ripened, tuple(state.shape[-axes:]))


def interpolate(values: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The Fourier series of `values`, (batch, fields, *grid), on a larger periodic grid; sides are even."""
    axes = tuple(range(-len(shape), 0))
    modes = torch.fft.fftn(values, dim=axes)
    for axis, fine in zip(axes, shape, strict=True):
        half = modes.shape[axis] // 2
        # The highest coarse mode has no sign: each sign gets half of it.
        low, high = modes.narrow(axis, 0, half), modes.narrow(axis, half + 1, half - 1)
        middle = 0.5 * modes.narrow(axis, half, 1)
        gap = list(modes.shape)
        gap[axis] = fine - 2 * half - 1
        modes = torch.cat([low, middle, modes.new_zeros(gap), middle, high], axis)
    points = values[0, 0].numel()
    return math.prod(shape) / points * torch.fft.ifftn(modes, dim=axes).real


def _half(dynamics: ChromatinDynamics, largest_spacing: float) -> ChromatinDynamics | None:
    space = dynamics.space
    if (
        not isinstance(space, PeriodicBox) or dynamics.conversions
    ):  # conversions may hold maps of the fine grid
        return None
    even = all(n % 4 == 0 and n >= 2 * SMALLEST_SIDE for n in space.shape)
    spacing = [2.0 * h for h in space.spacing]
    if not even or max(spacing) > largest_spacing:
        return None
    shape = [n // 2 for n in space.shape]
    return replace(
        dynamics,
        space=PeriodicBox.build(shape, spacing, device=space.inside.device),
        methylation=_every_second(dynamics.methylation, space.ndim),
        acetylation=_every_second(dynamics.acetylation, space.ndim),
    )


def _every_second(values: torch.Tensor, ndim: int) -> torch.Tensor:
    for axis in range(-ndim, 0):
        values = values.index_select(axis, torch.arange(0, values.shape[axis], 2, device=values.device))
    return values
