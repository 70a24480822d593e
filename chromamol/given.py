"""What a caller hands over, numpy or torch or lists, as plain numpy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from chromamol.errors import FieldError
from chromamol.shapes import FloatField, Mask


def as_array(values: Any, name: str) -> FloatField:
    """Return numpy float64; booleans become 0 and 1, and masked samples of floats NaN.

    Raises
    ------
    FieldError : values that are not real numbers, or masked samples among whole numbers or booleans.
    """
    array = _unmasked(values, name)
    if array.dtype.kind not in "fiub":
        raise FieldError(f"{name} of dtype {array.dtype}.", expected="real numbers.",
                         do="convert the array to float.")  # fmt: skip
    return array.astype(np.float64)


def _unmasked(values: Any, name: str) -> np.ndarray:
    """Return a numpy array; `np.asarray` would hand out what lies under the mask of a masked array as data."""
    if not isinstance(values, np.ma.MaskedArray):
        return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    hidden = np.count_nonzero(np.ma.getmaskarray(values))
    if hidden and values.dtype.kind in "iub":
        raise FieldError(f"{name} with {hidden} masked samples of dtype {values.dtype}.",
                         expected="a masked array of floats, in which they become NaN, or an array without mask.",
                         do="use values.astype(float), or values.filled(...).")  # fmt: skip
    return np.asarray(values.filled(np.nan) if hidden else values)


def as_mask(values: Any, name: str = "mask") -> Mask:
    """Return booleans, True where `values` is not 0; whole numbers of several sizes are labels, and refused.

    Integers would not fail where a mask is meant: `values[mask]` picks rows, and `~mask` is 254 or 255. NaN
    would be True.
    """
    array = as_array(values, name)
    inside = array[array > 0.0]
    if not _is_fractional(values) and inside.size and inside.min() != inside.max():
        raise FieldError(
            f"{name} of whole numbers from {inside.min():.0f} to {inside.max():.0f}: labels, or an image.",
            expected="booleans, or one whole number inside and 0 outside.",
            do=f"pass {name}=labels == 1 for one nucleus, or {name}=labels > 0 for all of them as one.",
        )
    if not np.isfinite(array).all():
        raise FieldError(f"{name} with NaN or infinite values.", expected="0 outside, another finite number inside.",
                         do="pass booleans, such as labels == 1.")  # fmt: skip
    return array.astype(bool)


def _is_fractional(values: Any) -> bool:
    """Whether the numbers of an array, a tensor or lists are of a floating-point type."""
    dtype = getattr(values, "dtype", None)
    if dtype is None:
        dtype = np.asarray(values).dtype
    return bool(getattr(dtype, "is_floating_point", False) or getattr(dtype, "kind", "") == "f")
