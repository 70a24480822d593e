"""Linear filters inside torch's differentiation: the derivative of a filter is its adjoint, and so on.

One autograd function serves the filter and its adjoint, so backward, double backward, forward mode, `vmap`
and their compositions all reduce to the two hand-written passes and hold no intermediate tensor.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class LinearFilter(Protocol):
    """A linear map (..., *grid) -> (..., outputs, *grid) with its transpose."""

    @property
    def ndim(self) -> int: ...
    @property
    def outputs(self) -> int: ...
    @property
    def radii(self) -> tuple[int, ...]: ...
    @property
    def border(self) -> str: ...

    def forward(self, x: Tensor) -> Tensor: ...
    def adjoint(self, y: Tensor) -> Tensor: ...


class _Apply(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, operator: LinearFilter, transposed: bool) -> Tensor:
        return operator.adjoint(x) if transposed else operator.forward(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.operator, ctx.transposed = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _Apply.apply(gradients[0], ctx.operator, not ctx.transposed), None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _Apply.apply(tangents[0], ctx.operator, ctx.transposed)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, operator: LinearFilter, transposed: bool) -> Any:
        # The filter takes any leading dimensions, so a batch is one more of them.
        return _Apply.apply(x.movedim(in_dims[0], 0), operator, transposed), 0


class _Traced(torch.autograd.Function):
    """The same for `torch.compile`, which traces backward but refuses functions with a `jvp` of their own."""

    @staticmethod
    def forward(x: Tensor, operator: LinearFilter, transposed: bool) -> Tensor:
        return operator.adjoint(x) if transposed else operator.forward(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.operator, ctx.transposed = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        if ctx.transposed:
            return ctx.operator.forward(gradients[0]), None, None
        return ctx.operator.adjoint(gradients[0]), None, None


def apply_filter(operator: LinearFilter, x: Tensor) -> Tensor:
    """Return the filter of x, differentiable to any order in both modes."""
    if torch.compiler.is_compiling():
        return _Traced.apply(x, operator, False)
    return _Apply.apply(x, operator, False)


def apply_adjoint(operator: LinearFilter, y: Tensor) -> Tensor:
    """Return the transpose of the filter applied to y, differentiable likewise."""
    if torch.compiler.is_compiling():
        return _Traced.apply(y, operator, True)
    return _Apply.apply(y, operator, True)
