"""Outlines and masks made elsewhere: label TIFF and PNG, Cellpose `_seg.npy`, ROIs drawn in ImageJ."""

from __future__ import annotations

import csv
import re
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import roifile
from scipy import ndimage
from skimage.draw import polygon2mask

from chromamol.errors import AxesError, ChromamolError, ImageContentError, ReadError
from chromamol.io.inputs import safe_stem
from chromamol.io.reading import checksum_of, first_bytes
from chromamol.io.source import require_memory
from chromamol.io.tiff import open_tiff, require_tiff
from chromamol.io.write import Int32Labels
from chromamol.shapes import Mask

LABEL_ENDINGS = ("", "_labels", "_label", "_masks", "_mask", "_cp_masks", ".stardist")

ROI_ENDINGS = ("_RoiSet.zip", "_rois.zip", ".zip", ".roi")
"""ImageJ's ROI manager saves `RoiSet.zip`; people put the image's stem before it."""

ENDINGS = (*(f"{end}{kind}" for end in LABEL_ENDINGS for kind in (".tif", ".tiff", ".png")), *ROI_ENDINGS)
"""What follows the stem of an image in the name of its label file."""

MAX_ROIS = 100_000

MAX_ROI_BYTES = 10_000_000

_AREAS = ("POLYGON", "RECT", "OVAL", "FREEHAND", "TRACED")
"""Kinds of ROI that enclose an area; lines, points and angles do not."""


def read_labels(path: str | Path, *, shape: tuple[int, ...], allow_pickle: bool = False) -> Int32Labels:
    """Read outlines made elsewhere (Cellpose, StarDist, Fiji, ours).

    Parameters
    ----------
    path : TIFF or PNG of integers, or of real numbers that are whole; `_seg.npy` of Cellpose; `.roi` or `.zip` of
        ImageJ, whose ROIs get the numbers 1, 2, ... in their order (where two meet, the later one lies above).
    shape : (y, x) or (z, y, x) of the image that the labels belong to.
    allow_pickle : `_seg.npy` is a pickle, which can run any code as it is read: only for files of your own.

    Returns
    -------
    int32 labels, numbers as in the file, 0 = background.

    Raises
    ------
    ReadError : no such file, broken, values that are no labels, or a pickle without `allow_pickle`.
    AxesError : another shape than the image.
    ImageContentError : no label in it.
    """
    labels = _decoded(Path(path), shape, allow_pickle=allow_pickle)
    _require_labels(labels, Path(path))
    return labels.astype(np.int32)


def read_mask(path: str | Path, *, shape: tuple[int, ...]) -> Mask:
    """Read which pixels are marked: those whose value is not 0, in any number of pieces, or none at all.

    Parameters and files as for `read_labels`; real numbers need not be whole.

    Raises
    ------
    ReadError : no such file, broken, or values that are NaN or infinite.
    AxesError : another shape than the image.
    """
    values = _decoded(Path(path), shape, allow_pickle=False)
    if not np.all(np.isfinite(values)):
        raise ReadError(f"{path}: values that are NaN or infinite.", expected="0, or another number, in each pixel.",
                        do="save the mask as an 8-bit image of 0 and 255.")  # fmt: skip
    return values != 0


def _decoded(path: Path, shape: tuple[int, ...], *, allow_pickle: bool) -> np.ndarray:
    """Return the values of a file of labels or of a mask, of `shape`; yes and no as 1 and 0."""
    head = first_bytes(path)
    if head.startswith((b"PK\x03\x04", b"Iout")):
        labels = _read_rois(path, shape)
    elif head.startswith(b"\x89PNG"):
        labels = _fitted(
            _guarded(path, "PNG", lambda: imagecodecs.png_decode(path.read_bytes())), path, shape
        )
    elif head.startswith(b"\x93NUMPY"):
        labels = _fitted(_read_cellpose(path, allow_pickle=allow_pickle), path, shape)
    else:
        require_tiff(path, head)
        with open_tiff(path, masks=True) as source:
            _require_shape(source.axes.shape, path, shape)
            labels = source.read({}).reshape(shape)
    return labels.astype(np.uint8) if labels.dtype == np.bool_ else labels


def _guarded(path: Path, kind: str, read: Any) -> Any:
    try:
        return read()
    except ChromamolError:
        raise
    except Exception as error:
        # Decoders and unpickling raise anything over broken bytes.
        raise ReadError(
            f"{path}: broken or truncated {kind} ({(str(error).splitlines() or [''])[0][:120]}).",
            expected=f"a complete {kind} file.",
            do="save the outlines again.",
        ) from error


def _require_shape(found: tuple[int, ...], path: Path, shape: tuple[int, ...]) -> None:
    if tuple(n for n in found if n > 1) != tuple(n for n in shape if n > 1):
        raise AxesError(
            f"{path}: labels of shape {found}.",
            expected=f"{shape}, the shape of the image.",
            do="make them from the same image, without resizing or cropping, with one value per pixel.",
        )


