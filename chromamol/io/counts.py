"""Camera counts to a TIFF that ImageJ and everything else opens, the same bytes each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from jaxtyping import UInt16

from chromamol.errors import FieldError
from chromamol.io.atomic import atomic_write

Counts = UInt16[np.ndarray, "..."]


def write_counts(
    path: str | Path,
    counts: Counts,
    *,
    axes: str,
    pixel_size_um: float,
    z_step_um: float | None = None,
    frame_interval_s: float | None = None,
) -> None:
    """Write uint16 counts as an ImageJ TIFF with its pixel size in µm.

    Parameters
    ----------
    counts : pixels, in the order that `axes` names.
    axes : letters out of T, Z, C, Y, X, in this order and ending in YX.
    z_step_um, frame_interval_s : distance of planes and of frames, when there are several.

    Raises
    ------
    FieldError : axes that do not fit the array.
    OutputError : the file cannot be written.
    """
    if len(axes) != counts.ndim or not axes.endswith("YX") or "TZCYX".find(axes[0]) < 0:
        raise FieldError(f"Axes {axes!r} for an array of shape {counts.shape}.",
                         expected="one letter per axis, in the order TZCYX.", do="name the axes.")  # fmt: skip
    metadata: dict[str, object] = {"axes": axes, "unit": "um"}
    if z_step_um is not None:
        metadata["spacing"] = z_step_um
    if frame_interval_s is not None:
        metadata["finterval"] = frame_interval_s
    with atomic_write(path) as temporary:
        tifffile.imwrite(
            temporary,
            counts,
            imagej=True,
            byteorder="<",
            resolution=(1.0 / pixel_size_um, 1.0 / pixel_size_um),
            metadata=metadata,
        )
