"""What mollifier layers are measured against, behind one interface.

Every method answers `method(samples, terms)` = Σ_α terms[α] ∂^α u on the grid of `samples`. Grid methods read
the values, coordinate methods differentiate the function itself: a network or a formula.

References
----------
Savitzky & Golay, doi:10.1021/ac60214a047. Fornberg, finite differences on arbitrary grids,
doi:10.1090/S0025-5718-1988-0935077-0. Taylor mode: see `chromamol.calculus.taylor`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy import signal
from torch import Tensor

from chromamol.calculus.apply import LinearFilter, apply_filter
from chromamol.calculus.kernels import Kernel, get_kernel
from chromamol.calculus.layer import build_filter
from chromamol.calculus.separable import MultiIndex, separable_filter
from chromamol.calculus.taylor import directional_sum
from chromamol.errors import FieldError, KernelError
from chromamol.shapes import FloatField

Terms = Mapping[MultiIndex, float]


@dataclass(frozen=True, eq=False)
class Samples:
    """A field known on a grid, as values, as a function of the coordinates, or both.

    Parameters
    ----------
    shape, spacing : the grid; the coordinates of pixel i are i · spacing.
    measured : values (*shape), when they are not those of the function.
    function : maps coordinates (points, axes) to values (points,) or (points, 1); may be a network.
    dtype : of the coordinates.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    measured: Tensor | None = None
    function: Callable[[Tensor], Tensor] | None = None
    dtype: torch.dtype = torch.float32

    def coordinates(self) -> Tensor:
        """Pixel positions, (points, axes)."""
        axes = [torch.arange(n, dtype=self.dtype) * h for n, h in zip(self.shape, self.spacing, strict=True)]
        return torch.stack([g.reshape(-1) for g in torch.meshgrid(*axes, indexing="ij")], dim=-1)

    def values(self) -> Tensor:
        """Values (*shape), by the function if none were measured."""
        if self.measured is not None:
            return self.measured
        return self.require_function()(self.coordinates()).reshape(self.shape)

    def require_function(self) -> Callable[[Tensor], Tensor]:
        """Return the function or raise `FieldError`."""
        if self.function is None:
            raise FieldError(
                "Samples without a function.",
                expected="a function of the coordinates.",
                do="use a grid method, or fit a network first.",
            )
        return self.function


class DerivativeMethod(ABC):
    """Σ_α terms[α] ∂^α u of sampled fields."""

    name: ClassVar[str]

    @abstractmethod
    def __call__(self, samples: Samples, terms: Terms) -> Tensor:
        """Return the derivative, shape (*samples.shape)."""


@dataclass(frozen=True)
class Mollified(DerivativeMethod):
    """This package's own method, at a half-width in the unit of the spacing."""

    width: float
    kernel: str | Kernel = "polynomial"
    border: str = "reflect"
    name: ClassVar[str] = "mollified"

    def __call__(self, samples: Samples, terms: Terms) -> Tensor:
        operator = build_filter(
            [terms],
            spacing=samples.spacing,
            width=(self.width,) * len(samples.spacing),
            kernel=get_kernel(self.kernel),
            border=self.border,
        )
        return _apply(operator, samples.values())


@dataclass(frozen=True)
class FiniteDifference(DerivativeMethod):
    """Central differences of the given (even) order of accuracy, the same along each axis."""

    accuracy: int = 2
    border: str = "reflect"
    name: ClassVar[str] = "finite difference"

    def __call__(self, samples: Samples, terms: Terms) -> Tensor:
        return _separable(samples, terms, lambda k, h: _difference_weights(k, self.accuracy, h), self.border)


@dataclass(frozen=True)
class SavitzkyGolay(DerivativeMethod):
    """Unweighted least-squares polynomials on a box of 2 · radius + 1 pixels, by scipy.

    Parameters
    ----------
    radius : pixels on each side.
    degree : of the polynomial along each axis.
    """

    radius: int
    degree: int = 5
    border: str = "reflect"
    name: ClassVar[str] = "Savitzky-Golay"

    def __call__(self, samples: Samples, terms: Terms) -> Tensor:
        return _separable(samples, terms, self._taps, self.border)

    def _taps(self, order: int, spacing: float) -> FloatField:
        if 2 * self.radius < self.degree or self.degree < order:
            raise KernelError(
                f"Savitzky-Golay of radius {self.radius} and degree {self.degree}.",
                expected=f"degree >= {order} and 2 radius >= degree.",
                do="widen the box.",
            )
        size = 2 * self.radius + 1
        return signal.savgol_coeffs(size, self.degree, deriv=order, delta=spacing, use="dot")


