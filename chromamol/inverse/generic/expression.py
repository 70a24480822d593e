"""Equations as they are written: sums of terms  w ∂^α [ c(x) ∂^β g(u) ].

c is an unknown (or 1), g a pointwise function of measured fields, α and β derivatives outside and inside the
unknown. Tested with a mollifier ψ every derivative moves onto it,

    ∫ ψ ∂^α (c ∂^β g) = (-1)^(|α|+|β|) ∫ g ∂^β (c ∂^α ψ),

so no measured field is ever differentiated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chromamol.errors import FieldError, ParameterError
from chromamol.given import as_array
from chromamol.inverse.generic.axes import Axes
from chromamol.inverse.generic.source import Source, as_values

Order = tuple[int, ...]

MAX_DERIVATIVE = 6
"""Highest derivative along one axis: higher ones need test functions wider than most images."""


@dataclass(frozen=True)
class Unknown:
    """A coefficient to find.

    Parameters
    ----------
    name : what the result is called.
    over : the axes on which it depends; () for one number.
    positive : True if it is the exponential of a smooth map.
    """

    name: str
    over: tuple[str, ...]
    positive: bool


@dataclass(frozen=True, eq=False)
class Term:
    """w ∂^outer [ unknown ∂^inner source ]."""

    weight: float
    unknown: Unknown | None
    outer: Order
    inner: Order
    source: Source

    @property
    def is_pointwise(self) -> bool:
        return not any(self.outer) and not any(self.inner)

    @property
    def order(self) -> Order:
        return tuple(a + b for a, b in zip(self.outer, self.inner, strict=True))


@dataclass(frozen=True, eq=False)
class Expression:
    """A sum of terms on the axes of one problem; what `+ - * **`, `d`, `grad`, `div` and `laplacian` return."""

    axes: Axes
    terms: tuple[Term, ...]

    __array_ufunc__ = None  # so that `array * expression` comes here and not to numpy, element by element

    def __neg__(self) -> Expression:
        return self * -1.0

    def __add__(self, other: Any) -> Expression:
        return Expression(self.axes, self.terms + as_expression(other, self.axes).terms)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Expression:
        return self + as_expression(other, self.axes) * -1.0

    def __rsub__(self, other: Any) -> Expression:
        return -self + other

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Vector):
            return Vector(self * component for component in other)
        number = _as_number(other)
        if number is not None:
            scaled = tuple(replace(term, weight=term.weight * number) for term in self.terms)
            return Expression(self.axes, scaled)
        factors = as_expression(other, self.axes).terms
        return Expression(self.axes, tuple(_product(a, b) for a in self.terms for b in factors))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Expression:
        if isinstance(other, Expression):
            raise _quotient()
        divisor = as_array(other, "A divisor")
        if not (np.isfinite(divisor) & (divisor != 0.0)).all():
            raise ParameterError("A division by 0, or by what is not finite.", expected="finite numbers other than 0.",
                                 do="multiply the equation by the divisor.")  # fmt: skip
        return self * (1.0 / divisor)

    def __rtruediv__(self, other: Any) -> Expression:
        raise _quotient()

    def __pow__(self, power: Any) -> Expression:
        exponent = _as_number(power)
        if exponent is None:
            raise ParameterError("A power that is a field or an unknown.", expected="one finite number.",
                                 do="use pointwise(torch.pow, u, w) for u to the power of w.")  # fmt: skip
        return _applied(lambda value: value**exponent, f"power {exponent:g}", (self,))


class Vector(tuple[Any, ...]):
    """Components along the axes of space; of expressions, arrays or numbers."""

    __array_ufunc__ = None  # as of `Expression`: `array * vector` is a product of every component

    def __new__(cls, components: Iterable[Any]) -> Vector:
        return super().__new__(cls, tuple(components))

    def __mul__(self, other: Any) -> Vector:
        return Vector(component * other for component in self)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Vector:
        return Vector(component / other for component in self)

    def __add__(self, other: Any) -> Vector:
        return Vector(a + b for a, b in zip(self, self._alike(other), strict=True))

    def __radd__(self, other: Any) -> Vector:
        # `sum` begins with 0.
        return self if _is_zero(other) else self + other

    def __sub__(self, other: Any) -> Vector:
        return Vector(a - b for a, b in zip(self, self._alike(other), strict=True))

    def _alike(self, other: Any) -> tuple[Any, ...]:
        if not isinstance(other, tuple) or len(other) != len(self):
            given = f"{len(other)} components" if isinstance(other, tuple) else type(other).__name__
            raise FieldError(f"A vector of {len(self)} components plus or minus {given}.",
                             expected="another vector of as many.",
                             do="write Vector((a, b)), with all components.")  # fmt: skip
        return other

    def __neg__(self) -> Vector:
        return self * -1.0


def _is_zero(value: Any) -> bool:
    return isinstance(value, int) and value == 0


def _required(given: Any) -> Expression:
    """Return an expression; `FieldError` for anything else, such as an array, which has no axes."""
    if isinstance(given, Expression):
        return given
    if isinstance(given, tuple | list):
        raise FieldError(f"A vector of {len(given)} components in place of an expression.", expected="an expression.",
                         do="use div(vector), or one of its components.")  # fmt: skip
    raise FieldError(f"A derivative of {type(given).__name__}.", expected="an expression of an InverseProblem.",
                     do="pass arrays through `measured` or `known`.")  # fmt: skip


def d(expression: Any, axis: Any, order: Any = 1) -> Expression:
    """∂^order / ∂axis^order of an expression, for instance `d(u, "t")`.

    Raises
    ------
    FieldError : no expression, no axis of that name, or derivatives of an order that no test function carries.
    """
    expression = _required(expression)
    if isinstance(order, bool) or not isinstance(order, int | np.integer):
        raise FieldError(f"A derivative of order {order!r} along {axis!r}.",
                         expected=f"a whole number from 1 to {MAX_DERIVATIVE}.", do="write d(u, 'x', 2).")  # fmt: skip
    order = int(order)
    step = expression.axes.order(**{expression.axes.names[expression.axes.index(axis)]: order})

    def raised(term: Term) -> Term:
        if term.unknown is None:
            return replace(term, inner=tuple(a + b for a, b in zip(term.inner, step, strict=True)))
        return replace(term, outer=tuple(a + b for a, b in zip(term.outer, step, strict=True)))

    result = Expression(expression.axes, tuple(raised(term) for term in expression.terms))
    highest = max(max(term.order) for term in result.terms)
    if order < 1 or highest > MAX_DERIVATIVE:
        raise FieldError(f"A derivative of order {max(order, highest)} along {axis!r}.",
                         expected=f"1 to {MAX_DERIVATIVE}.", do="lower the order.")  # fmt: skip
    return result


def implicit_step(expression: Any, axis: Any) -> Expression:
    """∂ / ∂axis as data have it that a solver stepped implicitly from sample to sample (backward Euler).

    Such data obey (u(t) - u(t - h)) / h = ... with h the spacing of the axis, which is to second order
    ∂u/∂t - ½ h ∂²u/∂t² = ... : with `d(u, "t")` every rate would come out too small.
    """
    axes = _required(expression).axes
    h = axes.spacing_um[axes.index(axis)]
    return d(expression, axis) - d(expression, axis, 2) * (0.5 * h)


def grad(expression: Any) -> Vector:
    """∇ of an expression: one component per axis of space."""
    return Vector(d(expression, axis) for axis in _required(expression).axes.space)


def div(vector: Any) -> Expression:
    """∇ · of a vector of expressions, one per axis of space."""
    components = tuple(vector) if isinstance(vector, Iterable) else ()
    if not components or not all(isinstance(part, Expression) for part in components):
        given = f"{len(components)} components" if isinstance(vector, tuple | list) else type(vector).__name__
        raise FieldError(f"The divergence of {given}.", expected="a vector of expressions, one per axis of space.",
                         do="write div(D * grad(u)), or div([D * d(u, 'y'), D * d(u, 'x')]).")  # fmt: skip
    axes = components[0].axes
    if len(components) != len(axes.space):
        raise FieldError(f"A vector of {len(components)} components.",
                         expected=f"one for each of {', '.join(axes.space)}.", do="give all of them.")  # fmt: skip
    terms = [d(part, axis).terms for part, axis in zip(components, axes.space, strict=True)]
    return Expression(axes, tuple(term for part in terms for term in part))


def laplacian(expression: Any) -> Expression:
    """Δ of an expression, over the axes of space."""
    axes = _required(expression).axes
    terms = [d(expression, axis, 2).terms for axis in axes.space]
    return Expression(axes, tuple(term for part in terms for term in part))


def pointwise(function: Callable[..., Any], *arguments: Any) -> Expression:
    """g(u, ...) at every pixel, with `function` made of torch operations: `pointwise(torch.tanh, u)`.

    It is called with the box that holds the mask: arrays belong into the equation or among the arguments, not into the
    function.

    Raises
    ------
    ParameterError : an argument that holds a derivative or an unknown, or none that is an expression.
    """
    axes = next((each.axes for each in arguments if isinstance(each, Expression)), None)
    if axes is None:
        raise ParameterError("A function of no field.", expected="at least one expression among the arguments.",
                             do="write pointwise(torch.tanh, u).")  # fmt: skip
    name = getattr(function, "__name__", type(function).__name__)
    return _applied(function, name, tuple(as_expression(each, axes) for each in arguments))


def _applied(function: Callable[..., Any], name: str, arguments: tuple[Expression, ...]) -> Expression:
    parts = [_merged(argument) for argument in arguments]
    fields = frozenset().union(*(part.fields for part in parts))

    def applied(values: Mapping[str, Tensor]) -> Tensor:
        given = [part.function(values) for part in parts]
        try:
            return as_values(function(*given), name)
        except (AttributeError, RuntimeError, TypeError, IndexError) as error:
            raise ParameterError(f"The function {name}, which fails on fields: {error}",
                                 expected="a function of torch tensors.",
                                 do="write it with torch, torch.sin and not np.sin.") from error  # fmt: skip

    label = f"{name} of {', '.join(part.name for part in parts)}"
    return _of_source(arguments[0].axes, Source(applied, fields, linear=False, name=label))


def as_expression(value: Any, axes: Axes) -> Expression:
    """Return an expression, a number or an array of known values as an expression.

    Raises
    ------
    FieldError : an array that does not broadcast to the axes, or is not finite where the data count; an expression
        of another problem.
    ParameterError : a number that is not finite.
    """
    if isinstance(value, Expression):
        if value.axes is not axes:
            raise FieldError("Expressions of two problems.", expected="one InverseProblem for all of them.",
                             do="make every field and unknown with the same problem.")  # fmt: skip
        return value
    number = _as_number(value)
    if number is not None:
        return _of_source(axes, Source.one()) * number
    array = as_array(value, "Known values")
    try:
        full = np.broadcast_to(array, axes.whole)[axes.window]
    except ValueError as error:
        raise FieldError(f"Known values of shape {array.shape}.",
                         expected=f"shape {axes.whole}, or one that broadcasts to it.",
                         do="give them on the grid of the measured fields.") from error  # fmt: skip
    inside = np.ones(axes.shape, dtype=bool) if axes.inside is None else axes.inside
    bad = np.count_nonzero(~np.isfinite(full[inside]))
    if bad:
        raise FieldError(f"Known values with {bad} NaN or infinite ones.", expected="finite values inside the mask.",
                         do="take those samples out of the mask.")  # fmt: skip
    return _of_source(axes, Source.known(np.where(inside, full, 0.0)))


def unknown_expression(axes: Axes, unknown: Unknown) -> Expression:
    """Return the expression that is the unknown alone."""
    nothing = axes.order()
    return Expression(axes, (Term(1.0, unknown, nothing, nothing, Source.one()),))


def measured_expression(axes: Axes, name: str) -> Expression:
    """Return the expression that is a measured field alone."""
    return _of_source(axes, Source.measured(name))


def _as_number(value: Any) -> float | None:
    """Return a number, numpy and torch scalars too, as float; None for arrays and expressions.

    Scalars are numbers, not fields: fields are refused before a derivative.
    """
    if isinstance(value, Expression) or np.ndim(value) > 0:
        return None
    number = float(as_array(value, "A number"))
    if not math.isfinite(number):
        raise ParameterError(f"The number {number} in an equation.", expected="finite numbers.",
                             do="check what it was computed from.")  # fmt: skip
    return number


def _quotient() -> ParameterError:
    return ParameterError(
        "A division by a field or an unknown.",
        expected="division by numbers and by known arrays.",
        do="multiply the equation by the divisor, or name the quotient of two unknowns as one unknown.",
    )


def _of_source(axes: Axes, source: Source) -> Expression:
    return Expression(axes, (Term(1.0, None, axes.order(), axes.order(), source),))


def _merged(expression: Expression) -> Source:
    """Return an expression without unknowns and derivatives as one function."""
    terms = expression.terms
    if any(term.unknown is not None or not term.is_pointwise for term in terms):
        raise ParameterError(
            "A nonlinear function of a derivative or of an unknown.",
            expected="functions of measured fields, and equations that are linear in the unknowns.",
            do="differentiate the function instead, d(u**2, 'x'), or name a product of unknowns as one unknown.",
        )
    fields = frozenset().union(*(term.source.fields for term in terms))

    def total(values: Any) -> Tensor:
        return torch.stack(
            torch.broadcast_tensors(*(term.weight * term.source.function(values) for term in terms))
        ).sum(dim=0)

    name = " + ".join(term.source.name for term in terms)
    return Source(total, fields, linear=all(term.source.linear for term in terms), name=name)


def _product(first: Term, second: Term) -> Term:
    """Return the product of two terms, of which at most one may hold an unknown, and one a derivative."""
    if first.unknown is not None and second.unknown is not None:
        raise ParameterError(
            f"The product of {first.unknown.name} and {second.unknown.name}.",
            expected="an equation that is linear in the unknowns.",
            do="name the product as one unknown.",
        )
    differentiated, factor = (second, first) if first.is_pointwise else (first, second)
    weight, unknown = first.weight * second.weight, first.unknown or second.unknown
    if differentiated.is_pointwise:
        source = first.source.times(second.source)
        return Term(weight, unknown, first.outer, first.inner, source)
    if not factor.is_pointwise or not factor.source.trivial or any(differentiated.outer):
        raise ParameterError(
            "A measured or known field times a derivative.",
            expected="numbers and unknowns before a derivative: it is moved onto the test function.",
            do="use the product rule: v ∂u = ∂(v u) - u ∂v, with known v.",
        )
    return replace(differentiated, weight=weight, unknown=unknown)
