"""Analytic fields with exact derivatives: smooth ones, and tanh interfaces a few pixels wide.

Each field is a closed formula on the unit square. Its derivatives come from nested forward-mode
differentiation of that formula in float64, pixel by pixel: exact to rounding, and independent of any kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from chromamol.shapes import FloatField

SIZE = 128
PIXEL = 1.0 / SIZE


def _waves(y: Tensor, x: Tensor) -> Tensor:
    return torch.sin(2 * math.pi * x) * torch.cos(4 * math.pi * y)


def _bump(y: Tensor, x: Tensor) -> Tensor:
    return torch.exp(-((x - 0.45) ** 2 + (y - 0.55) ** 2) / (2 * 0.12**2))


def _cubic(y: Tensor, x: Tensor) -> Tensor:
    return x**3 * y - 2 * x * y**2 + x**2


def _chirp(y: Tensor, x: Tensor) -> Tensor:
    return torch.sin(8 * x**2 + 5 * y)


def _disc(y: Tensor, x: Tensor) -> Tensor:
    distance = 0.25 - torch.sqrt((x - 0.5) ** 2 + (y - 0.5) ** 2 + 1e-6)
    return 0.5 + 0.5 * torch.tanh(distance / (6 * PIXEL))


def _stripes(y: Tensor, x: Tensor) -> Tensor:
    return 0.5 + 0.5 * torch.tanh(torch.sin(2 * math.pi * (x + y / 2)) / (2 * math.pi * 4 * PIXEL))


FIELDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "waves": _waves,
    "bump": _bump,
    "cubic": _cubic,
    "chirp": _chirp,
    "disc, tanh interface": _disc,
    "stripes, tanh interface": _stripes,
}
"""Formulae u(y, x) on the unit square, elementwise."""


@lru_cache(maxsize=128)
def exact_derivative(name: str, order: tuple[int, int]) -> FloatField:
    """Return ∂^a/∂y^a ∂^b/∂x^b of a field at the pixel centres, (SIZE, SIZE); read-only."""
    function = FIELDS[name]
    for argument, times in ((0, order[0]), (1, order[1])):
        for _ in range(times):
            function = torch.func.grad(function, argnums=argument)
    centres = (torch.arange(SIZE, dtype=torch.float64) + 0.5) * PIXEL
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    values: FloatField = torch.vmap(function)(y.reshape(-1), x.reshape(-1)).reshape(SIZE, SIZE).numpy()
    values.flags.writeable = False
    return values


def exact_operator(name: str, terms: Mapping[tuple[int, ...], float]) -> FloatField:
    """Return Σ_α terms[α] ∂^α u of a field."""
    return np.sum([f * exact_derivative(name, (a[0], a[1])) for a, f in terms.items()], axis=0)
