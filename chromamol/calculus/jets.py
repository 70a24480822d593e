"""Collapsed Taylor mode for any network: truncated power series that pass through plain torch code.

A `Jet` holds the coefficients of u(x + t v) in t, for several directions v at once, up to order K:

    u(x + t v_n) = c_0 + Σ_{k<K} c_{k,n} t^k + …,        top = Σ_n w_n c_{K,n}

The highest coefficient enters every operation linearly, so its weighted sum over the directions is carried in
its place.
torch functions that a network is written with (`linear`, `tanh`, `sin`, `cos`, `softmax`, products, shapes) take a Jet
where they take a tensor.

References
----------
Dangel, Siebert, Zeinhofer & Walther, Collapsing Taylor Mode Automatic Differentiation, arXiv:2505.13644.
Griewank & Walther, Evaluating Derivatives (2008), chapter 13 (the recurrences).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from chromamol.errors import FieldError

Coefficients = list[list[Tensor]]
Term = Tensor | int | float
"""A sum that may be empty, which is the number 0."""


@dataclass(frozen=True, eq=False)
class Jet:
    """A truncated power series along several directions.

    Parameters
    ----------
    value : c_0.
    lower : c_{k,n} by order k = 1 … K - 1, then by direction n; each of the value's shape.
    top : Σ_n weights[n] c_{K,n}.
    weights : one per direction.
    """

    value: Tensor
    lower: Coefficients
    top: Tensor
    weights: tuple[float, ...]

    handlers: ClassVar[dict[Callable[..., Any], Callable[..., Any]]] = {}

    @classmethod
    def along(cls, points: Tensor, directions: Tensor, weights: Sequence[float], order: int) -> Jet:
        """Return the coordinates themselves, x + t v: points (P, axes), directions (n, axes)."""
        rows = [row.expand_as(points) for row in directions.to(points)]
        zero = torch.zeros_like(points)
        lower = [rows if k == 1 else [zero] * len(rows) for k in range(1, order)]
        top = zero if order > 1 else sum(w * row for w, row in zip(weights, rows, strict=True))
        return cls(points, lower, torch.as_tensor(top), tuple(float(w) for w in weights))

    @property
    def order(self) -> int:
        return len(self.lower) + 1

    @property
    def ndim(self) -> int:
        return self.value.ndim

    @property
    def shape(self) -> torch.Size:
        return self.value.shape

    def directional(self, order: int) -> list[Tensor]:
        """Return (v_n · ∂)^order u for each direction, order below the highest."""
        return [math.factorial(order) * c for c in self.lower[order - 1]]

    def summed(self) -> Tensor:
        """Return Σ_n weights[n] (v_n · ∂)^K u, the highest order."""
        return math.factorial(self.order) * self.top

    def map(self, function: Callable[[Tensor], Tensor]) -> Jet:
        """Apply a linear function to every coefficient."""
        lower = [[function(c) for c in row] for row in self.lower]
        return Jet(function(self.value), lower, function(self.top), self.weights)

    def shifted(self, offset: Tensor | float) -> Jet:
        """Add a constant."""
        return Jet(self.value + offset, self.lower, self.top, self.weights)

    def weighted(self, columns: list[Tensor]) -> Tensor:
        """Return Σ_n weights[n] columns[n]."""
        total = self.weights[0] * columns[0]
        for w, column in zip(self.weights[1:], columns[1:], strict=True):
            total = total + w * column
        return total

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function not in cls.handlers:
            raise FieldError(
                f"{getattr(function, '__name__', function)} of a Jet.",
                expected=f"one of {', '.join(sorted({f.__name__ for f in cls.handlers}))}.",
                do="write the network with these, or use nested autodiff.",
            )
        return cls.handlers[function](*args, **(kwargs or {}))

    def __add__(self, other: Any) -> Jet:
        return _add(self, other)

    def __sub__(self, other: Any) -> Jet:
        return _add(self, _negative(other))

    def __rsub__(self, other: Any) -> Jet:
        return _add(_negative(self), other)

    def __mul__(self, other: Any) -> Jet:
        return _product(self, other, torch.mul)

    def __truediv__(self, other: Any) -> Jet:
        return _divide(self, other)

    def __matmul__(self, other: Any) -> Jet:
        return _product(self, other, torch.matmul)

    def __getitem__(self, index: Any) -> Jet:
        return self.map(lambda c: c[index])

    def reshape(self, *shape: int) -> Jet:
        return self.map(lambda c: c.reshape(*shape))

    def transpose(self, first: int, second: int) -> Jet:
        return self.map(lambda c: c.transpose(first, second))

    def max(self) -> Tensor:
        return self.value.max()

    __radd__ = __add__
    __rmul__ = __mul__


def _negative(x: Any) -> Any:
    return x.map(torch.neg) if isinstance(x, Jet) else -x


def _add(x: Any, y: Any) -> Jet:
    if not isinstance(x, Jet):
        x, y = y, x
    if not isinstance(y, Jet):
        return x.shifted(y)
    lower = [[a + b for a, b in zip(p, q, strict=True)] for p, q in zip(x.lower, y.lower, strict=True)]
    return Jet(x.value + y.value, lower, x.top + y.top, x.weights)


def _product(x: Any, y: Any, multiply: Callable[[Any, Any], Tensor]) -> Jet:
    """Σ_j x_j y_(k-j) for any bilinear `multiply`."""
    if not isinstance(y, Jet):
        return x.map(lambda c: multiply(c, y))
    if not isinstance(x, Jet):
        return y.map(lambda c: multiply(x, c))
    many = range(len(x.weights))

    def inner(k: int, n: int) -> Term:
        return sum(multiply(x.lower[j - 1][n], y.lower[k - j - 1][n]) for j in range(1, k))

    lower = [
        [multiply(x.value, y.lower[k - 1][n]) + multiply(x.lower[k - 1][n], y.value) + inner(k, n) for n in many]
        for k in range(1, x.order)
    ]  # fmt: skip
    top = multiply(x.value, y.top) + multiply(x.top, y.value)
    if x.order > 1:
        top = top + x.weighted([torch.as_tensor(inner(x.order, n)) for n in many])
    return Jet(multiply(x.value, y.value), lower, top, x.weights)


def _solve(
    x: Jet, value: Tensor, slope: Tensor, next_slope: Callable[[Coefficients, int, int], Tensor]
) -> Jet:
    """y' = s x' with y_0 and s_0 given: k y_k = Σ_{j=1}^k j x_j s_(k-j); `next_slope(y, k, n)` is s_k, k >= 1."""
    many = range(len(x.weights))
    y: Coefficients = []
    s: Coefficients = []

    def rest(k: int, n: int) -> Term:
        return sum(j * x.lower[j - 1][n] * s[k - j - 1][n] for j in range(1, k)) / k

    for k in range(1, x.order):
        y.append([x.lower[k - 1][n] * slope + rest(k, n) for n in many])
        s.append([next_slope(y, k, n) for n in many])
    top = x.top * slope
    if x.order > 1:
        top = top + x.weighted([torch.as_tensor(rest(x.order, n)) for n in many])
    return Jet(value, y, top, x.weights)


def _tanh(x: Jet) -> Jet:
    """s = 1 - y²."""
    value = torch.tanh(x.value)

    def slope(y: Coefficients, k: int, n: int) -> Tensor:
        inner = sum(y[i - 1][n] * y[k - i - 1][n] for i in range(1, k))
        return -(2.0 * value * y[k - 1][n] + inner)

    return _solve(x, value, 1.0 - value * value, slope)


def _exp(x: Jet) -> Jet:
    """s = y."""
    value = torch.exp(x.value)
    return _solve(x, value, value, lambda y, k, n: y[k - 1][n])


def _sine_and_cosine(x: Jet) -> tuple[Jet, Jet]:
    """sin' = cos x', cos' = -sin x': the one is the other's slope."""
    sine, cosine = torch.sin(x.value), torch.cos(x.value)
    many = range(len(x.weights))
    sines: Coefficients = []
    cosines: Coefficients = []

    def rest(slopes: Coefficients, k: int, n: int) -> Term:
        return sum(j * x.lower[j - 1][n] * slopes[k - j - 1][n] for j in range(1, k)) / k

    for k in range(1, x.order):
        new_sines = [x.lower[k - 1][n] * cosine + rest(cosines, k, n) for n in many]
        cosines.append([-(x.lower[k - 1][n] * sine) - rest(sines, k, n) for n in many])
        sines.append(new_sines)
    top_sine, top_cosine = x.top * cosine, -(x.top * sine)
    if x.order > 1:
        top_sine = top_sine + x.weighted([torch.as_tensor(rest(cosines, x.order, n)) for n in many])
        top_cosine = top_cosine - x.weighted([torch.as_tensor(rest(sines, x.order, n)) for n in many])
    return Jet(sine, sines, top_sine, x.weights), Jet(cosine, cosines, top_cosine, x.weights)


