"""Kernels on the pixel grid: derivative taps whose discrete moments are exact.

Sampling the derivative of a mollifier at the pixels does not differentiate polynomials correctly: for order 4
the error can exceed 1000 %. The taps here obey, to rounding,

    Σ_i w_i x_i^β = α! [β = α]    for every |β| <= |α| + order - 1

for the derivative α. They are the sampled derivative (-1)^|α| ∂^α η(x_i) Π h plus the smallest correction (in
the norm Σ c² / η, so it vanishes where the mollifier does) that meets these conditions; the correction's size
is reported. Taps are used by *correlation*: (D^α u)(x_n) = Σ_i w_i u(x_n + x_i).

All numbers are float64 on the CPU, and are differentiable in the half-width.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chromamol.calculus.kernels import Kernel, get_kernel
from chromamol.errors import KernelError
from chromamol.grid import MAX_DIMENSIONS
from chromamol.shapes import FloatField

MAX_DERIVATIVE = 6
MAX_SUPPORT_PX = 2**22
"""Pixels of the largest kernel: taps of more take gigabytes, and no field holds them."""
_USABLE_WEIGHT = 1e-12  # pixels where the mollifier is smaller than this share of its peak can't correct
_MOMENT_TOLERANCE = 1e-10
_SEARCH_STEP_PX = 0.25


@dataclass(frozen=True, eq=False)
class Taps:
    """Weights of one derivative on the pixel grid, for use by correlation.

    Parameters
    ----------
    values : float64, an odd number of pixels along each axis, centred.
    derivative : order of the derivative along each axis.
    spacing, half_width : pixel size and half-width of the support along each axis, in one unit of length.
    kernel : the mollifier.
    correction : ‖correction‖ / ‖taps‖, what the moment conditions changed; 0 is none.
    """

    values: FloatField
    derivative: tuple[int, ...]
    spacing: tuple[float, ...]
    half_width: tuple[float, ...]
    kernel: Kernel
    correction: float

    @property
    def noise_gain(self) -> float:
        """Standard deviation of the output for white noise of standard deviation 1 in each pixel.

        Unit: 1 / length^|derivative|.
        """
        return float(np.sqrt(np.sum(self.values**2)))

    @property
    def exact_degree(self) -> int:
        """The total degree up to which polynomials are differentiated exactly."""
        return sum(self.derivative) + self.kernel.order - 1

    def moment(self, exponents: tuple[int, ...]) -> float:
        """Σ w x^β: the response at the origin to the monomial x^β."""
        weighted = self.values
        for axis, (h, b) in enumerate(zip(self.spacing, exponents, strict=True)):
            n = self.values.shape[axis] // 2
            x = (np.arange(-n, n + 1) * h) ** b
            weighted = weighted * x.reshape([-1 if i == axis else 1 for i in range(self.values.ndim)])
        return math.fsum(weighted.ravel())

    def __str__(self) -> str:
        first = [
            tuple(a + (2 * step if i == 0 else 0) for i, a in enumerate(self.derivative))
            for step in range(self.kernel.order // 2 + 1)
        ]
        moments = ", ".join(f"{b}: {self.moment(b):.6g}" for b in first)
        return (
            f"{self.kernel}\n"
            f"derivative {self.derivative}, support {self.values.shape} px, half-width {self.half_width}, "
            f"spacing {self.spacing}\n"
            f"exact to degree {self.exact_degree}; moments {moments}\n"
            f"noise gain {self.noise_gain:.4g} per unit noise; moment correction {self.correction:.2g}"
        )


def taps_1d(
    kernel: str | Kernel, derivative: int, half_width: float, spacing: float, *, order: int | None = None
) -> FloatField:
    """Return the float64 taps of a derivative along one axis; shape (2 n + 1,), for correlation.

    Parameters
    ----------
    kernel : name or `Kernel`.
    derivative : 0 (smoothing) to 6.
    half_width : half of the support, in the unit of `spacing`. The outermost taps lie strictly inside it.
    spacing : distance between pixels.
    order : order of the kernel, in place of its own.

    Raises
    ------
    KernelError : a support too narrow for the derivative; the message says the smallest that works.
    """
    return build_taps(kernel, (derivative,), half_width=half_width, spacing=spacing, order=order).values


def build_taps(
    kernel: str | Kernel,
    derivative: tuple[int, ...],
    *,
    half_width: float | tuple[float, ...],
    spacing: float | tuple[float, ...],
    order: int | None = None,
    isotropic: bool = False,
) -> Taps:
    """Return the taps of a (mixed) derivative in one to three dimensions.

    Parameters
    ----------
    kernel : name or `Kernel`.
    derivative : order along each axis, total at most 6.
    half_width, spacing : one number or one per axis, in one unit of length.
    order : order of the kernel, in place of its own.
    isotropic : a mollifier of the distance (an ellipsoid of the half-widths) in place of the product of one
        mollifier per axis.

    Raises
    ------
    KernelError : a derivative, half-width or spacing out of range, or a support too narrow.
    """
    chosen = get_kernel(kernel, order=order)
    dimensions = len(derivative)
    check_derivative(derivative)
    widths = per_axis(half_width, dimensions, "half-width")
    steps = per_axis(spacing, dimensions, "spacing")
    if isotropic and dimensions > 1:
        values, correction = _radial(chosen, derivative, widths, steps)
    else:
        parts = [_radial(chosen, (k,), (w,), (h,)) for k, w, h in zip(derivative, widths, steps, strict=True)]
        values = parts[0][0]
        for part, _ in parts[1:]:
            values = np.multiply.outer(values, part)
        correction = max(c for _, c in parts)
    return Taps(values, derivative, steps, widths, chosen, correction)


def weak_taps(
    kernel: str | Kernel, derivatives: tuple[int, ...], *, half_width: float, spacing: float, degree: int = 9,
    between: bool = False,
) -> dict[int, FloatField]:  # fmt: skip
    """Return a test function and its derivatives, consistent on the grid under integration by parts.

    For every polynomial u of degree <= `degree` and every listed derivative k,

        Σ_i taps[k]_i u(x_i) = Σ_i taps[0]_i u^(k)(x_i)

    to rounding: the sum that stands for ∫ ψ^(k) u equals the one for ∫ ψ u^(k) (signs included), so a weak
    form has no discretisation error of its own. taps[0] is ψ h, of unit sum. They are centred on a pixel, or midway
    `between` two, and then of even length.

    Raises
    ------
    KernelError : a support too narrow for that degree.
    """
    chosen = get_kernel(kernel)
    check_derivative((max(derivatives),))
    width, step = per_axis(half_width, 1, "half-width"), per_axis(spacing, 1, "spacing")
    psi, _ = _radial(chosen, (0,), width, step, between=between)
    x = (np.arange(len(psi)) - 0.5 * (len(psi) - 1)) * (step[0] / width[0])
    result = {0: psi}
    for k in sorted(set(derivatives) - {0}):
        targets = tuple(
            ((j,), math.perm(j, k) * math.fsum(psi * x ** (j - k)) if j >= k else 0.0)
            for j in range(k % 2, max(degree, k + chosen.order - 1) + 1, 2)
        )
        result[k], _ = _radial(chosen, (k,), width, step, targets=targets, between=between)
    return result


def smallest_half_width(
    kernel: str | Kernel, derivative: tuple[int, ...], *, spacing: tuple[float, ...], isotropic: bool = False
) -> tuple[float, ...]:
    """Return the smallest half-width, in steps of a quarter pixel, on which the derivative can be built."""
    chosen = get_kernel(kernel)
    if not isotropic and len(derivative) > 1:
        axes = zip(derivative, spacing, strict=True)
        return tuple(smallest_half_width(chosen, (k,), spacing=(h,))[0] for k, h in axes)
    for step in itertools.count(1):
        widths = tuple(step * _SEARCH_STEP_PX * h for h in spacing)
        radii = tuple(support_radius(w, h) for w, h in zip(widths, spacing, strict=True))
        try:
            radial_taps(chosen, derivative, torch.tensor(widths, dtype=torch.float64), spacing, radii)
        except _TooNarrowError:
            continue
        return widths
    raise AssertionError  # the search ends: enough pixels always meet the conditions


def support_radius(half_width: float, spacing: float, *, between: bool = False) -> int:
    """Number of pixels strictly inside the half-width on each side of the centre: a pixel, or midway `between` two."""
    return max(math.ceil(half_width / spacing * (1.0 - 1e-12) + 0.5 * between) - 1, 0)


class _TooNarrowError(KernelError):
    """Internal: the moment conditions can't be met on this support."""


