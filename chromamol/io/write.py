"""Label images and rate maps, written so that the same arrays give the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tifffile
from jaxtyping import Int32
from scipy import ndimage

from chromamol.errors import AxesError, FieldError, ImageContentError, ReadError
from chromamol.io.atomic import atomic_write
from chromamol.io.inputs import safe_stem
from chromamol.io.ome import format_ome
from chromamol.io.reading import first_bytes
from chromamol.io.tiff import open_tiff, require_tiff

Int32Labels = Int32[np.ndarray, "..."]
"""0 = background, 1..n = nuclei, in the number type of the files that chromamol writes."""

LABEL_ENDINGS = ("", "_labels", "_label", "_masks", "_mask", "_cp_masks", ".stardist")


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
) -> None:
    """Write named channels of one shape as float32 OME-TIFF; NaN stays NaN.

    Parameters
    ----------
    path : ends in `.ome.tif`, by which other software knows OME-TIFF.
    channels : name -> (y, x) or (z, y, x); booleans become 0 and 1.
    pixel_size_um, z_step_um : into the OME metadata, in µm.

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
    description = format_ome(stack.shape, tuple(channels), pixel_size_um=pixel_size_um, z_step_um=z_step_um)
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


def read_labels(path: str | Path, *, shape: tuple[int, ...]) -> Int32Labels:
    """Read a label image made elsewhere (Cellpose, StarDist, Fiji, ours).

    Parameters
    ----------
    path : TIFF of integers, or of real numbers that are whole.
    shape : (y, x) or (z, y, x) of the image that the labels belong to.

    Returns
    -------
    int32 labels, numbers as in the file, 0 = background.

    Raises
    ------
    ReadError : not a TIFF, broken, or values that are no labels.
    AxesError : another shape than the image.
    ImageContentError : no label in it.
    """
    path = Path(path)
    require_tiff(path, first_bytes(path))
    with open_tiff(path) as source:
        stored = tuple(n for n in source.axes.shape if n > 1)
        if stored != tuple(n for n in shape if n > 1):
            raise AxesError(
                f"{path}: labels of shape {source.axes.shape}.",
                expected=f"{shape}, the shape of the image.",
                do="make the labels from the same image, without resizing or cropping.",
            )
        labels = source.read({}).reshape(shape)
    _require_labels(labels, path)
    return labels.astype(np.int32)


def _require_labels(labels: np.ndarray, path: Path) -> None:
    limit = np.iinfo(np.int32).max
    # NaN is unequal to itself and so not whole.
    whole = labels.dtype.kind in "ui" or bool(np.all(labels == np.floor(labels)))
    if not whole or labels.min() < 0 or labels.max() > limit:
        raise ReadError(
            f"{path}: values from {labels.min()} to {labels.max()} of type {labels.dtype}.",
            expected=f"whole numbers from 0 (background) to {limit}.",
            do="save the label image itself, not an overlay or a probability map.",
        )
    values = np.unique(labels[labels > 0])
    pieces = ndimage.label(labels > 0)[1] if values.size == 1 else 1
    if pieces > 1:
        raise ReadError(
            f"{path}: {pieces} separate pieces that all have the value {values[0]}: a mask, not labels.",
            expected="a number of its own for each nucleus.",
            do="label the pieces (Fiji: MorphoLibJ, Connected Components Labeling; Python: "
            "skimage.measure.label) after touching nuclei were split.",
        )
    if not values.size:
        raise ImageContentError(
            f"{path}: no label in it, every pixel is background.",
            expected="at least one nucleus.",
            do="segment again, or leave --labels out to use the built-in segmentation.",
        )


def find_labels(labels: str | Path, *, image: str | Path) -> Path:
    """Return the label file that belongs to `image`.

    Parameters
    ----------
    labels : a label file, or a folder that holds one of the image's stem: `img01.tif` finds `img01.tif`,
        `img01_labels.tif`, `img01_masks.tif`, `img01_cp_masks.tif` or `img01.stardist.tif` in it, and
        `img01/labels.tif` as chromamol writes them.

    Raises
    ------
    ReadError : nothing there, or several that fit.
    """
    labels, image = Path(labels), Path(image)
    if not labels.is_dir():
        return labels
    stem = image.name.removesuffix(image.suffix).removesuffix(".ome")
    candidates = [labels / f"{stem}{end}{kind}" for end in LABEL_ENDINGS for kind in (".tif", ".tiff")]
    candidates.append(labels / safe_stem(image.name) / "labels.tif")
    fitting = [path for path in candidates if path.is_file() and path.resolve() != image.resolve()]
    if len(fitting) != 1:
        raise ReadError(
            f"{labels}: {len(fitting)} label files for {image.name}"
            f"{': ' + ', '.join(path.name for path in fitting) if fitting else ''}.",
            expected=f"one file named {stem}_labels.tif or {stem}_cp_masks.tif.",
            do="give the label file itself, or a folder with one per image.",
        )
    return fitting[0]