def _reciprocal(x: Jet) -> Jet:
    """x y = 1: y_k = -y_0 Σ_{j=1}^k x_j y_(k-j)."""
    value = 1.0 / x.value
    many = range(len(x.weights))
    y: Coefficients = []

    def rest(k: int, n: int) -> Term:
        return sum(x.lower[j - 1][n] * y[k - j - 1][n] for j in range(1, k))

    for k in range(1, x.order):
        y.append([-value * (x.lower[k - 1][n] * value + rest(k, n)) for n in many])
    top = -value * x.top * value
    if x.order > 1:
        top = top - value * x.weighted([torch.as_tensor(rest(x.order, n)) for n in many])
    return Jet(value, y, top, x.weights)


def _divide(x: Any, y: Any) -> Jet:
    if not isinstance(y, Jet):
        return x.map(lambda c: c / y)
    return _product(x, _reciprocal(y), torch.mul)


def _softmax(x: Jet, dim: int, **_: Any) -> Jet:
    raised = _exp(x.shifted(-x.value.detach().amax(dim, keepdim=True)))
    return _divide(raised, raised.map(lambda c: c.sum(dim, keepdim=True)))


def _linear(x: Jet, weight: Tensor, bias: Tensor | None = None) -> Jet:
    image = x.map(lambda c: torch.nn.functional.linear(c, weight))
    return image if bias is None else image.shifted(bias)