@lru_cache(maxsize=512)
def _radial(
    kernel: Kernel,
    derivative: tuple[int, ...],
    half_width: tuple[float, ...],
    spacing: tuple[float, ...],
    *,
    targets: tuple[tuple[tuple[int, ...], float], ...] | None = None,
    between: bool = False,
) -> tuple[FloatField, float]:
    if not math.prod(2.0 * w / h for w, h in zip(half_width, spacing, strict=True)) <= MAX_SUPPORT_PX:
        raise KernelError(
            f"Half-width {half_width} at spacing {spacing}.",
            expected=f"a support of at most {MAX_SUPPORT_PX} pixels.",
            do="give width and spacing in the same unit.",
        )
    radii = tuple(support_radius(w, h, between=between) for w, h in zip(half_width, spacing, strict=True))
    widths = torch.tensor(half_width, dtype=torch.float64)
    try:
        taps, correction = radial_taps(
            kernel, derivative, widths, spacing, radii, targets=targets, between=between
        )
    except _TooNarrowError as error:
        if targets is not None:
            raise KernelError(
                f"Half-width {half_width} at spacing {spacing} for a consistent derivative {derivative}.",
                expected=error.expected,
                do="widen the kernel, or lower `degree`.",
            ) from None
        smallest = smallest_half_width(kernel, derivative, spacing=spacing, isotropic=len(derivative) > 1)
        raise KernelError(
            f"Half-width {half_width} at spacing {spacing}, derivative {derivative}, {kernel.name} kernel.",
            expected=f"at least {tuple(float(f'{w:.6g}') for w in smallest)}: {error.expected}",
            do="widen the kernel, lower the derivative or the kernel's order, or resample the field.",
        ) from None
    values = taps.numpy().copy()
    values.flags.writeable = False
    return values, correction


