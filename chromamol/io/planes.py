"""One plane of a stack, where a stack is to be analysed in 2D. Planes are read one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from chromamol.errors import AxesError, ParameterError

CHOICES = ("middle", "sharpest", "max")
"""Besides an index: the plane in the middle, the one with most fine structure, and the maximum along z."""

LIGHT_OFF_CENTRE = 0.9
"""A plane with less than this share of another one's light is not near the widest section of its nuclei. In a confocal
stack of one nucleus the ratio came out 10 and 33 % high on the two planes above it, and 60 to 200 % on the others."""

DARK_PERCENTILE = 5.0
"""What counts as the level without light."""

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
    Of a single plane its neighbours are looked at, whether the nuclei are brighter there.

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
        return _single(read, which, count, f"z plane {which} of {count}")
    if which == "middle":
        return _single(read, count // 2, count, f"z plane {count // 2} of {count}, the middle one")
    if which == "max":
        data = np.array(read(0))
        for index in range(1, count):
            np.maximum(data, read(index), out=data)
        note = f"maximum of {count} z planes: intensities are no densities any more"
        return ChosenPlane(data, note, flags=("projected_maximum",))
    best = sharpest_plane(read, count)
    return _single(read, best, count, f"z plane {best} of {count}, the sharpest")


def _single(read: Callable[[int], np.ndarray], index: int, count: int, note: str) -> ChosenPlane:
    data = read(index)
    if not _is_off_centre(read, index, count, _light(data)):
        return ChosenPlane(data, note)
    return ChosenPlane(data, f"{note}; others have more light", flags=("off_centre_plane",))


def _is_off_centre(read: Callable[[int], np.ndarray], index: int, count: int, light: np.ndarray) -> bool:
    """Whether a plane has more light (`LIGHT_OFF_CENTRE`), up or down for as long as it becomes brighter."""
    for way in (range(index + 1, count), range(index - 1, -1, -1)):
        brightest = 1.0
        for other in way:
            relative = float(np.mean(_light(read(other)) / np.maximum(light, 1e-300)))
            if relative * LIGHT_OFF_CENTRE > 1.0:
                return True
            if relative <= brightest:
                break
            brightest = relative
    return False


def _light(plane: np.ndarray) -> np.ndarray:
    """Mean of each channel above its dark level; haze and camera offset are not in it."""
    each = plane.reshape(len(plane), -1).astype(np.float64)
    return np.asarray(each.mean(axis=1) - np.percentile(each, DARK_PERCENTILE, axis=1))


def sharpest_plane(read: Callable[[int], np.ndarray], count: int) -> int:
    """Return the number of the plane with most fine structure, as `choose_plane` says."""
    scores = np.stack([_fine_structure(read(index)) for index in range(count)])
    return int(np.argmax(np.sum(scores / np.maximum(scores.max(axis=0), 1e-300), axis=1)))


def _fine_structure(plane: np.ndarray) -> np.ndarray:
    return np.array([np.var(ndimage.gaussian_laplace(each.astype(np.float64), FINE_PX)) for each in plane])