def _fitted(labels: Any, path: Path, shape: tuple[int, ...]) -> np.ndarray:
    labels = np.asarray(labels)
    _require_shape(labels.shape, path, shape)
    return labels.reshape(shape)


def _read_cellpose(path: Path, *, allow_pickle: bool) -> Any:
    if not allow_pickle:
        raise ReadError(
            f"{path}: Cellpose's _seg.npy is a pickle, which can run any code as it is read.",
            expected="labels as TIFF or PNG, or your word that the file is your own.",
            do="save masks as TIFF in Cellpose, or pass --set allow_pickle=true.",
        )

    def masks() -> Any:
        content = np.load(path, allow_pickle=True)
        return content.item()["masks"] if content.dtype == object else content

    return _guarded(path, "_seg.npy", masks)


def _read_rois(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Draw the ROIs of a file. On a stack each lies on the plane that its position names; one plane takes one."""
    require_memory(4 * int(np.prod(shape)), name=str(path))
    rois = _guarded(path, "ROI file", lambda: _load_rois(path))
    _require_one_place(rois, path, is_stack=len(shape) == 3)
    labels = np.zeros(shape, dtype=np.int32)
    for number, roi in enumerate(rois, start=1):
        kind = roi.roitype.name
        if kind not in _AREAS:
            raise ReadError(f"{path}: ROI {number} ({roi.name!r}) is a {kind.lower()}.",
                            expected="outlines of areas: polygon, freehand, traced, oval or rectangle.",
                            do="leave lines and points out of the ROI set.")  # fmt: skip
        plane = labels
        if len(shape) == 3:
            z = _plane_of(roi) - 1
            if not 0 <= z < shape[0]:
                raise AxesError(f"{path}: ROI {number} ({roi.name!r}) on plane {z + 1} of {shape[0]}.",
                                expected="ROIs with a position in the stack.",
                                do="set their positions in Fiji (Image > Stacks), or use a label image.")  # fmt: skip
            plane = labels[z]
        outlines = _guarded(path, "ROI file", lambda roi=roi, number=number: _outlines(roi, path, number))
        plane[_inside(outlines, plane.shape)] = number
    return labels


def _plane_of(roi: Any) -> int:
    """Return the plane that a ROI lies on, from 1; 0 where it lies on all."""
    return int(roi.z_position or roi.position)


def _require_one_place(rois: list[Any], path: Path, *, is_stack: bool) -> None:
    """Raise `AxesError` for ROIs of several times, or of several planes for an image of one: all would be drawn."""
    places = {"time points": {int(roi.t_position) for roi in rois} - {0}}
    if not is_stack:
        places["planes"] = {_plane_of(roi) for roi in rois} - {0}
    for what, found in places.items():
        if len(found) > 1:
            raise AxesError(f"{path}: ROIs on {what} {', '.join(map(str, sorted(found)))}, for an image of one.",
                            expected="ROIs of the plane and time that are analysed.",
                            do="save only those, or, if all belong to it, take their positions off "
                            "(ROI Manager, More, Remove Positions).")  # fmt: skip


def _load_rois(path: Path) -> list[Any]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = [e for e in archive.infolist() if e.filename.lower().endswith(".roi")]
            if not entries or len(entries) > MAX_ROIS or any(e.file_size > MAX_ROI_BYTES for e in entries):
                raise ReadError(
                    f"{path}: {len(entries)} ROIs, or ROIs of impossible size.",
                    expected=f"1 to {MAX_ROIS:,} ROIs of ImageJ.",
                    do="save the ROI set again.",
                )
            return [roifile.ImagejRoi.frombytes(archive.read(entry)) for entry in entries]
    if path.stat().st_size > MAX_ROI_BYTES:
        raise ReadError(
            f"{path}: a ROI of impossible size.", expected="a .roi of ImageJ.", do="save it again."
        )
    return [roifile.ImagejRoi.frombytes(path.read_bytes())]


def _outlines(roi: Any, path: Path, number: int) -> list[np.ndarray]:
    """Return the outlines (n, 2) as (y, x) in pixel indices; several where ROIs were combined or the area has holes.

    ImageJ counts from the corner of the first pixel.
    """
    if roi.roitype.name in ("OVAL", "RECT") and not roi.composite:
        middle = np.array([roi.top + roi.bottom, roi.left + roi.right]) / 2.0
        half = np.array([roi.bottom - roi.top, roi.right - roi.left]) / 2.0
        angle = np.linspace(0.0, 2.0 * np.pi, 361)
        unit = np.stack([np.sin(angle), np.cos(angle)], axis=1)
        if roi.roitype.name == "RECT":
            unit = np.array([(-1.0, -1.0), (-1.0, 1.0), (1.0, 1.0), (1.0, -1.0)])
        return [np.asarray(middle + half * unit - 0.5)]
    try:
        # ImageJ stores what it combined as a rectangle, the box around the paths that count.
        paths = roi.coordinates(multi=True)
    except NotImplementedError as error:
        raise ReadError(f"{path}: ROI {number} ({roi.name!r}) is combined of curves.",
                        expected="outlines of straight pieces.",
                        do="make the selection a mask and a ROI again, or save a label image.") from error  # fmt: skip
    return [np.asarray(corners, dtype=np.float64)[:, ::-1] - 0.5 for corners in paths]


def _inside(outlines: list[np.ndarray], shape: tuple[int, ...]) -> Mask:
    """Return the pixels within an odd number of outlines, as ImageJ fills a selection: holes are left out."""
    inside = np.zeros(shape, dtype=bool)
    for corners in outlines:
        inside ^= polygon2mask(shape, corners)
    return inside


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
            do="label the pieces (Fiji: MorphoLibJ, Connected Components Labeling; Python: skimage.measure.label; "
            "a combined ROI: ROI Manager, More, Split) after touching nuclei were split.",
        )
    if not values.size:
        raise ImageContentError(
            f"{path}: no label in it, every pixel is background.",
            expected="at least one nucleus.",
            do="segment again, or leave --labels out to use the built-in segmentation.",
        )


def find_labels(labels: str | Path, *, image: str | Path, stem: str | None = None) -> Path:
    """Return the label file that belongs to `image`.

    Parameters
    ----------
    labels : a label file, or a folder that holds one of the image's stem: `img01.tif` finds `img01.tif`,
        `img01_labels.tif`, `img01_masks.tif`, `img01_cp_masks.tif` (or `.png`), `img01.stardist.tif`,
        `img01_seg.npy`, `img01_RoiSet.zip`, `img01.zip` or `img01.roi` in it, and `img01/labels.tif` as chromamol
        writes them. The stem of `img01.ome.tif` is `img01` or, as Cellpose has it, `img01.ome`; upper and lower case
        are the same where nothing fits exactly. The pickle `_seg.npy` counts only where there is no other. In the
        folder `images` of one of our runs, that of the same file by its checksum, whatever its name.
    stem : name of the image in this run (`discover`). One that is not the file's own says that another input has the
        same name: then label files must be called by it, `control-img01_labels.tif` or `control-img01/labels.tif`.

    Raises
    ------
    ReadError : nothing there, several that fit, or those of other images only.
    """
    labels, image = Path(labels), Path(image)
    if not labels.is_dir():
        return labels
    folder = stem or safe_stem(image.name)
    # Cellpose takes the last ending off a name only: img.ome_cp_masks.tif.
    name = re.sub(r"\.ome$", "", image.stem, flags=re.IGNORECASE)
    stems = (name, image.stem) if folder == safe_stem(image.name) else (folder,)
    name = stems[0]
    fitting = _of_names([f"{each}{end}" for each in stems for end in ENDINGS], labels, image)
    of_run = _names_in_run(labels, image)
    folders = [folder] if of_run is None or folder in of_run else of_run[:1]
    fitting += [path for each in folders if (path := labels / each / "labels.tif").is_file()]
    fitting = fitting or _of_names([f"{each}_seg.npy" for each in stems], labels, image)
    if len(fitting) != 1:
        raise ReadError(
            f"{labels}: {len(fitting)} label files for {image.name}"
            f"{': ' + ', '.join(path.name for path in fitting) if fitting else ''}"
            f"{' (images.csv beside it has no file of the same content)' if of_run == [] else ''}.",
            expected=f"one file named {name}_labels.tif or {name}_cp_masks.tif.",
            do="give the label file itself, or a folder with one per image.",
        )
    return fitting[0]


def _of_names(names: list[str], folder: Path, image: Path) -> list[Path]:
    """Return the files of a folder with one of the names, else those where only upper and lower case differ."""

    def plain(name: str) -> str:
        return unicodedata.normalize("NFC", name).casefold()

    try:
        listed = sorted(folder.iterdir())
    except OSError as error:
        raise ReadError(f"{folder}: the folder cannot be listed ({error.strerror or error}).",
                        expected="a readable folder.", do="check its permissions.") from error  # fmt: skip
    alike = {plain(name) for name in names}
    fitting = [path for path in listed if plain(path.name) in alike and path.is_file()]
    fitting = [path for path in fitting if path.resolve() != image.resolve()]
    return [path for path in fitting if path.name in names] or fitting


def _names_in_run(labels: Path, image: Path) -> list[str] | None:
    """Return the names by which a run knew `image`, whose folder `images` is `labels`; None if it is not a run's.

    The checksum decides: paths may be those of another working directory. A folder (OME-Zarr) has none.
    """
    table = labels.resolve().parent / "images.csv"
    if labels.resolve().name != "images" or not table.is_file():
        return None
    try:
        with table.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        checksum = checksum_of(image)
    except (OSError, ValueError, csv.Error) as error:
        raise ReadError(f"{table}: cannot be read ({error}).", expected="the table of the run with these outlines.",
                        do="give the label file itself, or put it into another folder.") from error  # fmt: skip
    if not rows or not {"image", "path", "sha256", "status"} <= rows[0].keys():
        return None
    return [
        row["image"]
        for row in rows
        if row["status"] == "done"
        and (row["sha256"] == checksum if checksum else Path(row["path"]).resolve() == image.resolve())
    ]
