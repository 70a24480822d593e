"""Pointwise functions of measured fields, with the derivatives that the noise needs.

A source is g(u, v, ...) k(x): a function of the fields at one pixel times known values. Its noise is to first
order Σ_f (∂g/∂u_f) n_f, and its expectation exceeds g(u) by ½ Σ_f (∂²g/∂u_f²) σ_f².
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chromamol.errors import ParameterError
from chromamol.shapes import FloatField, Mask

Function = Callable[[Mapping[str, Tensor]], Tensor]


@dataclass(frozen=True, eq=False)
class Source:
    """g(fields), pointwise.

    Parameters
    ----------
    function : fields by name -> values, of torch tensors.
    fields : names of the fields that it reads; () for known values.
    trivial : True for the constant 1.
    linear : True when the function is linear in every field, so that noise has no bias.
    name : what messages call it.
    """

    function: Function
    fields: frozenset[str]
    trivial: bool = False
    linear: bool = True
    name: str = "1"

    @classmethod
    def one(cls) -> Source:
        """The constant 1."""
        return cls(lambda _: torch.ones((), dtype=torch.float64), frozenset(), trivial=True)

    @classmethod
    def measured(cls, name: str) -> Source:
        """A field itself."""
        return cls(lambda fields: fields[name], frozenset({name}), name=name)

    @classmethod
    def known(cls, values: FloatField) -> Source:
        """Values without noise."""
        tensor = torch.tensor(values, dtype=torch.float64)
        return cls(lambda _: tensor, frozenset(), name="known values")

    def times(self, other: Source) -> Source:
        """The product."""
        if self.trivial or other.trivial:
            return other if self.trivial else self
        linear = self.linear and other.linear and not (self.fields and other.fields)
        fields, name = self.fields | other.fields, f"({self.name}) ({other.name})"
        return Source(lambda f: self.function(f) * other.function(f), fields, linear=linear, name=name)


@dataclass(frozen=True, eq=False)
class SourceValues:
    """A source at every pixel.

    Parameters
    ----------
    values : g - ½ Σ g'' σ²: free of the bias of the noise to second order.
    slopes : by field, the standard deviation of g per standard deviation of that field, with the sign of ∂g/∂u.
    """

    values: FloatField
    slopes: dict[str, FloatField]


def evaluate(
    source: Source,
    fields: Mapping[str, FloatField],
    calm: Mapping[str, FloatField],
    variance: Mapping[str, FloatField | float],
    *,
    left: Mapping[str, float],
    inside: Mask,
) -> SourceValues:
    """Return a source at `fields`, and its slopes at `calm`: weights must not follow the noise.

    `variance` is that of the noise of each field as measured, of which `fields` hold the share `left`. Where it is not
    `inside`, the result is anything.

    Raises
    ------
    ParameterError : a function that is singular inside, or returns something else than one number per sample.
    """
    values, _, curvatures = _derivatives(source, fields, inside)
    for name, curvature in curvatures.items():
        values = values - 0.5 * curvature * left[name] * variance[name]
    _, slopes, curvatures = _derivatives(source, calm, inside)
    for name, curvature in curvatures.items():
        # g(u + n) also holds ½ g'' (n² - σ²), of variance ½ g''² σ⁴: as if the slope were larger by that.
        size = np.sqrt(slopes[name] ** 2 + 0.5 * curvature**2 * variance[name])
        slopes[name] = np.copysign(size, slopes[name])
    return SourceValues(values, slopes)


def as_values(result: Any, name: str) -> Tensor:
    """Return what a function gave as float64; `ParameterError` unless it is a tensor of real numbers."""
    if not isinstance(result, Tensor) or result.is_complex():
        kind = result.dtype if isinstance(result, Tensor) else type(result).__name__
        raise ParameterError(f"The function {name}, which returns {kind}.",
                             expected="a torch tensor of real numbers, one per sample of its arguments.",
                             do="write it with torch operations on its arguments.")  # fmt: skip
    return result.to(torch.float64)


def _derivatives(
    source: Source, fields: Mapping[str, FloatField], inside: Mask
) -> tuple[FloatField, dict[str, FloatField], dict[str, FloatField]]:
    """Return g, ∂g/∂u and, for nonlinear functions, ∂²g/∂u², by field."""
    inputs = {
        n: torch.tensor(fields[n], dtype=torch.float64, requires_grad=True) for n in sorted(source.fields)
    }
    value = source.function(inputs)
    if inputs and value.shape != inside.shape:
        raise ParameterError(f"{source.name} of shape {tuple(value.shape)}.",
                             expected=f"shape {inside.shape}, as the fields.",
                             do="return one number per sample of the arguments.")  # fmt: skip
    slopes, curvatures = {}, {}
    for name, tensor in inputs.items():
        slope = _slope(value, tensor, again=not source.linear)
        slopes[name] = slope.detach().numpy()
        if not source.linear:
            curvatures[name] = _slope(slope, tensor).detach().numpy()
    values = np.broadcast_to(value.detach().numpy(), inside.shape)
    found = np.array([values, *slopes.values(), *curvatures.values()])
    bad = np.count_nonzero(~np.isfinite(found).all(axis=0) & inside)
    if bad:
        raise ParameterError(
            f"{source.name}, which is NaN or infinite, or has such a derivative, at {bad} samples.",
            expected="a function that is finite and smooth wherever the fields are, their noise included.",
            do="take those samples out of the mask, or write the equation without that function.",
        )
    return values, slopes, curvatures


def _slope(value: Tensor, tensor: Tensor, *, again: bool = False) -> Tensor:
    """Return ∂value/∂tensor, pointwise; zero where the value does not depend on it."""
    if not value.requires_grad:
        return torch.zeros_like(tensor)
    (slope,) = torch.autograd.grad(
        value.sum(), tensor, create_graph=again, retain_graph=True, allow_unused=True
    )
    return torch.zeros_like(tensor) if slope is None else slope
