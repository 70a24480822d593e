"""OME-Zarr (NGFF 0.4 and 0.5) through zarr, of the optional extra `formats`: chunks are read when they are needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from chromamol.errors import AxesError, ReadError
from chromamol.io.axes import StoredAxes
from chromamol.io.extra import as_read_errors, require_module
from chromamol.io.pixel_size import Calibration
from chromamol.io.source import ImageSource, choose_scene, require_memory, require_number_type
from chromamol.units import um_per_unit

_LETTERS = {"time": "T", "channel": "C"}
"""Of types that say what an axis is whatever its name, and of the names that stand for them."""


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store rather than a folder of images."""
    return path.is_dir() and any((path / name).is_file() for name in (".zgroup", ".zattrs", "zarr.json"))


@contextmanager
def open_zarr(path: Path, *, scene: int | str | None = None) -> Iterator[ImageSource]:
    """Open the finest level of one image of an OME-Zarr folder; raises `ReadError` and `AxesError` as `open_tiff`."""
    zarr = require_module("zarr", path)
    with as_read_errors(path, "OME-Zarr"):
        source = _source(zarr.open_group(path, mode="r"), path, scene)
    yield source


def _source(group: Any, path: Path, scene: int | str | None) -> ImageSource:
    images, labels = _images(group, path)
    index = choose_scene(labels, scene, name=str(path))
    node, attributes = images[index]
    multiscale = attributes["multiscales"][0]
    finest = multiscale["datasets"][0]
    array = node[finest["path"]]
    axes = _axes(multiscale, array.ndim)
    _require_stated(multiscale, finest, axes, array.ndim, path)
    require_number_type(np.dtype(array.dtype), name=str(path))
    notes = [f"scene {index} of {len(images)} ({labels[index]})"] if len(images) > 1 else []
    if (absent := int(array.nchunks) - int(array.nchunks_initialized)) > 0:
        notes.append(f"{absent} of {int(array.nchunks)} chunks are not stored: read as {array.fill_value}")

    def read(fixed: dict[int, int]) -> np.ndarray:
        wanted = math.prod(n for axis, n in enumerate(array.shape) if axis not in fixed)
        require_memory(wanted * np.dtype(array.dtype).itemsize, name=str(path))
        with as_read_errors(path, "OME-Zarr"):
            return np.asarray(array[tuple(fixed.get(axis, slice(None)) for axis in range(array.ndim))])

    return ImageSource(
        axes=StoredAxes("".join(map(_letter, axes)), tuple(int(n) for n in array.shape),
                        _channel_names(attributes)),
        dtype=np.dtype(array.dtype).newbyteorder("="), calibration=_calibration(multiscale, finest, axes),
        saturation_level=None, note="; ".join(notes), read=read,
    )  # fmt: skip


def _attributes(node: Any) -> Mapping[str, Any]:
    attributes = dict(node.attrs)
    # NGFF 0.5 keeps its metadata under "ome".
    return attributes.get("ome", attributes)


def _images(group: Any, path: Path) -> tuple[list[tuple[Any, Mapping[str, Any]]], list[str]]:
    attributes = _attributes(group)
    if "multiscales" in attributes:
        return [(group, attributes)], [path.name]
    if "plate" in attributes:
        wells = ", ".join(str(well.get("path")) for well in attributes["plate"].get("wells", [])[:8])
        raise ReadError(f"{path}: a plate with wells {wells}.", expected="one image.",
                        do=f"name the folder of an image in it, such as {path.name}/A/1/0.")  # fmt: skip
    # Bio-Formats numbers the images of a collection; "OME" holds their metadata.
    names = sorted((name for name in group.group_keys() if name.isdecimal()), key=int)
    images = [(group[name], found) for name in names if "multiscales" in (found := _attributes(group[name]))]
    if not images:
        raise ReadError(f"{path}: a Zarr folder without 'multiscales'.", expected="OME-Zarr (NGFF 0.4 or 0.5).",
                        do="name the folder of the image in it, or export it as OME-Zarr.")  # fmt: skip
    return images, [f"image {name}" for name in names]


def _axes(multiscale: Mapping[str, Any], ndim: int) -> list[Mapping[str, Any]]:
    # NGFF 0.2 and before state no axes: they are always tczyx. 0.3 has names only.
    stated = multiscale.get("axes") or list("tczyx"[-ndim:])
    return [dict(axis) if isinstance(axis, Mapping) else {"name": str(axis)} for axis in stated]


def _letter(axis: Mapping[str, Any]) -> str:
    """Return the letter of an axis by its type, else by its name; Q, "meaning not stated", for one of neither."""
    name, kind = str(axis.get("name", "")).lower(), str(axis.get("type", "")).lower()
    if kind in _LETTERS:
        return _LETTERS[kind]
    return _LETTERS.get(name, name.upper() if len(name) == 1 and name.isascii() and name.isalpha() else "Q")


def _require_stated(
    multiscale: Mapping[str, Any],
    finest: Mapping[str, Any],
    axes: list[Mapping[str, Any]],
    ndim: int,
    path: Path,
) -> None:
    """Raise `AxesError` where the metadata speak of another number of axes than the pixels have."""
    counts = [len(axes), *(len(transform["scale"]) for transform in _scales(multiscale, finest))]
    if set(counts) != {ndim}:
        names = ", ".join(str(axis.get("name", "?")) for axis in axes)
        raise AxesError(
            f"{path}: an array of {ndim} axes with metadata of {' and '.join(map(str, counts))} ({names}).",
            expected="a name and a scale for each axis of the array.",
            do="export the image as OME-Zarr again, or as OME-TIFF.",
        )


def _scales(multiscale: Mapping[str, Any], finest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what scales the whole, then the level."""
    transforms = (
        *multiscale.get("coordinateTransformations", ()),
        *finest.get("coordinateTransformations", ()),
    )
    return [transform for transform in transforms if transform.get("type") == "scale"]


def _channel_names(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    names = tuple(
        str(channel.get("label", "")) for channel in attributes.get("omero", {}).get("channels", ())
    )
    return names if all(names) else ()


def _calibration(
    multiscale: Mapping[str, Any], finest: Mapping[str, Any], axes: list[Mapping[str, Any]]
) -> Calibration:
    """The scale of the level times that of the whole, in the units of the axes."""
    scale = [1.0] * len(axes)
    scales = _scales(multiscale, finest)
    for transform in scales:
        scale = [a * float(b) for a, b in zip(scale, transform["scale"], strict=True)]
    sides: dict[str, float] = {}
    remarks = []
    for side, axis in zip(scale, axes, strict=True):
        name, unit = _letter(axis).lower(), axis.get("unit")
        if name not in "xyz" or not scales:
            continue
        per = um_per_unit(str(unit)) if unit else None
        if per is None:
            remarks.append(
                f"OME-Zarr says a scale of {side:g} along {name} with {f'unit {unit!r}' if unit else 'no unit'}"
            )
        else:
            sides[name] = side * per
    return Calibration(
        "OME-Zarr metadata", sides.get("x"), sides.get("y"), sides.get("z"), "; ".join(remarks)
    )
