"""Pointwise functions of measured fields, with the derivatives that the noise needs.

A source is g(u, v, ...) k(x): a function of the fields at one pixel times known values. Its noise is to first
order Σ_f (∂g/∂u_f) n_f, and its expectation exceeds g(u) by ½ Σ_f (∂²g/∂u_f²) σ_f².
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from chromamol.shapes import FloatField

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
    """

    function: Function
    fields: frozenset[str]
    trivial: bool = False
    linear: bool = True

    @classmethod
    def one(cls) -> Source:
        """The constant 1."""
        return cls(lambda _: torch.ones((), dtype=torch.float64), frozenset(), trivial=True)

    @classmethod
    def measured(cls, name: str) -> Source:
        """A field itself."""
        return cls(lambda fields: fields[name], frozenset({name}))

    @classmethod
    def known(cls, values: FloatField) -> Source:
        """Values without noise."""
        tensor = torch.tensor(values, dtype=torch.float64)
        return cls(lambda _: tensor, frozenset())

    def times(self, other: Source) -> Source:
        """The product."""
        if self.trivial or other.trivial:
            return other if self.trivial else self
        linear = self.linear and other.linear and not (self.fields and other.fields)
        return Source(
            lambda f: self.function(f) * other.function(f), self.fields | other.fields, linear=linear
        )


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
) -> SourceValues:
    """Return a source at `fields`, and its slopes at `calm`: weights must not follow the noise.

    `variance` is that of the noise of each field.
    """
    shape = next(iter(fields.values())).shape
    values, _, curvatures = _derivatives(source, fields)
    for name, curvature in curvatures.items():
        values = values - 0.5 * curvature * variance[name]
    _, slopes, curvatures = _derivatives(source, calm)
    for name, curvature in curvatures.items():
        # g(u + n) also holds ½ g'' (n² - σ²), of variance ½ g''² σ⁴: as if the slope were larger by that.
        size = np.sqrt(slopes[name] ** 2 + 0.5 * curvature**2 * variance[name])
        slopes[name] = np.copysign(size, slopes[name])
    return SourceValues(np.broadcast_to(values, shape), slopes)


def _derivatives(
    source: Source, fields: Mapping[str, FloatField]
) -> tuple[FloatField, dict[str, FloatField], dict[str, FloatField]]:
    """Return g, ∂g/∂u and, for nonlinear functions, ∂²g/∂u², by field."""
    inputs = {
        n: torch.tensor(fields[n], dtype=torch.float64, requires_grad=True) for n in sorted(source.fields)
    }
    value = source.function(inputs)
    slopes, curvatures = {}, {}
    for name, tensor in inputs.items():
        (slope,) = torch.autograd.grad(value.sum(), tensor, create_graph=not source.linear, retain_graph=True)
        slopes[name] = slope.detach().numpy()
        if not source.linear:
            curvature = torch.zeros_like(tensor)
            if slope.requires_grad:
                (found,) = torch.autograd.grad(slope.sum(), tensor, allow_unused=True, retain_graph=True)
                curvature = curvature if found is None else found
            curvatures[name] = curvature.detach().numpy()
    return value.detach().numpy(), slopes, curvatures