def _join(function: Callable[..., Tensor], jets: Sequence[Jet], dim: int = 0) -> Jet:
    first = jets[0]
    lower = [
        [function([j.lower[k][n] for j in jets], dim) for n in range(len(first.weights))]
        for k in range(first.order - 1)
    ]
    value, top = (function([getattr(j, part) for j in jets], dim) for part in ("value", "top"))
    return Jet(value, lower, top, first.weights)


Jet.handlers.update(
    {
        torch.nn.functional.linear: _linear,
        torch.tanh: _tanh,
        torch.sin: lambda x: _sine_and_cosine(x)[0],
        torch.cos: lambda x: _sine_and_cosine(x)[1],
        torch.exp: _exp,
        torch.softmax: _softmax,
        torch.matmul: lambda x, y: _product(x, y, torch.matmul),
        torch.Tensor.matmul: lambda x, y: _product(x, y, torch.matmul),
        torch.Tensor.mul: lambda x, y: _product(x, y, torch.mul),
        torch.Tensor.add: _add,
        torch.Tensor.sub: lambda x, y: _add(x, _negative(y)),
        torch.Tensor.__rsub__: lambda x, y: _add(_negative(x), y),
        torch.cat: lambda jets, dim=0: _join(torch.cat, jets, dim),
        torch.stack: lambda jets, dim=0: _join(torch.stack, jets, dim),
    }
)