@dataclass(frozen=True)
class Spectral(DerivativeMethod):
    """Multiplication by (i k)^α, with an optional Gaussian low pass exp(-(k length)² / 2).

    Exact for periodic fields; others are mirrored first (`periodic=False`), which leaves a kink at the edge.
    """

    length: float = 0.0
    periodic: bool = False
    name: ClassVar[str] = "FFT"

    def __call__(self, samples: Samples, terms: Terms) -> Tensor:
        u = samples.values()
        if not self.periodic:
            for axis in range(u.ndim):
                u = torch.cat([u, u.flip(axis)], axis)
        spectrum = torch.fft.fftn(u)
        symbol = torch.zeros_like(spectrum)
        waves = [2 * math.pi * torch.fft.fftfreq(n, h) for n, h in zip(u.shape, samples.spacing, strict=True)]
        grids = torch.meshgrid(*[w.to(u.dtype).to(u.device) for w in waves], indexing="ij")
        for alpha, factor in terms.items():
            term = torch.full_like(spectrum, factor)
            for axis, (k, power) in enumerate(zip(grids, alpha, strict=True)):
                # The highest frequency has no sign, so an odd derivative of it is zero.
                odd = power % 2 and u.shape[axis] % 2 == 0
                wave = torch.where(k.abs() == k.abs().max(), torch.zeros_like(k), k) if odd else k
                term = term * (1j * wave) ** power
            symbol = symbol + term
        damping = torch.stack([torch.exp(-0.5 * (k * self.length) ** 2) for k in grids]).prod(0)
        result = torch.fft.ifftn(spectrum * symbol * damping).real
        return result[tuple(slice(0, n) for n in samples.shape)]


@dataclass(frozen=True)
class NestedAutodiff(DerivativeMethod):
    """`torch.autograd.grad` of `torch.autograd.grad` of ..., the way of physics-informed networks.

    Common inner derivatives are computed once; for a bilaplacian that is faster than the Laplacian of the
    Laplacian, measured.
    """

    name: ClassVar[str] = "nested autodiff"

    def __call__(self, samples: Samples, terms: Terms) -> Tensor:
        points = samples.coordinates().requires_grad_()
        known: dict[MultiIndex, Tensor] = {}
        zero = (0,) * len(samples.shape)
        known[zero] = samples.require_function()(points).reshape(-1)
        total = torch.zeros_like(known[zero])
        for alpha, factor in terms.items():
            done = zero
            for axis, times in enumerate(alpha):
                for _ in range(times):
                    after = tuple(k + (i == axis) for i, k in enumerate(done))
                    if after not in known:
                        (slope,) = torch.autograd.grad(known[done].sum(), points, create_graph=True)
                        for i in range(len(alpha)):  # one gradient gives the next derivative along every axis
                            known.setdefault(tuple(k + (i == j) for j, k in enumerate(done)), slope[:, i])
                    done = after
            total = total + factor * known[alpha]
        return total.reshape(samples.shape)


@dataclass(frozen=True)
class TaylorMode(DerivativeMethod):
    """Collapsed Taylor-mode derivatives of a network of linear layers and tanh, in one forward pass."""

    name: ClassVar[str] = "collapsed Taylor mode"

    def __call__(self, samples: Samples, terms: Terms) -> Tensor:
        function = samples.require_function()
        if not isinstance(function, torch.nn.Sequential):
            raise FieldError(
                f"Function of type {type(function).__name__}.",
                expected="torch.nn.Sequential of Linear and Tanh.",
                do="use nested autodiff.",
            )
        return directional_sum(function, samples.coordinates(), terms).reshape(samples.shape)


def _apply(operator: LinearFilter, values: Tensor) -> Tensor:
    return apply_filter(operator, values).squeeze(-operator.ndim - 1)


def _separable(
    samples: Samples, terms: Terms, weights: Callable[[int, float], FloatField], border: str
) -> Tensor:
    taps = []
    for axis, h in enumerate(samples.spacing):
        rows = {k: weights(k, h) for k in {alpha[axis] for alpha in terms}}
        longest = max(r.size for r in rows.values())
        taps.append(
            {k: torch.from_numpy(np.pad(r, (longest - r.size) // 2).astype(float)) for k, r in rows.items()}
        )
    return _apply(separable_filter([terms], taps, border=border), samples.values())


def _difference_weights(order: int, accuracy: int, spacing: float) -> FloatField:
    """Central weights of the least number of points, from their moment conditions."""
    if order == 0:
        return np.ones(1)
    radius = (order + 1) // 2 + accuracy // 2 - 1
    offsets = np.arange(-radius, radius + 1)
    moments = np.vander(offsets, increasing=True).T.astype(float)
    wanted = math.factorial(order) * (np.arange(offsets.size) == order)
    return np.linalg.solve(moments, wanted) / spacing**order