def radial_taps(
    kernel: Kernel,
    derivative: tuple[int, ...],
    half_width: Tensor,
    spacing: tuple[float, ...],
    radii: tuple[int, ...],
    *,
    targets: tuple[tuple[tuple[int, ...], float], ...] | None = None,
    between: bool = False,
) -> tuple[Tensor, float]:
    """Build taps of a mollifier of the distance; differentiable in `half_width` (one number per axis).

    Positions are measured in half-widths, which keeps the moment conditions well scaled; `targets` are the
    moments in these units, Σ (w Π half_width^α) t^β, by default α! [β = α] up to the degree of exactness.
    The centre is a pixel, or along every axis midway `between` two.
    """
    shape = [2 * n + (not between) for n in radii]
    t = _positions(half_width, spacing, shape)
    rho = (t**2).sum(-1)
    # η itself can be zero inside the support for order > 2; its profile can't.
    weight = kernel.profile_series(rho.clamp(max=1.0), 0)[0] * (rho < 1.0)
    weight = weight / weight.max()
    weight = torch.where(weight > _USABLE_WEIGHT, weight, torch.zeros_like(weight))
    cell = math.prod(spacing) / half_width.prod()
    raw = (-1.0 if sum(derivative) % 2 else 1.0) * _partial(kernel, derivative, t, rho) * cell
    if targets is None:
        targets = tuple(
            (b, float(math.prod(map(math.factorial, b)) * (b == derivative)))
            for b in _conditions(derivative, kernel.order)
        )
    fix = _symmetrise(_correction(raw, t, weight, targets), derivative, shape)
    scale = math.prod(w**a for w, a in zip(half_width, derivative, strict=True))
    taps = ((raw + fix) / scale).reshape(shape)
    size = float(fix.detach().norm() / (raw + fix).detach().norm())
    return taps, size


def _positions(half_width: Tensor, spacing: tuple[float, ...], shape: list[int]) -> Tensor:
    """Pixel positions from the middle of an array of `shape`, in half-widths, shape (pixels, axes)."""
    axes = [
        (torch.arange(n, dtype=torch.float64) - 0.5 * (n - 1)) * h
        for n, h in zip(shape, spacing, strict=True)
    ]
    grid = torch.meshgrid(*axes, indexing="ij")
    return torch.stack([g.reshape(-1) for g in grid], dim=-1) / half_width


