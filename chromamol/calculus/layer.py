"""`MollifierLayer` and its function twin: derivatives of noisy fields on a pixel grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chromamol.calculus.apply import LinearFilter, apply_filter
from chromamol.calculus.borders import check_border
from chromamol.calculus.fourier import fourier_filter
from chromamol.calculus.kernels import Kernel, get_kernel
from chromamol.calculus.separable import MultiIndex, separable_filter
from chromamol.calculus.taps import (
    build_taps,
    check_derivative,
    per_axis,
    radial_taps,
    smallest_half_width,
    support_radius,
    taps_1d,
)
from chromamol.errors import FieldError, KernelError
from chromamol.given import as_array
from chromamol.shapes import FloatField

METHODS = ("auto", "direct", "fourier")
FOURIER_FROM_PX = 161
"""Wider supports use Fourier: both took the same time there, forward and backward, at 512² and 1024²."""

Derivative = MultiIndex | Mapping[MultiIndex, float]
"""A derivative as its order along each axis, or a weighted sum of such derivatives."""


def laplacian(dimensions: int) -> dict[MultiIndex, float]:
    """Δ = Σ ∂²/∂x_i², for use among the `orders` of a layer."""
    return {tuple(2 * (i == axis) for i in range(dimensions)): 1.0 for axis in range(dimensions)}


def bilaplacian(dimensions: int) -> dict[MultiIndex, float]:
    """Δ² = Σ_ij ∂⁴/∂x_i²∂x_j², for use among the `orders` of a layer."""
    result: dict[MultiIndex, float] = {}
    for i in range(dimensions):
        for j in range(dimensions):
            alpha = tuple(2 * (i == axis) + 2 * (j == axis) for axis in range(dimensions))
            result[alpha] = result.get(alpha, 0.0) + 1.0
    return result


class MollifierLayer(nn.Module):
    """Derivatives of a field by convolution with the derivatives of a mollifier.

        (D^α u)(x) = ∫ u(x') ∂^α η(x - x') dx'        (..., y, x) -> (..., orders, y, x)

    All outputs are derivatives of one smoothed field. Polynomials up to degree |α| + order - 1 are
    differentiated exactly (to rounding) wherever the support lies inside the array.

    Parameters
    ----------
    orders : for each output the order along each axis, for instance (0, 0) for the smoothed field or (2, 0),
        or a weighted sum {(2, 0): 1.0, (0, 2): 1.0}; see `laplacian` and `bilaplacian`.
    spacing : distance between pixels, one number or one per axis.
    width : half-width of the kernel's support, one number or one per axis, in the unit of `spacing`.
    kernel : name in `chromamol.calculus.kernels.KERNELS`, or a `Kernel`.
    order : order of the kernel, in place of its own.
    border : what lies beyond the edge: "reflect", "periodic", "zero", or "valid" (the output shrinks).
    method : "direct" (banded products along each axis), "fourier", or "auto": direct up to the measured
        crossover of 161 pixels of support. Isotropic kernels always use Fourier. The numbers are the same.
    isotropic : a mollifier of the distance in place of the product of one per axis.
    learnable_width : make the half-widths parameters, bounded by the smallest that works and twice `width`
        (the arrays are as large as for twice the width).
    check_finite : look for NaN and infinity in the input. It reads the input once more and makes a CUDA
        device wait; switch it off inside a training loop.

    Raises
    ------
    KernelError : a support too narrow for the derivative, or lengths that are not positive.
    FieldError : in the call: not a real floating-point tensor, too few axes, NaN, or a support that is wider
        than the field, which is what a width in the wrong unit looks like; a learnable width on the meta device.

    References
    ----------
    Mollifier layers: arXiv:2505.11682. Differentiation by mollification: Murio, The Mollification Method and
    the Numerical Solution of Ill-Posed Problems (1993), doi:10.1002/9781118033210.
    """

    def __init__(
        self,
        *,
        orders: Sequence[Derivative],
        spacing: float | Sequence[float],
        width: float | Sequence[float],
        kernel: str | Kernel = "polynomial",
        order: int | None = None,
        border: str = "reflect",
        method: str = "auto",
        isotropic: bool = False,
        learnable_width: bool = False,
        check_finite: bool = True,
    ) -> None:
        super().__init__()
        check_border(border)
        self.orders = as_sums(orders)
        self.ndim = len(next(iter(self.orders[0])))
        self.spacing = per_axis(plain_lengths(spacing), self.ndim, "spacing")
        self.initial_width = per_axis(plain_lengths(width), self.ndim, "width")
        self.kernel = get_kernel(kernel, order=order)
        self.border = border
        self.isotropic = isotropic and self.ndim > 1
        self.check_finite = check_finite
        self.operator: LinearFilter = build_filter(
            self.orders,
            spacing=self.spacing,
            width=self.initial_width,
            kernel=self.kernel,
            border=border,
            method=method,
            isotropic=self.isotropic,
        )
        self.width_parameter = nn.Parameter(torch.zeros(self.ndim)) if learnable_width else None
        self._lowest = _smallest_widths(self) if learnable_width else self.initial_width
        if learnable_width and self.isotropic:
            raise KernelError(
                "An isotropic kernel of learnable width.",
                expected="a separable kernel.",
                do="leave out isotropic, or choose the width with `select_width`.",
            )

    @property
    def width(self) -> Tensor:
        """Half-width along each axis, float64; differentiable in `width_parameter` if that is there."""
        start = torch.tensor(self.initial_width, dtype=torch.float64)
        if self.width_parameter is None:
            return start
        if self.width_parameter.is_meta:
            raise FieldError("A learnable width on the meta device.", expected="a layer with values, on a CPU or GPU.",
                             do="use layer.to_empty(device='cpu') and load a state dict.")  # fmt: skip
        lowest = torch.tensor(self._lowest, dtype=torch.float64)
        # A sigmoid between the bounds, shifted so that a parameter of 0 is the initial width.
        share = (start - lowest).clamp_min(1e-3 * start) / (2.0 * start - lowest)
        offset = torch.log(share) - torch.log1p(-share)
        return lowest + (2.0 * start - lowest) * torch.sigmoid(offset + self.width_parameter.double().cpu())

    @property
    def radii(self) -> tuple[int, ...]:
        """Pixels that the support reaches on each side of the centre, per axis."""
        if self.width_parameter is None:
            return self.operator.radii
        return tuple(
            support_radius(2.0 * w, h) for w, h in zip(self.initial_width, self.spacing, strict=True)
        )

    def forward(self, field: Tensor) -> Tensor:
        """Return the derivatives, shape (..., orders, *grid), in the dtype and on the device of `field`."""
        check_tensor(field, self.ndim)
        if self.check_finite and not torch.compiler.is_compiling():
            check_values(field)
        if self.width_parameter is None:
            return apply_filter(self.operator, field)
        return separable_filter(self.orders, self._learnable_taps(), border=self.border).forward(field)

    def _learnable_taps(self) -> list[dict[int, Tensor]]:
        """Taps as functions of the width, on a grid that holds the widest."""
        widths = self.width
        result = []
        for axis, (radius, h) in enumerate(zip(self.radii, self.spacing, strict=True)):
            orders = {alpha[axis] for terms in self.orders for alpha in terms}
            width = widths[axis : axis + 1]
            result.append({k: radial_taps(self.kernel, (k,), width, (h,), (radius,))[0] for k in orders})
        return result

    def extra_repr(self) -> str:
        orders = [next(iter(s)) if len(s) == 1 else s for s in self.orders]
        lost = self.width_parameter is not None and self.width_parameter.is_meta
        width = "on the meta device" if lost else tuple(self.width.tolist())
        return (
            f"orders={orders}, spacing={self.spacing}, width={width}, "
            f"kernel={self.kernel}, border={self.border}"
        )


def mollified_derivative(
    field: Any,
    order: Derivative | int,
    *,
    spacing: float | Sequence[float],
    width: float | Sequence[float],
    kernel: str | Kernel = "polynomial",
    kernel_order: int | None = None,
    border: str = "reflect",
) -> Any:
    """Return one derivative of a field; numpy in, numpy out, and torch in, torch out.

    Parameters
    ----------
    field : real floating-point array (..., *grid) of one to three grid axes, the last ones. Masked samples are NaN,
        which is refused.
    order : order along each grid axis, for instance (4, 0); an int in one dimension; or a weighted sum.
    spacing, width, kernel, border : as in `MollifierLayer`; `kernel_order` is its `order`.

    Returns
    -------
    The derivative of the smoothed field, shape of `field` (smaller for border "valid"); unit that of `field`
    per length^|order|.

    Raises
    ------
    KernelError, FieldError : as `MollifierLayer`.
    """
    layer = MollifierLayer(
        orders=[(order,) if isinstance(order, int) else order],
        spacing=spacing,
        width=width,
        kernel=kernel,
        order=kernel_order,
        border=border,
    )
    if isinstance(field, Tensor):
        return layer(field).squeeze(-layer.ndim - 1)
    kind = np.asarray(field).dtype
    if kind not in (np.float32, np.float64):
        raise _not_floating(kind)
    array = as_array(field, "Field").astype(kind)
    with torch.no_grad():
        return layer(torch.from_numpy(np.ascontiguousarray(array))).squeeze(-layer.ndim - 1).numpy()


def check_tensor(field: Any, ndim: int) -> None:
    """Raise `FieldError` unless `field` is a float32 or float64 tensor of values, with at least `ndim` axes."""
    if not isinstance(field, Tensor):
        raise FieldError(f"Field of class {type(field).__name__}.", expected="a torch tensor.",
                         do="use torch.from_numpy(field), or mollified_derivative, which takes arrays.")  # fmt: skip
    if field.dtype not in (torch.float32, torch.float64):
        raise _not_floating(field.dtype)
    if field.is_meta:
        raise FieldError("Field on the meta device.", expected="a tensor with values, on a CPU or GPU.",
                         do="materialise it, for instance with torch.zeros_like(field, device='cpu').")  # fmt: skip
    if field.ndim < ndim:
        raise FieldError(
            f"Field of shape {tuple(field.shape)}.",
            expected=f"at least {ndim} axes, the grid last.",
            do="match the number of axes of `orders`.",
        )


def check_values(field: Tensor) -> None:
    """Raise `FieldError` if any value is NaN or infinite."""
    plain = field.detach()
    # Inside vmap and jvp a value can only be looked at in the tensor that they wrap.
    while torch._C._functorch.is_functorch_wrapped_tensor(plain):
        plain = torch._C._functorch.get_unwrapped(plain)
    if not bool(torch.isfinite(plain.sum())) and not bool(torch.isfinite(plain).all()):
        bad = int((~torch.isfinite(plain)).sum())
        raise FieldError(
            f"Field with {bad} NaN or infinite values.",
            expected="finite values: one NaN spoils every pixel within reach of the kernel.",
            do="use `differentiate` on a Field whose `valid` marks those pixels.",
        )


def _not_floating(dtype: object) -> FieldError:
    return FieldError(
        f"Field of type {dtype}.",
        expected="float32 or float64, real.",
        do="convert it, for instance with `.astype(float)`.",
    )


def plain_lengths(value: Any) -> Any:
    """Return lists, arrays and tensors as plain numbers or tuples of them; anything else for `per_axis` to refuse."""
    plain = value.tolist() if isinstance(value, (np.ndarray, np.number, Tensor)) else value
    return tuple(plain) if isinstance(plain, Sequence) else plain


def as_sums(orders: Any) -> list[dict[MultiIndex, float]]:
    """Every output as a weighted sum of derivatives, all with one number of axes."""
    _require_derivatives(orders)
    sums = [dict(o) if isinstance(o, Mapping) else {tuple(o): 1.0} for o in orders]
    axes = {len(alpha) for terms in sums for alpha in terms}
    if len(axes) != 1:
        raise KernelError(
            f"Orders {list(orders)}.",
            expected="at least one, all with one number of axes.",
            do="write for instance [(0, 0), (2, 0), (0, 2)] in two dimensions.",
        )
    for terms in sums:
        for alpha in terms:
            check_derivative(alpha)
    return sums


def _require_derivatives(orders: Any) -> None:
    """Raise `KernelError` unless every output is a tuple of orders, or finite weights of such tuples."""
    listed = isinstance(orders, Sequence) and not isinstance(orders, str)
    for output in orders if listed else [None]:
        terms = list(output.items()) if isinstance(output, Mapping) else [(output, 1.0)]
        kinds = isinstance(output, (Mapping, tuple, list)) and all(
            isinstance(a, (tuple, list)) for a, _ in terms
        )
        if not (terms and kinds and all(_is_number(weight) for _, weight in terms)):
            raise KernelError(
                f"Orders {orders!r}.",
                expected="a list with one order per axis for every output, or with finite weights of such orders.",
                do="write orders=[(2, 0)] for one derivative, [{(2, 0): 1.0, (0, 2): 1.0}] for a sum.",
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and bool(np.isfinite(value))


def _smallest_widths(layer: MollifierLayer) -> tuple[float, ...]:
    """The smallest half-width along each axis on which every derivative of the layer can be built."""
    used = [{alpha[axis] for terms in layer.orders for alpha in terms} for axis in range(layer.ndim)]
    return tuple(
        max(smallest_half_width(layer.kernel, (k,), spacing=(h,))[0] for k in ks)
        for ks, h in zip(used, layer.spacing, strict=True)
    )


def build_filter(
    outputs: Sequence[Mapping[MultiIndex, float]],
    *,
    spacing: tuple[float, ...],
    width: tuple[float, ...],
    kernel: Kernel,
    border: str,
    method: str = "auto",
    isotropic: bool = False,
) -> LinearFilter:
    """Build the linear filter of a layer; see `MollifierLayer` for the arguments.

    Raises
    ------
    KernelError : a method that is not "auto", "direct" or "fourier", direct for an isotropic kernel, or a
        support too narrow.
    """
    if method not in METHODS or (method == "direct" and isotropic):
        raise KernelError(
            f"Method {method!r} (isotropic: {isotropic}).",
            expected=f"one of {METHODS}, and not direct for an isotropic kernel.",
            do="use auto.",
        )
    used = sorted({alpha for terms in outputs for alpha in terms})
    if isotropic:
        options: dict[str, Any] = {"half_width": width, "spacing": spacing, "isotropic": True}
        whole = {alpha: (build_taps(kernel, alpha, **options).values,) for alpha in used}
        return fourier_filter(outputs, whole, border=border)
    taps: list[dict[int, FloatField]] = []
    for axis, (w, h) in enumerate(zip(width, spacing, strict=True)):
        taps.append({k: taps_1d(kernel, k, w, h) for k in sorted({alpha[axis] for alpha in used})})
    longest = max(t.size for axis in taps for t in axis.values())
    if method == "fourier" or (method == "auto" and longest > FOURIER_FROM_PX):
        products = {alpha: tuple(taps[axis][k] for axis, k in enumerate(alpha)) for alpha in used}
        return fourier_filter(outputs, products, border=border)
    tensors = [{k: torch.from_numpy(t.copy()) for k, t in axis.items()} for axis in taps]
    return separable_filter(outputs, tensors, border=border)
