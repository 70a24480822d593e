"""Let a pattern in a periodic box ripen on the coarsest grid that carries it, then carry it over to the fine one.

Ripening takes a hundred steps and needs two points per interface; the fine grid only has to sharpen what it is
given, in a few steps. Between the grids the fields are interpolated by their Fourier series, which loses
nothing that the coarse grid holds.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from scipy.fft import next_fast_len

from chromamol.physics.dynamics import ChromatinDynamics
from chromamol.synthetic.spaces import PeriodicBox
from chromamol.synthetic.steady import SteadySettings, relax

SMALLEST_SIDE = 16
WORTHWHILE = 0.6  # points of the coarse grid over those of the fine one; above it the detour saves little


def ripen(
    dynamics: ChromatinDynamics, state: torch.Tensor, settings: SteadySettings, *, largest_spacing: float
) -> torch.Tensor:
    """Return `state`, (batch, 2, *grid), ripened on a coarser grid, or as it was where there is none.

    Parameters
    ----------
    largest_spacing : up to which the interface is resolved, in the model's unit of length.
    """
    coarse = _coarser(dynamics, largest_spacing)
    if coarse is None:
        return state
    axes = dynamics.space.ndim
    start = _sample(state, tuple(coarse.methylation.shape[-axes:]))
    # Fewer points have another mean by a hair; total chromatin must stay what it was.
    fine_total, total = (s.sum(1).flatten(1).mean(1) for s in (state, start))
    start[:, 1] += (fine_total - total).reshape(-1, *(1,) * axes)
    # All the way: slow modes that are left over would be followed on the fine grid, at several times the price.
    ripened, _, _ = relax(coarse, start, settings)
    return interpolate(ripened, tuple(state.shape[-axes:]))


def interpolate(values: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """The Fourier series of `values`, (batch, fields, *grid), on a larger periodic grid; sides are even."""
    axes = tuple(range(-len(shape), 0))
    modes = torch.fft.fftn(values, dim=axes)
    for axis, fine in zip(axes, shape, strict=True):
        if fine == modes.shape[axis]:
            continue
        half = modes.shape[axis] // 2
        # The highest coarse mode has no sign: each sign gets half of it.
        low, high = modes.narrow(axis, 0, half), modes.narrow(axis, half + 1, half - 1)
        middle = 0.5 * modes.narrow(axis, half, 1)
        gap = list(modes.shape)
        gap[axis] = fine - 2 * half - 1
        modes = torch.cat([low, middle, modes.new_zeros(gap), middle, high], axis)
    points = values[0, 0].numel()
    return math.prod(shape) / points * torch.fft.ifftn(modes, dim=axes).real


def _coarser(dynamics: ChromatinDynamics, largest_spacing: float) -> ChromatinDynamics | None:
    """The same box with as few points per axis as the interface allows, or None where that saves little."""
    space = dynamics.space
    if (
        not isinstance(space, PeriodicBox) or dynamics.conversions
    ):  # conversions may hold maps of the fine grid
        return None
    sides = [n * h for n, h in zip(space.shape, space.spacing, strict=True)]
    shape = tuple(
        max(SMALLEST_SIDE, _even_fast_length(math.ceil(side / largest_spacing - 1e-9))) for side in sides
    )
    shape = tuple(min(c, n) for c, n in zip(shape, space.shape, strict=True))
    if math.prod(shape) > WORTHWHILE * math.prod(space.shape) or any(n % 2 for n in shape):
        return None
    return replace(
        dynamics,
        space=PeriodicBox.build(
            shape, [side / n for side, n in zip(sides, shape, strict=True)], device=space.inside.device
        ),
        methylation=_sample(dynamics.methylation, shape),
        acetylation=_sample(dynamics.acetylation, shape),
    )


def _even_fast_length(least: int) -> int:
    length = next_fast_len(least, real=True)
    while length % 2:
        length = next_fast_len(length + 1, real=True)
    return length


def _sample(values: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Linear interpolation on a coarser periodic grid with the same first point; positive maps stay positive."""
    for axis, coarse in zip(range(-len(shape), 0), shape, strict=True):
        fine = values.shape[axis]
        position = torch.arange(coarse, device=values.device, dtype=values.dtype) * (fine / coarse)
        low = position.floor().long()
        wide = [1] * values.ndim
        wide[axis] = coarse
        share = (position - low).reshape(wide)
        below, above = (values.index_select(axis, (low + k) % fine) for k in (0, 1))
        values = torch.lerp(below, above, share.expand_as(below))
    return values
