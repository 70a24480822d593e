"""Derivatives of what a network gives, by three methods behind one result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from chromamol.calculus.jets import Jet
from chromamol.calculus.layer import MollifierLayer, bilaplacian, laplacian
from chromamol.calculus.taylor import directions_for
from chromamol.errors import ParameterError
from chromamol.networks.interface import CoordinateNetwork, FieldNetwork


@dataclass(frozen=True, eq=False)
class Derivatives:
    """Of all outputs of a network, (batch, outputs, *grid) each; `gradient` is (batch, outputs, axes, *grid).

    Units are those of the output per length, length² and length⁴.
    """

    value: Tensor
    gradient: Tensor
    laplacian: Tensor
    bilaplacian: Tensor


class DerivativeSource(ABC):
    """Value, gradient, Laplacian and bilaplacian of a network's outputs on its grid."""

    name: ClassVar[str]

    @abstractmethod
    def __call__(self, network: FieldNetwork) -> Derivatives: ...

    @property
    def width_px(self) -> float:
        """Half-width of the support in pixels; 0 for pointwise derivatives."""
        return 0.0


WIDTH_PX = 5.0
"""Half-width of η: its standard deviation of 1.3 px is half an interface. 6.5 px gave the same maps."""


class Mollifier(DerivativeSource):
    """u = g * η and its derivatives g * ∂^α η, on a support of `WIDTH_PX` pixels to each side."""

    name = "mollifier"

    def __init__(self, spacing: Sequence[float]) -> None:
        axes = len(spacing)
        first = [tuple(int(i == axis) for i in range(axes)) for axis in range(axes)]
        self.spacing = tuple(spacing)
        self.width = tuple(WIDTH_PX * h for h in spacing)
        self.layer = MollifierLayer(
            orders=[(0,) * axes, *first, laplacian(axes), bilaplacian(axes)],
            spacing=spacing,
            width=self.width,
            check_finite=False,  # divergence is looked for once per step, in the loss
        )

    @property
    def width_px(self) -> float:
        return WIDTH_PX

    def __call__(self, network: FieldNetwork) -> Derivatives:
        return self.of(network())

    def of(self, values: Tensor) -> Derivatives:
        """Return the derivatives of a pixel field (batch, outputs, *grid)."""
        out = self.layer(values)
        return Derivatives(out[:, :, 0], out[:, :, 1:-2], out[:, :, -2], out[:, :, -1])


class Nested(DerivativeSource):
    """`torch.autograd.grad` of `torch.autograd.grad` of ..., output by output."""

    name = "nested"

    def __call__(self, network: FieldNetwork) -> Derivatives:
        net = require_coordinates(network)
        points = net.get_buffer("points").detach().requires_grad_()
        values = net.at(points)
        parts = [self._of(values[:, k], points) for k in range(net.outputs)]
        stacked = [torch.stack(rows) for rows in zip(*parts, strict=True)]
        return _on_grid(values.movedim(-1, 0), stacked[0], stacked[1], stacked[2], net)

    @staticmethod
    def _of(value: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def slope(u: Tensor) -> Tensor:
            return torch.autograd.grad(u.sum(), points, create_graph=True)[0]

        gradient = slope(value)
        axes = range(points.shape[1])
        second = sum(slope(gradient[:, i])[:, i] for i in axes)
        rise = slope(torch.as_tensor(second))
        return (
            gradient.T,
            torch.as_tensor(second),
            torch.as_tensor(sum(slope(rise[:, i])[:, i] for i in axes)),
        )


class Taylor(DerivativeSource):
    """Collapsed Taylor mode: one pass of jets along a few directions."""

    name = "taylor"

    def __init__(self, axes: int) -> None:
        self.directions, self.weights = directions_for(bilaplacian(axes))
        exponents = torch.arange(axes)
        squares = torch.stack(
            [self.directions[:, i] * self.directions[:, j] for i in exponents for j in exponents]
        )
        unit = torch.eye(axes, dtype=squares.dtype).reshape(-1)
        self.second = torch.linalg.lstsq(squares, unit[:, None], driver="gelsd").solution[:, 0]
        self.first = torch.linalg.pinv(self.directions)

    def __call__(self, network: FieldNetwork) -> Derivatives:
        net = require_coordinates(network)
        points = net.get_buffer("points").detach()
        jet = net.at(Jet.along(points, self.directions, self.weights.tolist(), 4))
        first = torch.stack(jet.directional(1))  # (directions, points, outputs)
        second = torch.stack(jet.directional(2))
        gradient = torch.einsum("an,npk->kap", self.first.to(first), first)
        lap = torch.einsum("n,npk->kp", self.second.to(second), second)
        return _on_grid(jet.value.movedim(-1, 0), gradient, lap, jet.summed().movedim(-1, 0), net)


def require_coordinates(network: FieldNetwork) -> CoordinateNetwork:
    """Return a network that has coordinates, alone in its batch, or raise `ParameterError`."""
    if not isinstance(network, CoordinateNetwork):
        raise ParameterError(f"Automatic differentiation of a {type(network).__name__}.",
                             expected="one coordinate network.", do="use the mollifier layer.")  # fmt: skip
    return network


def _on_grid(
    value: Tensor, gradient: Tensor, lap: Tensor, bilap: Tensor, net: CoordinateNetwork
) -> Derivatives:
    shape = net.shape
    return Derivatives(
        value.reshape(1, -1, *shape), gradient.reshape(1, *gradient.shape[:2], *shape),
        lap.reshape(1, -1, *shape), bilap.reshape(1, -1, *shape),
    )  # fmt: skip


def derivative_source(name: str, spacing: Sequence[float]) -> DerivativeSource:
    """Return "mollifier", "nested" or "taylor" for a grid of this spacing."""
    if name == "mollifier":
        return Mollifier(spacing)
    return Nested() if name == "nested" else Taylor(len(spacing))
