"""One plane of a stack, where a stack is to be analysed in 2D. Planes are read one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from chromamol.errors import AxesError, ParameterError

CHOICES = ("middle", "sharpest", "max")
"""Besides an index: the plane in the middle, the one with most fine structure, and the maximum along z."""

FINE_PX = 1.5
"""Scale of the fine structure that focus is judged by: below it is noise, which every plane has."""


@dataclass(frozen=True, eq=False)
class ChosenPlane:
    """What became of the stack: (channel, y, x), a sentence for the record, and quality flags of its nuclei."""

    data: np.ndarray
    note: str
    flags: tuple[str, ...] = ()


def require_choice(which: int | str) -> int | str:
    """Return an index as a number and a choice as it is; raises `ParameterError` for anything else."""
    if isinstance(which, str) and which.isdecimal():
        return int(which)
    if which in CHOICES or (isinstance(which, int) and not isinstance(which, bool) and which >= 0):
        return which
    raise ParameterError(f"z_plane = {which!r}.", expected=f"an index from 0, or one of {', '.join(CHOICES)}.",
                         do="correct --z-plane.")  # fmt: skip


def choose_plane(
    read: Callable[[int], np.ndarray], count: int, which: int | str, *, name: str
) -> ChosenPlane:
    """Read what is asked for of a stack, holding no more than two planes at a time.

    "sharpest" is the plane with the largest variance of the Laplacian of a Gaussian (`FINE_PX`), each channel relative
    to its own best plane. A maximum along z takes the noise's maximum, too: intensities are no densities any more.

    Parameters
    ----------
    read : takes the number of a plane and returns (channel, y, x).
    count : planes of the stack.
    which : index, or one of `CHOICES`.

    Raises
    ------
    AxesError : an index beyond the stack.
    ParameterError : anything else.
    """
    which = require_choice(which)
    if isinstance(which, int):
        if which >= count:
            raise AxesError(f"{name}: {count} z planes, number {which} was asked for.",
                            expected=f"an index from 0 to {count - 1}.", do="correct --z-plane.")  # fmt: skip
        return ChosenPlane(read(which), f"z plane {which} of {count}")
    if which == "middle":
        return ChosenPlane(read(count // 2), f"z plane {count // 2} of {count}, the middle one")
    if which == "max":
        data = np.array(read(0))
        for index in range(1, count):
            np.maximum(data, read(index), out=data)
        note = f"maximum of {count} z planes: intensities are no densities any more"
        return ChosenPlane(data, note, flags=("projected_maximum",))
    best = sharpest_plane(read, count)
    return ChosenPlane(read(best), f"z plane {best} of {count}, the sharpest")


def sharpest_plane(read: Callable[[int], np.ndarray], count: int) -> int:
    """Return the number of the plane with most fine structure, as `choose_plane` says."""
    scores = np.stack([_fine_structure(read(index)) for index in range(count)])
    return int(np.argmax(np.sum(scores / np.maximum(scores.max(axis=0), 1e-300), axis=1)))


def _fine_structure(plane: np.ndarray) -> np.ndarray:
    return np.array([np.var(ndimage.gaussian_laplace(each.astype(np.float64), FINE_PX)) for each in plane])
