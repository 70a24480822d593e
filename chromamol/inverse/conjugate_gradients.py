"""Preconditioned conjugate gradients for a batch of unknowns, each entry to a tolerance of its own.

References
----------
Nocedal & Wright, Numerical Optimization (2006), chapter 5.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from chromamol.inverse.joint_unknowns import Unknowns


def conjugate_gradients(
    operator: Callable[[Unknowns], Unknowns], right: Unknowns, precondition: Callable[[Unknowns], Unknowns],
    *, iterations: int, tolerance: torch.Tensor | float, floor: torch.Tensor | float = 0.0,
) -> Unknowns:  # fmt: skip
    """Solve H x = b from x = 0 until √(r·Mr) has fallen by `tolerance`, or r·Mr to `floor`, in each entry.

    An entry that is there stays where it is, so that it does not depend on what it is solved with.
    """
    x = right.map(torch.zeros_like)
    residual, direction = right.map(torch.clone), precondition(right)
    power = residual.dot(direction)
    enough = (tolerance**2 * power).maximum(torch.as_tensor(floor, dtype=power.dtype, device=power.device))
    going = torch.ones_like(power, dtype=torch.bool)
    for _ in range(iterations):
        image = operator(direction)
        step = power / direction.dot(image).clamp_min(torch.finfo(power.dtype).tiny)
        step = torch.where(going, step, torch.zeros_like(step))
        x.add_(step, direction)
        residual.add_(-step, image)
        better = precondition(residual)
        following = residual.dot(better)
        going = going & (following > enough)
        if not bool(going.any()):
            break
        direction = better.plus(following / power.clamp_min(torch.finfo(power.dtype).tiny), direction)
        power = following
    return x
