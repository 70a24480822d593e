"""What every file format gives: an open image whose axes are known before a pixel is read.

A format is one function, `open_X(path, *, scene)`, a context manager that lends an `ImageSource`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import psutil

from chromamol.errors import AxesError, ReadError
from chromamol.io.axes import StoredAxes
from chromamol.io.micrograph import matching_places
from chromamol.io.pixel_size import Calibration


@dataclass(frozen=True)
class ImageSource:
    """An open image file.

    Parameters
    ----------
    axes : as stated by the file.
    dtype : number type of the pixels.
    calibration : stated voxel size, not yet judged.
    saturation_level : stated by the file, None if it is not.
    note : which scene was taken and other remarks for the record.
    frame_interval_s : time between frames as the file states it, None if it does not.
    read : takes {axis number: index} and returns the pixels without those axes.
    flags : quality flags that hold for everything in the image (`nucleus.flags`).
    """

    axes: StoredAxes
    dtype: np.dtype
    calibration: Calibration
    saturation_level: float | None
    note: str
    read: Callable[[dict[int, int]], np.ndarray]
    frame_interval_s: float | None = None
    flags: tuple[str, ...] = ()


def choose_scene(labels: list[str], scene: int | str | None, *, name: str) -> int:
    """Return the index of the scene (series, position) that was asked for; a single one needs no asking.

    Parameters
    ----------
    labels : names of the scenes.
    scene : as for a channel (`find_channel`): an index from 0, a name, or an index written as text.
    name : of the file, for messages.

    Raises
    ------
    AxesError : several scenes and none named, one that is not there, or a text that is the index of one and the name of
        another.
    """
    if scene is None and len(labels) == 1:
        return 0
    matches = [] if scene is None else matching_places(labels, scene)
    if len(matches) != 1:
        listed = ", ".join(f"{i}: {label!r}" for i, label in enumerate(labels))
        asked = "none was chosen" if scene is None else f"{scene!r} was asked for"
        asked += f", which fits {len(matches)} of them" if matches else ""
        raise AxesError(
            f"{name}: {len(labels)} scene{'s' * (len(labels) != 1)}, {asked}.",
            expected=f"one of {listed}.",
            do="choose one by its index or its name: --scene; --set scene=INDEX takes a number for the index, whatever "
            "the names. Or save each as a file of its own.",
        )
    return matches[0]


def require_number_type(dtype: np.dtype, *, name: str, masks: bool = False) -> None:
    """Raise `ReadError` unless pixels are integers or real numbers, or with `masks` yes and no."""
    if dtype.kind not in ("buif" if masks else "uif"):
        raise ReadError(
            f"{name}: pixels of type {dtype}.",
            expected="integers or real numbers, one intensity per pixel.",
            do="export intensities (for complex data the magnitude, for a mask the image it was made from).",
        )


def require_memory(nbytes: int, *, name: str) -> None:
    """Raise `ReadError` if the pixels that are to be read do not fit into the free memory."""
    free = psutil.virtual_memory().available
    if nbytes > free:
        raise ReadError(
            f"{name}: {nbytes / 1e9:,.1f} GB of pixels, {free / 1e9:,.1f} GB of memory are free.",
            expected="an image that fits into memory.",
            do="crop the image, read fewer planes, or use a machine with more memory.",
        )