def _partial(kernel: Kernel, derivative: tuple[int, ...], t: Tensor, rho: Tensor) -> Tensor:
    """∂^α F(t·t), by the chain rule Π_i Σ_j a_i! / (j! (a_i - 2j)!) (2 t_i)^(a_i - 2j) F^(|α| - Σ j)."""
    total = sum(derivative)
    series = kernel.series(rho, total, dimensions=len(derivative))
    result = torch.zeros_like(rho)
    for halves in itertools.product(*(range(a // 2 + 1) for a in derivative)):
        m = total - sum(halves)
        term = math.factorial(m) * series[m]
        for i, (a, j) in enumerate(zip(derivative, halves, strict=True)):
            factor = math.factorial(a) / (math.factorial(j) * math.factorial(a - 2 * j))
            term = term * (factor * (2.0 * t[:, i]) ** (a - 2 * j))
        result = result + term
    return result


def _symmetrise(values: Tensor, derivative: tuple[int, ...], shape: list[int]) -> Tensor:
    """Remove the rounding that breaks the parity (-1)^α_i along each axis."""
    grid = values.reshape(shape)
    for axis, a in enumerate(derivative):
        grid = 0.5 * (grid + (-1.0 if a % 2 else 1.0) * grid.flip(axis))
    return grid.reshape(-1)


def _conditions(derivative: tuple[int, ...], order: int) -> list[tuple[int, ...]]:
    """Exponents β with |β| <= |α| + order - 1 and the parity of α; the others hold by symmetry."""
    degree = sum(derivative) + order - 1
    ranges = [range(a % 2, degree + 1, 2) for a in derivative]
    return [b for b in itertools.product(*ranges) if sum(b) <= degree]


def _correction(
    raw: Tensor, t: Tensor, weight: Tensor, targets: tuple[tuple[tuple[int, ...], float], ...]
) -> Tensor:
    """Minimise Σ c² / weight subject to Σ (raw + c) t^β = target_β."""
    exponents = [b for b, _ in targets]
    goal = torch.tensor([v for _, v in targets], dtype=torch.float64)
    powers = torch.stack(
        [torch.stack([t[:, i] ** e for i, e in enumerate(b)]).prod(0) for b in exponents], -1
    )
    needed = f"{len(exponents)} moment conditions and too few pixels inside the support"
    if int(torch.count_nonzero(weight)) < len(exponents):
        raise _TooNarrowError("Too few pixels.", expected=needed + ".", do="widen.")
    column = powers.detach().abs().amax(0).clamp_min(1e-300)
    # The root of 0 has an infinite slope, which is NaN in second derivatives even where nothing comes of it.
    usable = weight > 0.0
    root = torch.where(
        usable, torch.where(usable, weight, torch.ones_like(weight)).sqrt(), torch.zeros_like(weight)
    )
    basis, triangle = torch.linalg.qr(root[:, None] * (powers / column))
    diagonal = triangle.detach().diagonal().abs()
    if not float(diagonal.min()) > 1e-9 * float(diagonal.max()):
        raise _TooNarrowError("Dependent moments.", expected=needed + ".", do="widen.")
    fix = torch.zeros_like(raw)
    for _ in range(3):  # the second and third pass remove the rounding of the first
        missing = (goal - powers.T @ (raw + fix)) / column
        step = torch.linalg.solve_triangular(triangle.T, missing[:, None], upper=False)
        fix = fix + root * (basis @ step)[:, 0]
    taps = (raw + fix).detach()
    scale = (column * taps.abs().sum()).clamp_min(1e-300)
    if float(((powers.detach().T @ taps - goal).abs() / scale).max()) > _MOMENT_TOLERANCE:
        raise _TooNarrowError("Moments not met.", expected=needed + ".", do="widen.")
    return fix


def check_derivative(derivative: tuple[int, ...]) -> None:
    """Raise `KernelError` unless the orders are whole, >= 0, of total at most 6, on 1 to 3 axes."""
    whole = all(isinstance(k, int) and k >= 0 for k in derivative)
    if not 1 <= len(derivative) <= MAX_DIMENSIONS or not whole or sum(derivative) > MAX_DERIVATIVE:
        raise KernelError(
            f"Derivative {derivative}.",
            expected=f"one order >= 0 per axis, one to three axes, total at most {MAX_DERIVATIVE}.",
            do="apply two derivatives one after the other for a higher total.",
        )


def per_axis(value: Any, dimensions: int, what: str) -> tuple[float, ...]:
    """Return one positive finite number per axis, or raise `KernelError`."""
    numbers = tuple(value) if isinstance(value, (tuple, list)) else (value,) * dimensions
    good = all(isinstance(v, (int, float, np.number)) and not isinstance(v, bool) for v in numbers)
    if len(numbers) != dimensions or not good or not all(math.isfinite(v) and v > 0.0 for v in numbers):
        raise KernelError(
            f"{what.capitalize()} {value!r} for {dimensions} axes.",
            expected=f"a positive number, or {dimensions} of them.",
            do="give lengths in the unit of the grid, one per axis.",
        )
    return tuple(float(v) for v in numbers)
