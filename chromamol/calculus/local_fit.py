"""Derivatives inside a mask up to its very border, by weighted local polynomial fits.

At every pixel a polynomial of degree m is fitted to the known pixels of the support, weighted by the
mollifier's profile φ, and its coefficient of x^α times α! is the derivative:

    minimise  Σ_i φ(x_i) M_i (u_i - Σ_β c_β x_i^β)²,    |β| <= m

Near the border of the mask M the support is one-sided, and polynomials up to degree m are still
differentiated exactly; the price is noise, which grows steeply there and is returned with the result. The
normal equations of all pixels are correlations of the mask and of the field with the same few kernels.

References
----------
Savitzky & Golay, doi:10.1021/ac60214a047; Fan & Gijbels, Local Polynomial Modelling and Its Applications
(1996), doi:10.1201/9780203748725; Knutsson & Westin, normalized convolution, doi:10.1109/CVPR.1993.341081.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from chromamol.calculus.fourier import FourierFilter
from chromamol.calculus.kernels import Kernel, get_kernel
from chromamol.calculus.layer import Derivative, as_sums, plain_lengths
from chromamol.calculus.taps import per_axis, support_radius
from chromamol.errors import FieldError, KernelError
from chromamol.given import as_array, as_mask
from chromamol.shapes import FloatField, Mask

_CHUNK = 4096
_RIDGE = 1e-14
_SOLVED = 1e-7  # a fit that misses its own equations by more is not determined


@dataclass(frozen=True, eq=False)
class LocalFit:
    """Derivatives by local fits.

    Parameters
    ----------
    values : the derivative; NaN where `valid` is False.
    noise_gain : standard deviation of the result for white noise of standard deviation 1; NaN likewise.
    valid : True inside the mask where the fit is determined.
    """

    values: FloatField
    noise_gain: FloatField
    valid: Mask


def fit_derivative(
    field: FloatField | Any,
    order: Derivative | int,
    *,
    mask: Any = None,
    spacing: float | Sequence[float],
    width: float | Sequence[float],
    kernel: str | Kernel = "polynomial",
    degree: int | None = None,
    max_noise_gain: float = 20.0,
) -> LocalFit:
    """Return a derivative at every pixel of a mask by weighted local polynomial fits.

    Parameters
    ----------
    field : (x,), (y, x) or (z, y, x), float; values outside the mask are never used.
    order : as in `mollified_derivative`.
    mask : True where the field is known; wherever it is finite, and not masked, when omitted.
    spacing, width : pixel size and half-width of the weight, one number or one per axis.
    kernel : its profile is the weight.
    degree : of the polynomial; the derivative's total order + 1 when omitted.
    max_noise_gain : pixels whose noise is this many times that of a full support are marked invalid.

    Raises
    ------
    KernelError : a support too narrow, or a degree below the derivative's order.
    FieldError : a mask of another shape, or NaN inside one that was given.
    """
    array = as_array(field, "Field")
    known = np.isfinite(array) if mask is None else as_mask(mask)
    if known.shape != array.shape or not np.isfinite(array[known]).all():
        raise FieldError(
            f"Field of shape {array.shape} with a mask of shape {known.shape}.",
            expected="one shape, and finite values inside the mask.",
            do="mark NaN as unknown.",
        )
    terms = as_sums([(order,) if isinstance(order, int) else order])[0]
    steps = per_axis(plain_lengths(spacing), array.ndim, "spacing")
    widths = per_axis(plain_lengths(width), array.ndim, "width")
    highest = max(sum(alpha) for alpha in terms)
    if degree is not None and degree < highest:
        raise KernelError(
            f"Degree {degree} for a derivative of order {highest}.",
            expected=f"at least {highest}.",
            do="leave it out for the order + 1.",
        )
    fit = _fit(get_kernel(kernel), widths, steps, highest + 1 if degree is None else degree, terms)
    values, gain = np.full(array.shape, np.nan), np.full(array.shape, np.nan)
    values[known], gain[known] = fit.solve(np.where(known, array, 0.0), known)
    full = fit.full_gain()
    if not np.isfinite(full):
        raise KernelError(
            f"Half-width {widths} at spacing {steps} for a fit of {len(fit.basis)} terms.",
            expected="more pixels in the support.",
            do="widen the kernel or lower the degree.",
        )
    valid = known & (np.nan_to_num(gain, nan=np.inf) <= max_noise_gain * full)
    values[~valid] = gain[~valid] = np.nan
    return LocalFit(values, gain, valid)


@dataclass(frozen=True, eq=False)
class _Fit:
    """The weight, the monomials, and the linear functional of their coefficients that is wanted.

    Positions t are in units of the weight's root mean square radius, which keeps the equations well scaled.
    """

    weight: FloatField
    positions: tuple[FloatField, ...]
    basis: tuple[tuple[int, ...], ...]
    target: FloatField

    def solve(self, field: FloatField, known: Mask) -> tuple[FloatField, FloatField]:
        """Value and noise gain at the known pixels; NaN where the fit is not determined."""
        exponents = sorted({_sum(b, c) for b in self.basis for c in self.basis})
        table = np.array([[exponents.index(_sum(b, c)) for c in self.basis] for b in self.basis])
        moments = self._sums(known.astype(float), exponents, self.weight)[:, known]
        noise = self._sums(known.astype(float), exponents, self.weight**2)[:, known]
        data = self._sums(field, list(self.basis), self.weight)[:, known]
        value, gain = np.empty(moments.shape[1]), np.empty(moments.shape[1])
        for start in range(0, value.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            matrix = np.moveaxis(moments[:, part][table], -1, 0)
            ridge = _RIDGE * np.trace(matrix, axis1=1, axis2=2)[:, None, None] * np.eye(len(self.basis))
            functional = np.linalg.solve(matrix + ridge, self.target[None, :, None])[..., 0]
            missed = np.einsum("pij,pj->pi", matrix, functional) - self.target
            determined = np.abs(missed).max(axis=1) < _SOLVED * np.abs(self.target).max()
            scatter = np.moveaxis(noise[:, part][table], -1, 0)
            variance = np.einsum("pi,pij,pj->p", functional, scatter, functional)
            value[part] = np.where(determined, np.einsum("pi,ip->p", functional, data[:, part]), np.nan)
            gain[part] = np.where(determined, np.sqrt(np.maximum(variance, 0.0)), np.nan)
        return value, gain

    def full_gain(self) -> float:
        """Noise gain where the whole support is known."""
        known = np.ones(tuple(n + 2 for n in self.weight.shape), dtype=bool)
        _, gain = self.solve(np.zeros(known.shape), known)
        return float(gain.reshape(known.shape)[tuple(n // 2 for n in known.shape)])

    def _sums(self, field: FloatField, exponents: list[tuple[int, ...]], weight: FloatField) -> FloatField:
        """Σ_i weight_i t_i^γ field(x + x_i) for every exponent γ; beyond the edge nothing is known."""
        parts = tuple(
            ((weight * math.prod(t**k for t, k in zip(self.positions, g, strict=True)),),) for g in exponents
        )
        operator = FourierFilter(parts, tuple(n // 2 for n in weight.shape), "zero")
        return operator.forward(torch.from_numpy(np.ascontiguousarray(field))).numpy()


def _fit(
    kernel: Kernel,
    widths: tuple[float, ...],
    steps: tuple[float, ...],
    degree: int,
    terms: Mapping[tuple[int, ...], float],
) -> _Fit:
    radii = [support_radius(w, h) for w, h in zip(widths, steps, strict=True)]
    axes = [np.arange(-r, r + 1) * h / w for r, h, w in zip(radii, steps, widths, strict=True)]
    t = np.meshgrid(*axes, indexing="ij")
    rho = np.sum([a**2 for a in t], axis=0)
    profile = kernel.profile_series(torch.from_numpy(np.minimum(rho, 1.0)), 0)[0].numpy()
    weight = np.where(rho < 1.0, profile, 0.0)
    weight = weight / weight.sum()
    scale = math.sqrt(float((weight * rho).sum()) / len(widths)) or 1.0
    powers = itertools.product(range(degree + 1), repeat=len(widths))
    basis = tuple(b for b in powers if sum(b) <= degree)
    target = [
        terms.get(b, 0.0)
        * math.prod(math.factorial(k) / (scale * w) ** k for k, w in zip(b, widths, strict=True))
        for b in basis
    ]
    return _Fit(weight, tuple(a / scale for a in t), basis, np.array(target))


def _sum(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(i + j for i, j in zip(a, b, strict=True))
