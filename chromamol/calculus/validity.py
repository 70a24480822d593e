"""Where a derivative can be trusted: derivatives of a `Field`, whose `valid` shrinks by the support."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from chromamol.calculus.kernels import Kernel
from chromamol.calculus.layer import Derivative, mollified_derivative, plain_lengths
from chromamol.calculus.local_fit import fit_derivative
from chromamol.calculus.taps import per_axis, support_radius
from chromamol.errors import FieldError
from chromamol.field import Field
from chromamol.given import as_array
from chromamol.shapes import Mask


def valid_after(
    mask: np.ndarray,
    half_widths_px: float | Sequence[float],
    *,
    isotropic: bool = False,
    periodic: bool = False,
) -> Mask:
    """Return the pixels whose whole support lies inside the mask.

    Parameters
    ----------
    mask : (x,), (y, x) or (z, y, x).
    half_widths_px : half-width of the kernel in pixels, one number or one per axis. The outermost taps lie
        strictly inside it, so a half-width of 5 reaches 4 pixels.
    isotropic : the support is an ellipsoid, not a box.
    periodic : the array continues on its opposite side; otherwise everything beyond its edge is outside.

    Raises
    ------
    FieldError : a mask that is not boolean, or has masked samples.
    """
    if mask.dtype != np.bool_:
        raise FieldError(f"Mask of type {mask.dtype}.", expected="bool.", do="use `labels == n`.")
    mask = as_array(mask, "mask").astype(bool)
    widths = per_axis(plain_lengths(half_widths_px), mask.ndim, "half-width in pixels")
    radii = [support_radius(w, 1.0) for w in widths]
    padded = np.pad(mask, [(r + 1, r + 1) for r in radii], mode="wrap" if periodic else "constant")
    if isotropic and mask.ndim > 1:
        # A pixel at scaled distance below 1 is inside the support.
        distance = ndimage.distance_transform_edt(padded, sampling=[1.0 / w for w in widths])
        result = distance >= 1.0 - 1e-12
    else:
        result = ndimage.minimum_filter(padded, size=[2 * r + 1 for r in radii], mode="constant")
    return result[tuple(slice(r + 1, -r - 1) for r in radii)]


def differentiate(
    field: Field,
    order: Derivative | int,
    *,
    width: float | Sequence[float],
    kernel: str | Kernel = "polynomial",
    kernel_order: int | None = None,
    border: str = "reflect",
    mode: str = "exclude",
) -> Field:
    """Return a derivative of a field, valid only where it can be trusted.

    Parameters
    ----------
    field : float values on their grid.
    order : as in `mollified_derivative`; all terms of a sum must have one total order.
    width : half-width of the kernel in µm, one number or one per axis.
    border : "reflect", "zero" (the pixels near the edge are marked invalid), or "periodic" (they are valid).
    mode : "exclude": valid where the whole support lies inside `field.valid`. "fit": local polynomial fits to
        the valid pixels, one-sided near the border of the mask, where they are noisier; see `fit_derivative`,
        which also returns the noise. The border and the kernel's order play no part in it.

    Raises
    ------
    FieldError : border "valid" (the result must keep the grid), or as `mollified_derivative`.
    KernelError : as `mollified_derivative`.
    """
    unit = derivative_unit(field.unit, _total_order(order))
    if mode not in ("exclude", "fit"):
        raise FieldError(
            f"Mode {mode!r}.", expected="exclude or fit.", do="use exclude unless borders matter."
        )
    if mode == "fit":
        fit = fit_derivative(
            field.values, order, mask=field.mask, spacing=field.grid.spacing_um, width=width, kernel=kernel
        )
        return field.like(np.where(fit.valid, fit.values, 0.0), unit=unit, valid=fit.valid)
    if border == "valid":
        raise FieldError(
            "Border 'valid' for a Field.",
            expected="reflect, zero or periodic.",
            do="use reflect: pixels near the edge are marked invalid anyway.",
        )
    # Any finite number will do where the field is invalid; the mean keeps rounding errors low.
    inside = field.values[field.mask]
    filler = float(inside.mean()) if inside.size else 0.0
    values = mollified_derivative(
        np.where(field.mask, field.values, filler).astype(field.values.dtype),
        order,
        spacing=field.grid.spacing_um,
        width=width,
        kernel=kernel,
        kernel_order=kernel_order,
        border=border,
    )
    widths = per_axis(plain_lengths(width), field.grid.ndim, "width")
    pixels = [w / h for w, h in zip(widths, field.grid.spacing_um, strict=True)]
    valid = valid_after(field.mask, pixels, periodic=border == "periodic")
    return field.like(values, unit=unit, valid=valid)


def derivative_unit(unit: str, total_order: int) -> str:
    """Return the unit of a derivative by lengths in µm.

    >>> derivative_unit("1", 2), derivative_unit("um^-2", 2), derivative_unit("1", 0)
    ('um^-2', 'um^-4', '1')
    """
    if total_order == 0:
        return unit
    found = re.search(r"um\^(-?\d+)$", unit)
    power = int(found.group(1)) - total_order if found else -total_order
    stem = unit[: found.start()].strip() if found else ("" if unit == "1" else unit)
    return f"{stem} um^{power}".strip() if power else stem or "1"


def _total_order(order: Derivative | int) -> int:
    if isinstance(order, int):
        return order
    totals = {sum(order)} if isinstance(order, tuple) else {sum(alpha) for alpha in order}
    if len(totals) != 1:
        raise FieldError(
            f"A sum of derivatives of orders {sorted(totals)}.",
            expected="one total order, or the sum has no unit.",
            do="differentiate the terms one by one.",
        )
    return totals.pop()
