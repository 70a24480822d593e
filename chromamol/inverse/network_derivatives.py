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
    """Of a network's outputs.

    Parameters
    ----------
    value : of all outputs, (batch, outputs, *grid).
    gradient, laplacian, bilaplacian : of the first outputs, as many as are differentiated; (batch, n, axes, *grid) and
        (batch, n, *grid), per length, length² and length⁴. Zero above the order that was asked for.
    """

    value: Tensor
    gradient: Tensor
    laplacian: Tensor
    bilaplacian: Tensor


class DerivativeSource(ABC):
    """Value, gradient, Laplacian and bilaplacian of a network's outputs on its grid.

    Parameters
    ----------
    order : 1, 2 or 4: the highest derivative that is wanted; higher ones cost nothing.
    outputs : how many outputs, from the first, are differentiated; all when None.
    """

    name: ClassVar[str]

    def __init__(self, *, order: int = 4, outputs: int | None = None) -> None:
        self.order, self.outputs = order, outputs

    @abstractmethod
    def __call__(self, network: FieldNetwork) -> Derivatives: ...


WIDTH_PX = 5.0
"""Half-width of η: its standard deviation of 1.3 px is half an interface. With 6.5 px a map erred by .045 in
place of .044."""


class Mollifier(DerivativeSource):
    """u = g * η and its derivatives g * ∂^α η, on a support of `WIDTH_PX` pixels to each side."""

    name = "mollifier"

    def __init__(self, spacing: Sequence[float], *, order: int = 4, outputs: int | None = None) -> None:
        super().__init__(order=order, outputs=outputs)
        axes = len(spacing)
        first = [tuple(int(i == axis) for i in range(axes)) for axis in range(axes)]
        higher = [laplacian(axes)] * (order >= 2) + [bilaplacian(axes)] * (order == 4)
        # Divergence is looked for once per step, in the loss, and not in every layer.
        options: dict = {"spacing": spacing, "width": [WIDTH_PX * h for h in spacing], "check_finite": False}
        self.axes = axes
        self.layer = MollifierLayer(orders=[(0,) * axes, *first, *higher], **options)
        self.smooth = MollifierLayer(orders=[(0,) * axes], **options)

    def __call__(self, network: FieldNetwork) -> Derivatives:
        return self.of(network())

    def of(self, values: Tensor) -> Derivatives:
        """Return the derivatives of a pixel field (batch, outputs, *grid)."""
        chosen = values.shape[1] if self.outputs is None else self.outputs
        out = self.layer(values[:, :chosen])
        value, last = out[:, :, 0], 1 + self.axes
        zero = torch.zeros_like(value)
        if chosen < values.shape[1]:
            value = torch.cat([value, self.smooth(values[:, chosen:])[:, :, 0]], 1)
        lap = out[:, :, last] if self.order >= 2 else zero
        return Derivatives(value, out[:, :, 1:last], lap, out[:, :, last + 1] if self.order == 4 else zero)


class Nested(DerivativeSource):
    """`torch.autograd.grad` of `torch.autograd.grad` of ..., output by output."""

    name = "nested"

    def __call__(self, network: FieldNetwork) -> Derivatives:
        net = require_coordinates(network)
        points = net.get_buffer("points").detach().requires_grad_()
        values = net.at(points)
        chosen = net.outputs if self.outputs is None else self.outputs
        parts = [self._of(values[:, k], points) for k in range(chosen)]
        stacked = [torch.stack(rows) for rows in zip(*parts, strict=True)]
        return _on_grid(values.movedim(-1, 0), stacked[0], stacked[1], stacked[2], net)

    def _of(self, value: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def slope(u: Tensor) -> Tensor:
            return torch.autograd.grad(u.sum(), points, create_graph=True)[0]

        gradient = slope(value)
        axes, zero = range(points.shape[1]), torch.zeros_like(value)
        if self.order == 1:
            return gradient.T, zero, zero
        second = sum(slope(gradient[:, i])[:, i] for i in axes)
        if self.order == 2:
            return gradient.T, torch.as_tensor(second), zero
        rise = slope(torch.as_tensor(second))
        return (
            gradient.T,
            torch.as_tensor(second),
            torch.as_tensor(sum(slope(rise[:, i])[:, i] for i in axes)),
        )


class Taylor(DerivativeSource):
    """Collapsed Taylor mode: one pass of jets along a few directions."""

    name = "taylor"

    def __init__(self, axes: int, *, order: int = 4, outputs: int | None = None) -> None:
        super().__init__(order=order, outputs=outputs)
        if order == 4:
            self.directions, self.weights = directions_for(bilaplacian(axes))
        else:
            self.directions, self.weights = (
                torch.eye(axes, dtype=torch.float64),
                torch.ones(axes, dtype=torch.float64),
            )
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
        # In one dimension the first order needs no other; the sum over several directions is no gradient.
        highest = 1 if self.order == 1 and points.shape[1] == 1 else max(self.order, 2)
        jet = net.at(Jet.along(points, self.directions, self.weights.tolist(), highest))
        top = jet.summed()[:, : self.outputs].movedim(-1, 0)
        zero = torch.zeros_like(top)
        if highest == 1:
            return _on_grid(jet.value.movedim(-1, 0), top[:, None], zero, zero, net)
        first = torch.stack(jet.directional(1))[..., : self.outputs]  # (directions, points, outputs)
        gradient = torch.einsum("an,npk->kap", self.first.to(first), first)
        if highest == 2:
            return _on_grid(jet.value.movedim(-1, 0), gradient, top, zero, net)
        second = torch.stack(jet.directional(2))[..., : self.outputs]
        lap = torch.einsum("n,npk->kp", self.second.to(second), second)
        return _on_grid(jet.value.movedim(-1, 0), gradient, lap, top, net)


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


def derivative_source(
    name: str, spacing: Sequence[float], *, order: int = 4, outputs: int | None = None
) -> DerivativeSource:
    """Return "mollifier", "nested" or "taylor" for a grid of this spacing; options as `DerivativeSource`."""
    if name == "mollifier":
        return Mollifier(spacing, order=order, outputs=outputs)
    if name == "nested":
        return Nested(order=order, outputs=outputs)
    return Taylor(len(spacing), order=order, outputs=outputs)
