"""From the noise of the pixels to the noise of derivatives, and an estimate of their bias.

A derivative is a sum Σ_i w_i u_i, so independent pixel noise of variance v_i gives, exactly,

    Var(D_a) = Σ_i w_a,i² v_i          Cov(D_a, D_b) = Σ_i w_a,i w_b,i v_i

These sums are correlations too, with products of taps in place of taps. The bias falls as width^order, so the
change between two widths tells how much of it is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from chromamol.calculus.fourier import FourierFilter
from chromamol.calculus.kernels import Kernel, get_kernel
from chromamol.calculus.layer import Derivative, as_sums, mollified_derivative, plain_lengths
from chromamol.calculus.separable import MultiIndex
from chromamol.calculus.taps import build_taps, per_axis
from chromamol.errors import FieldError
from chromamol.given import as_array
from chromamol.shapes import FloatField


def derivative_covariance(
    variance: FloatField | float | Any,
    orders: Sequence[Derivative],
    *,
    spacing: float | Sequence[float],
    width: float | Sequence[float],
    kernel: str | Kernel = "polynomial",
    kernel_order: int | None = None,
    border: str = "reflect",
    isotropic: bool = False,
) -> FloatField:
    """Return the covariance matrix of derivatives, at every pixel or for uniform noise.

    Parameters
    ----------
    variance : variance of the independent noise of each pixel: an array (*grid), or one number.
    orders, spacing, width, kernel, border, isotropic : as in `MollifierLayer`; `kernel_order` is its `order`.

    Returns
    -------
    (orders, orders, *grid), or (orders, orders) for one number. Within the support's radius of the edge the
    extension counts as independent pixels, which mirrored ones are not; these pixels are not valid anyway.

    Raises
    ------
    FieldError : a negative or non-finite variance. KernelError : as `MollifierLayer`.
    """
    array = as_array(variance, "Variance")
    if not np.isfinite(array).all() or (array < 0).any():
        raise FieldError(
            "A negative or non-finite variance.",
            expected="numbers >= 0.",
            do="pass 0 where the pixel is masked.",
        )
    weights = whole_taps(
        orders,
        spacing=spacing,
        width=width,
        kernel=get_kernel(kernel, order=kernel_order),
        isotropic=isotropic,
    )
    count = len(weights)
    if array.ndim == 0:
        flat = np.stack([w.ravel() for w in weights])
        return float(array) * (flat @ flat.T)
    rows, columns = np.triu_indices(count)
    products = tuple(((weights[i] * weights[j],),) for i, j in zip(rows, columns, strict=True))
    operator = FourierFilter(products, tuple(n // 2 for n in weights[0].shape), border)
    upper = operator.forward(torch.from_numpy(np.ascontiguousarray(array))).numpy()
    result = np.empty((count, count, *upper.shape[1:]))
    result[rows, columns] = result[columns, rows] = upper
    diagonal = np.arange(count)
    # The transform's rounding must not turn a variance of 0 into a negative number.
    result[diagonal, diagonal] = np.maximum(result[diagonal, diagonal], 0.0)
    return result


def derivative_variance(
    variance: FloatField | float | Any,
    order: Derivative | int,
    *,
    spacing: float | Sequence[float],
    width: float | Sequence[float],
    kernel: str | Kernel = "polynomial",
    kernel_order: int | None = None,
    border: str = "reflect",
    isotropic: bool = False,
) -> FloatField | float:
    """Return the variance of one derivative at every pixel, or one number for uniform noise.

    Arguments as in `derivative_covariance`.
    """
    result = derivative_covariance(
        variance,
        [(order,) if isinstance(order, int) else order],
        spacing=spacing,
        width=width,
        kernel=kernel,
        kernel_order=kernel_order,
        border=border,
        isotropic=isotropic,
    )[0, 0]
    return float(result) if result.ndim == 0 else result


def estimate_bias(
    field: Any,
    order: Derivative | int,
    *,
    spacing: float | Sequence[float],
    width: float | Sequence[float],
    narrower: float = 0.7,
    kernel: str | Kernel = "polynomial",
    kernel_order: int | None = None,
    border: str = "reflect",
) -> Any:
    """Return an estimate of the smoothing bias of `mollified_derivative` at every pixel.

    With bias = c width^s for a kernel of order s, the derivatives at widths w and q w differ by
    c w^s (1 - q^s), which gives (D_w - D_qw) / (1 - q^s) as the bias at w. It is leading-order: too low where
    the field changes within the support. It carries the noise of the narrower derivative.

    Parameters
    ----------
    field, order, spacing, width, kernel, border : as in `mollified_derivative`, except border "valid".
    narrower : q, between 0 and 1.

    Raises
    ------
    FieldError : q out of range, or border "valid". KernelError : q w is too narrow for the derivative.
    """
    if not 0.0 < narrower < 1.0 or border == "valid":
        raise FieldError(
            f"narrower = {narrower} with border {border!r}.",
            expected="0 < narrower < 1, and a border that keeps the grid.",
            do="use 0.7 and reflect.",
        )
    chosen = get_kernel(kernel, order=kernel_order)
    lengths = plain_lengths(width)
    small = lengths * narrower if not isinstance(lengths, tuple) else tuple(narrower * w for w in lengths)
    wide, narrow = (
        mollified_derivative(field, order, spacing=spacing, width=w, kernel=chosen, border=border)
        for w in (lengths, small)
    )
    return (wide - narrow) / (1.0 - narrower**chosen.order)


def whole_taps(
    orders: Sequence[Derivative],
    *,
    spacing: float | Sequence[float],
    width: float | Sequence[float],
    kernel: Kernel,
    isotropic: bool = False,
) -> list[FloatField]:
    """Taps of every output with all axes, sums of derivatives summed; all of one shape."""
    sums: list[dict[MultiIndex, float]] = as_sums(orders)
    ndim = len(next(iter(sums[0])))
    options: Mapping[str, Any] = {
        "spacing": per_axis(plain_lengths(spacing), ndim, "spacing"),
        "half_width": per_axis(plain_lengths(width), ndim, "width"),
        "isotropic": isotropic,
    }
    return [
        np.sum([f * build_taps(kernel, alpha, **options).values for alpha, f in terms.items()], axis=0)
        for terms in sums
    ]
