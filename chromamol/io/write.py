"""Label images and rate maps, written so that the same arrays give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tifffile
from jaxtyping import Int32

from chromamol.errors import FieldError
from chromamol.io.atomic import atomic_write
from chromamol.io.ome import format_ome

Int32Labels = Int32[np.ndarray, "..."]
"""0 = background, 1..n = nuclei, in the number type of the files that chromamol writes."""


def write_labels(path: str | Path, labels: Int32Labels) -> None:
    """Write labels (y, x) or (z, y, x), int32, 0 = background, as a compressed TIFF.

    Raises
    ------
    OutputError : the file cannot be written.
    """
    axes = "ZYX"[3 - labels.ndim :]
    with atomic_write(path) as temporary:
        tifffile.imwrite(
            temporary, labels, photometric="minisblack", compression="zlib", metadata={"axes": axes}
        )


def write_channels(
    path: str | Path,
    channels: Mapping[str, np.ndarray],
    *,
    pixel_size_um: float | None = None,
    z_step_um: float | None = None,
    origin_um: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Write named channels of one shape as float32 OME-TIFF; NaN stays NaN.

    Parameters
    ----------
    path : ends in `.ome.tif`, by which other software knows OME-TIFF.
    channels : name -> (y, x) or (z, y, x); booleans become 0 and 1.
    pixel_size_um, z_step_um : into the OME metadata, in µm.
    origin_um : (y, x) of the first pixel's centre, which the metadata have as the position of each plane.

    Raises
    ------
    FieldError : no channel, or shapes that differ.
    OutputError : the file cannot be written.
    """
    shapes = {array.shape for array in channels.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) not in (2, 3):
        raise FieldError(
            f"Channels of shapes {sorted(shapes)}.",
            expected="at least one channel, all (y, x) or all (z, y, x) of one shape.",
            do="write maps of different images to different files.",
        )
    data = np.stack([np.asarray(array, dtype="<f4") for array in channels.values()])
    stack = data if data.ndim == 4 else data[:, None]
    description = format_ome(stack.shape, tuple(channels), pixel_size_um=pixel_size_um, z_step_um=z_step_um,
                             origin_um=origin_um)  # fmt: skip
    with atomic_write(path) as temporary:
        tifffile.imwrite(
            temporary,
            stack,
            byteorder="<",
            photometric="minisblack",
            compression="zlib",
            description=description,
            metadata=None,
        )
