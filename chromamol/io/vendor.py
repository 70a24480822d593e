"""Files of microscope makers: Nikon ND2, Leica LIF and Zeiss CZI, through the optional extra `formats`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from chromamol.errors import ReadError
from chromamol.io.axes import StoredAxes
from chromamol.io.extra import as_read_errors, read_by_plane, require_module
from chromamol.io.pixel_size import Calibration
from chromamol.io.source import ImageSource, choose_scene, require_memory, require_number_type

_CZI_AXES = {"0": "S"}
"""czifile calls samples "0"; its "S" is the scene."""


@contextmanager
def open_nd2(path: Path, *, scene: int | str | None = None) -> Iterator[ImageSource]:
    """Open one position of an ND2 file; raises `ReadError` and `AxesError` as `open_tiff`."""
    nd2 = require_module("nd2", path)
    with ExitStack() as stack:
        with as_read_errors(path, "ND2"):
            source = nd2_source(stack.enter_context(nd2.ND2File(path)), path, scene)
        yield source


def nd2_source(file: Any, path: Path, scene: int | str | None) -> ImageSource:
    """Describe one position (axis P) of an open `nd2.ND2File`; frames are read one by one."""
    sizes = dict(file.sizes)
    positions = sizes.pop("P", 1)
    index = choose_scene([f"position {i}" for i in range(positions)], scene, name=str(path))
    letters = "".join(sizes)
    inner = [a for a in letters if a in "CYXS"]
    loops = [a for a in letters if a not in "CYXS"]
    require_number_type(np.dtype(file.dtype), name=str(path))
    order = {
        (frame.get("P", 0), *(frame.get(a, 0) for a in loops)): i for i, frame in enumerate(file.loop_indices)
    }
    channels = list(getattr(file.metadata, "channels", None) or [])
    shape = tuple(sizes[a] for a in (*loops, *inner))

    def plane(which: tuple[int, ...]) -> np.ndarray:
        frame = np.asarray(file.read_frame(order[(index, *which)] if order else 0))
        return frame.reshape(shape[len(loops) :])

    def read(fixed: dict[int, int]) -> np.ndarray:
        with as_read_errors(path, "ND2"):
            return read_by_plane(
                shape, np.dtype(file.dtype), fixed, plane, plane_axes=len(inner), name=str(path)
            )

    return ImageSource(
        axes=StoredAxes("".join((*loops, *inner)), shape, tuple(str(c.channel.name) for c in channels)),
        dtype=np.dtype(file.dtype),
        calibration=_nd2_calibration(channels),
        saturation_level=None,
        note=f"scene {index} of {positions} (position {index})" if positions > 1 else "",
        read=read,
    )


def _nd2_calibration(channels: list[Any]) -> Calibration:
    """Axes that were never calibrated read as 1 µm: they state nothing."""
    if not channels:
        return Calibration("ND2 metadata")
    volume = channels[0].volume
    sides = [float(side) if known and side > 0 else None
             for side, known in zip(volume.axesCalibration, volume.axesCalibrated, strict=True)]  # fmt: skip
    remark = "" if sides[0] is not None else "ND2 metadata says that the pixels were not calibrated"
    x, y, z = sides
    return Calibration("ND2 metadata", x, y, z, remark)


@contextmanager
def open_lif(path: Path, *, scene: int | str | None = None) -> Iterator[ImageSource]:
    """Open one series of a LIF file; raises `ReadError` and `AxesError` as `open_tiff`."""
    liffile = require_module("liffile", path)
    with ExitStack() as stack:
        with as_read_errors(path, "LIF"):
            source = lif_source(stack.enter_context(liffile.LifFile(path)), path, scene)
        yield source


def lif_source(file: Any, path: Path, scene: int | str | None) -> ImageSource:
    """Describe one series of an open `liffile.LifFile`; frames are read one by one."""
    series = list(file.images)
    if not series:
        raise ReadError(
            f"{path}: no image in it.", expected="a series of images.", do="export it as OME-TIFF."
        )
    index = choose_scene([str(image.name) for image in series], scene, name=str(path))
    image = series[index]
    shape, letters = tuple(int(n) for n in image.shape), "".join(image.dims)
    require_number_type(np.dtype(image.dtype), name=str(path))
    block = image.memory_block
    if image.nbytes > block.size:
        raise ReadError(f"{path}: {image.nbytes:,} bytes of pixels promised, {block.size:,} are there.",
                        expected="a complete LIF file.", do="copy the file again from its source.")  # fmt: skip
    inner = 3 if letters.endswith("S") else 2

    def plane(which: tuple[int, ...]) -> np.ndarray:
        return np.asarray(image.frame(**dict(zip(letters, which, strict=False))))

    def read(fixed: dict[int, int]) -> np.ndarray:
        with as_read_errors(path, "LIF"):
            return read_by_plane(shape, np.dtype(image.dtype), fixed, plane, plane_axes=inner, name=str(path))

    sides = {axis: _step_um(image.coords.get(axis)) for axis in "XYZ"}
    return ImageSource(
        axes=StoredAxes(letters, shape),
        dtype=np.dtype(image.dtype),
        calibration=Calibration("LIF metadata, in m", sides["X"], sides["Y"], sides["Z"]),
        saturation_level=None,
        note=f"scene {index} of {len(series)} ({image.name})" if len(series) > 1 else "",
        read=read,
    )


def _step_um(coordinates: Any) -> float | None:
    """Distance of neighbours; liffile gives metres, and stacks taken downwards run backwards."""
    if coordinates is None or len(coordinates) < 2:
        return None
    return abs(float(coordinates[-1] - coordinates[0])) / (len(coordinates) - 1) * 1e6 or None


@contextmanager
def open_czi(path: Path, *, scene: int | str | None = None) -> Iterator[ImageSource]:
    """Open one scene of a CZI file; raises `ReadError` and `AxesError` as `open_tiff`."""
    czifile = require_module("czifile", path)
    with ExitStack() as stack:
        with as_read_errors(path, "CZI"):
            source = czi_source(stack.enter_context(czifile.CziFile(path, multifile=False)), path, scene)
        yield source


def czi_source(file: Any, path: Path, scene: int | str | None) -> ImageSource:
    """Describe one scene (axis S) of an open `czifile.CziFile`; only its blocks that are wanted are read."""
    letters, shape = str(file.axes), tuple(int(n) for n in file.shape)
    start = tuple(int(n) for n in file.start)
    scenes = shape[letters.index("S")] if "S" in letters else 1
    index = choose_scene([f"scene {i}" for i in range(scenes)], scene, name=str(path))
    kept = [axis for axis, letter in enumerate(letters) if letter != "S"]
    own = tuple(shape[axis] for axis in kept)
    require_number_type(np.dtype(file.dtype), name=str(path))
    names, calibration = _czi_metadata(file.metadata())

    def read(fixed: dict[int, int]) -> np.ndarray:
        wanted = {kept[axis]: value for axis, value in fixed.items()}
        if "S" in letters:
            wanted[letters.index("S")] = index
        with as_read_errors(path, "CZI"):
            return _czi_blocks(file, shape, start, wanted)

    return ImageSource(
        axes=StoredAxes("".join(_CZI_AXES.get(letters[axis], letters[axis]) for axis in kept), own, names),
        dtype=np.dtype(file.dtype),
        calibration=calibration,
        saturation_level=None,
        note=f"scene {index} of {scenes}" if scenes > 1 else "",
        read=read,
    )


def _czi_blocks(
    file: Any, shape: tuple[int, ...], start: tuple[int, ...], wanted: dict[int, int]
) -> np.ndarray:
    """Fill an array from the blocks (planes or tiles) that meet the wanted indices."""
    selection = [
        range(wanted[axis], wanted[axis] + 1) if axis in wanted else range(n) for axis, n in enumerate(shape)
    ]
    sizes = tuple(len(r) for r in selection)
    require_memory(math.prod(sizes) * np.dtype(file.dtype).itemsize, name="CZI file")
    out = np.zeros(sizes, dtype=file.dtype)
    filled = False
    for entry in file.filtered_subblock_directory:
        begin = [int(b) - s for b, s in zip(entry.start, start, strict=True)]
        ends = [b + int(n) for b, n in zip(begin, entry.shape, strict=True)]
        if any(e <= r.start or b >= r.stop for b, e, r in zip(begin, ends, selection, strict=True)):
            continue
        tile = np.asarray(entry.data_segment().data(resize=True, order=0))
        inside = tuple(slice(max(r.start - b, 0), r.stop - b) for b, r in zip(begin, selection, strict=True))
        part = tile[inside]
        place = tuple(slice(max(b - r.start, 0), max(b - r.start, 0) + n)
                      for b, r, n in zip(begin, selection, part.shape, strict=True))  # fmt: skip
        out[place] = part
        filled = True
    if not filled:
        raise ValueError("no block for the planes that were asked for")
    return out[tuple(0 if axis in wanted else slice(None) for axis in range(len(shape)))]


def _czi_metadata(xml: str) -> tuple[tuple[str, ...], Calibration]:
    """Channel names and voxel size; CZI states metres."""
    root = ElementTree.fromstring(xml)
    sides = {}
    for distance in root.iterfind(".//Scaling/Items/Distance"):
        value = distance.findtext("Value")
        if value:
            sides[distance.get("Id", "")] = float(value) * 1e6
    names = tuple(
        channel.get("Name", "")
        for channel in root.iterfind(".//Information/Image/Dimensions/Channels/Channel")
    )
    return names if all(names) else (), Calibration(
        "CZI metadata, in m", sides.get("X"), sides.get("Y"), sides.get("Z")
    )
