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
    """Return booleans, True where `values` is not 0.

    Integers would not fail where a mask is meant: `values[mask]` picks rows, and `~mask` is 254 or 255. NaN
    would be True.
    """
    array = as_array(values, name)
    if not np.isfinite(array).all():
        raise FieldError(f"{name} with NaN or infinite values.", expected="0 outside, another finite number inside.",
                         do="pass booleans, such as labels == 1.")  # fmt: skip
    return array.astype(bool)
