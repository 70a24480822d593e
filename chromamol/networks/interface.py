"""The interface of every network: a grid in, the values of several outputs out, for a batch of fits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

Values: TypeAlias = Any
"""A tensor, or a `chromamol.calculus.jets.Jet` in the place of one."""


def pixel_coordinates(
    shape: Sequence[int], spacing: Sequence[float], *, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Centres of the pixels, (pixels, axes), in the unit of the spacing; that of the first is half a pixel."""
    axes = [
        (torch.arange(n, dtype=dtype, device=device) + 0.5) * h for n, h in zip(shape, spacing, strict=True)
    ]
    return torch.stack([g.reshape(-1) for g in torch.meshgrid(*axes, indexing="ij")], dim=-1)


class FieldNetwork(nn.Module, ABC):
    """Outputs on a pixel grid, with no activation after them: of order one, mean about zero.

    Parameters
    ----------
    shape, spacing : of the pixel grid, one number per axis.
    outputs : fields and whatever else.
    batch : independent fits side by side, each with parameters of its own.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    outputs: int
    batch: int

    @abstractmethod
    def forward(self) -> Tensor:
        """Return all outputs at all pixels, (batch, outputs, *shape)."""

    def start_from(self, values: Tensor, seen: Tensor) -> None:
        """Start from data, if the architecture has a rule for it; (batch, outputs, *shape), zero where not `seen`."""


class CoordinateNetwork(FieldNetwork):
    """A network of the coordinates, one fit at a time, which automatic differentiation can differentiate in them.

    Subclasses work on coordinates that are scaled to [-1, 1] along the longest side of the grid.
    """

    def __init__(
        self, shape: Sequence[int], spacing: Sequence[float], *, outputs: int, dtype: torch.dtype,
        device: torch.device,
    ) -> None:  # fmt: skip
        super().__init__()
        self.shape, self.spacing, self.outputs, self.batch = tuple(shape), tuple(spacing), outputs, 1
        sides = torch.tensor([n * h for n, h in zip(shape, spacing, strict=True)], dtype=dtype, device=device)
        self.register_buffer("half_sides", 0.5 * sides)
        self.register_buffer(
            "points", pixel_coordinates(shape, spacing, dtype=dtype, device=device), persistent=False
        )

    def at(self, points: Values) -> Values:
        """Return the outputs at any points, (points, axes) -> (points, outputs); points in the unit of the spacing.

        A `chromamol.calculus.jets.Jet` in gives one out.
        """
        half = self.get_buffer("half_sides")
        return self.body((points - half) / half.max())

    @abstractmethod
    def body(self, scaled: Values) -> Values:
        """Return the outputs at coordinates in [-1, 1], (points, axes) -> (points, outputs)."""

    def forward(self) -> Tensor:
        return self.at(self.get_buffer("points")).movedim(-1, 0).reshape(1, self.outputs, *self.shape)
