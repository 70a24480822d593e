"""Preconditioned conjugate gradients for a batch of unknowns, each entry to a tolerance of its own.

References
----------
Nocedal & Wright, Numerical Optimization (2006), chapter 5.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from chromamol.inverse.joint_unknowns import Unknowns


def conjugate_gradients(
    operator: Callable[[Unknowns], Unknowns], right: Unknowns, precondition: Callable[[Unknowns], Unknowns],
    *, iterations: int, tolerance: torch.Tensor | float, floor: torch.Tensor | float = 0.0,
    start: Unknowns | None = None,
) -> Unknowns:  # fmt: skip
    """Solve H x = b until √(r·Mr) is below `tolerance` times that of b, or r·Mr below `floor`, in each entry.

    It starts from x = 0, or from `start` in the entries where that has the smaller residual. An entry that is there
    stays where it is, so that it does not depend on what it is solved with.
    """
    x = right.map(torch.zeros_like)
    residual, direction = right.map(torch.clone), precondition(right)
    power = residual.dot(direction)
    enough = (tolerance**2 * power).maximum(torch.as_tensor(floor, dtype=power.dtype, device=power.device))
    going = torch.ones_like(power, dtype=torch.bool)
    if start is not None:
        left = right.map(torch.sub, operator(start))
        pull = precondition(left)
        nearer = left.dot(pull) < power  # not where a start is not a number
        x, residual, direction = (
            own.map(partial(_where, nearer), zero)
            for own, zero in ((start, x), (left, residual), (pull, direction))
        )
        power = residual.dot(direction)
        going = power > enough
    for _ in range(iterations):
        if not bool(going.any()):
            break
        image = operator(direction)
        step = power / direction.dot(image).clamp_min(torch.finfo(power.dtype).tiny)
        step = torch.where(going, step, torch.zeros_like(step))
        x.add_(step, direction)
        residual.add_(-step, image)
        better = precondition(residual)
        following = residual.dot(better)
        going = going & (following > enough)
        direction = better.plus(following / power.clamp_min(torch.finfo(power.dtype).tiny), direction)
        power = following
    return x


def _where(chosen: torch.Tensor, own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return torch.where(chosen.view(-1, *(1,) * (own.ndim - 1)), own, other)
