"""What the readers of optional formats share: the extra that holds them, and their errors."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from chromamol.errors import ChromamolError, ReadError
from chromamol.io.source import require_memory


def require_module(module: str, path: Path) -> Any:
    """Return a module of the extra `formats`.

    Raises
    ------
    ReadError : it is not installed; the message says how to.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ReadError(
            f"{path}: {path.suffix} files are read with {module}, which is not installed.",
            expected="the optional readers of the extra 'formats'.",
            do="pip install 'chromamol[formats]', or export the image as OME-TIFF.",
        ) from error


@contextmanager
def as_read_errors(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a reader raises over a broken file into one `ReadError`."""
    try:
        yield
    except ChromamolError:
        raise
    except Exception as error:
        # Readers of vendor formats raise anything over broken bytes, from struct.error to MemoryError.
        reason = (str(error).splitlines() or [""])[0][:160] or type(error).__name__
        raise ReadError(
            f"{path}: broken or truncated {kind} file ({reason}).",
            expected=f"a complete {kind} file.",
            do="copy the file again from its source, or export it as OME-TIFF.",
        ) from error


def read_by_plane(
    shape: tuple[int, ...],
    dtype: np.dtype,
    fixed: dict[int, int],
    plane: Callable[[tuple[int, ...]], np.ndarray],
    *,
    plane_axes: int,
    name: str,
) -> np.ndarray:
    """Assemble an image from the planes that are wanted, and from no other.

    Parameters
    ----------
    shape : of the stored image.
    fixed : axis number -> index to take.
    plane : takes the indices of the leading axes and returns the trailing `plane_axes` axes.

    Returns
    -------
    The stored image without the axes of `fixed`.
    """
    leading, trailing = shape[: len(shape) - plane_axes], shape[len(shape) - plane_axes :]
    ranges = [(fixed[axis],) if axis in fixed else range(n) for axis, n in enumerate(leading)]
    sizes = tuple(len(r) for r in ranges)
    require_memory(int(np.prod((*sizes, *trailing))) * dtype.itemsize, name=name)
    out = np.empty((*sizes, *trailing), dtype=dtype)
    for place, index in zip(np.ndindex(*sizes), product(*ranges), strict=True):
        out[place] = plane(index)
    kept = tuple(
        0 if axis in fixed and axis < len(leading) else fixed.get(axis, slice(None))
        for axis in range(len(shape))
    )
    return out[kept]
