"""`read_image`: a file on the disk becomes a `Micrograph`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from chromamol.errors import ReadError
from chromamol.io.axes import AxesPlan, plan_axes
from chromamol.io.micrograph import Micrograph, find_channel
from chromamol.io.ome_zarr import is_zarr, open_zarr
from chromamol.io.pixel_size import judge_pixel_size, judge_z_step
from chromamol.io.planes import ChosenPlane, choose_plane, sharpest_plane
from chromamol.io.source import ImageSource
from chromamol.io.tiff import MAGIC, PICTURES, name_kind, open_tiff, require_tiff
from chromamol.io.vendor import open_czi, open_lif, open_nd2
from chromamol.shapes import Mask

OPENERS: dict[str, Callable[..., AbstractContextManager[ImageSource]]] = {
    ".tif": open_tiff,
    ".tiff": open_tiff,
    ".lsm": open_tiff,
    ".btf": open_tiff,
    ".tf8": open_tiff,
    ".nd2": open_nd2,
    ".lif": open_lif,
    ".czi": open_czi,
    ".zarr": open_zarr,
}
"""File ending -> reader. A format is added here and nowhere else."""

OTHER_IMAGES = (
    ".png", ".jpg", ".jpeg", ".jp2", ".bmp", ".gif", ".webp", ".heic", ".psd", ".pdf", ".svg", ".eps",
    ".avi", ".mp4", ".mov", ".oib", ".oif", ".oir", ".vsi", ".ims", ".dv", ".zvi", ".lei", ".sld",
    ".mrc", ".dm3", ".dm4",
)  # fmt: skip
"""Endings of images that are not read: of pictures, films, and microscope software."""

CAMERA_LEVELS = (1023, 4095, 16383)
"""Largest values of 10, 12 and 14 bit cameras, whose images are stored in 16 bits."""


Channels = Sequence[int | str] | Mapping[str, int | str]
"""Wanted channels of a file, by index or name; in a mapping by what they are for."""

FEWEST_FRAMES = 3
"""Of a time-lapse: two frames give a difference, and nothing to tell it from noise."""


@dataclass(frozen=True, eq=False)
class TimeSeries:
    """The frames of a time-lapse.

    Parameters
    ----------
    frames : one micrograph per time.
    interval_s : time between them.
    note : how many, and who states the interval.
    """

    frames: tuple[Micrograph, ...]
    interval_s: float
    note: str

    def average(self) -> Micrograph:
        """Return the mean of the frames, in which nuclei are found."""
        first = self.frames[0]
        mean = np.asarray(np.mean([frame.data for frame in self.frames], axis=0, dtype=np.float32))
        note = "; ".join(part for part in (first.axes_note, self.note) if part)
        return replace(first, data=mean, axes_note=note, saturated=self._ever_saturated())

    def _ever_saturated(self) -> Mask | None:
        """Where any frame is saturated: the mean of the frames stays below the limit unless all are."""
        ever, known = np.zeros(self.frames[0].data.shape, dtype=bool), False
        for frame in self.frames:
            for place in range(len(ever)):
                here = frame.saturated_pixels(place)
                if here is not None:
                    ever[place] |= here
                    known = True
        return ever if known else None


def read_image(
    path: str | Path,
    *,
    pixel_size_um: float | None = None,
    z_step_um: float | None = None,
    time_index: int | None = None,
    scene: int | str | None = None,
    axes: str | None = None,
    channels: Channels | None = None,
    z_plane: int | str | None = None,
) -> Micrograph:
    """Read an image file: TIFF, OME-TIFF, ImageJ TIFF (hyperstacks too), LSM; with the extra `formats` OME-Zarr (a
    folder), ND2, LIF and CZI. Of these, only the planes of the scene and time point that are wanted are read.

    Nothing is guessed. A file without a believable pixel size is read, with `pixel_size_um` None and the
    reason in `calibration_note`; the analysis is what demands one.

    Parameters
    ----------
    path : the file.
    pixel_size_um, z_step_um : in µm; given, they go before what the file says.
    time_index : which time point of a series, from 0; a single time point needs none.
    scene : index or name of the scene (series, position) in a file with several.
    axes : meaning of the stored axes where the file does not state it, such as "ZYX"; letters T, Z, C,
        S (samples), Y, X.
    channels : read only these, by index or name; all when None. A mapping has what each is for ("chromatin",
        "heterochromatin", "euchromatin"), whose option is then named where it is not there.
    z_plane : of a stack only this plane is kept: its index, "middle", "sharpest" or "max"; read one by one.

    Returns
    -------
    Micrograph with data (channel, y, x) or (channel, z, y, x), number type as in the file.

    Raises
    ------
    ReadError : missing, empty, truncated, not an image, too large for the memory.
    AxesError : axes, time point or scene ambiguous.
    PixelSizeError : the size given by the user is absurd.
    """
    path = Path(path)
    opener = _opener(path)
    with opener(path, scene=scene) as source:
        if 0 in source.axes.shape:
            raise ReadError(f"{path}: an image of {' x '.join(map(str, source.axes.shape))} pixels.",
                            expected="at least one pixel along every axis.", do="export the image again.")  # fmt: skip
        pixel, pixel_note = judge_pixel_size(source.calibration, given_um=pixel_size_um)
        plan = plan_axes(source.axes, name=str(path), time_index=time_index, declared=axes)
        kept, chosen = _read(source, plan, channels, z_plane, path)
    data = kept.data
    step, step_note = judge_z_step(source.calibration, given_um=z_step_um)
    is_stack = data.ndim == 4
    return Micrograph(
        data=data,
        channel_names=tuple(plan.channel_names[i] for i in chosen),
        channel_numbers=None if channels is None else chosen,
        pixel_size_um=pixel,
        z_step_um=step if is_stack else None,
        calibration_note=f"{pixel_note}; {step_note}" if is_stack else pixel_note,
        path=path,
        axes_note="; ".join(note for note in (source.note, plan.note, kept.note) if note),
        saturation_level=saturation_level(data, stated=source.saturation_level),
        channel_saturation=tuple(saturation_level(one, stated=source.saturation_level) for one in data),
        flags=(*source.flags, *kept.flags),
    )


def read_time_series(
    path: str | Path,
    *,
    pixel_size_um: float | None = None,
    z_step_um: float | None = None,
    scene: int | str | None = None,
    axes: str | None = None,
    channels: Channels | None = None,
    z_plane: int | str | None = None,
    frame_interval_s: float | None = None,
) -> TimeSeries | None:
    """Read all frames of a time-lapse; None for a file with fewer than 3, or whose frame interval nobody states.

    Parameters and errors as for `read_image`; `frame_interval_s` goes before what the file says. The sharpest plane is
    one for all frames, that of their mean: another one in each would move through the nucleus.
    """
    path = Path(path)
    with _opener(path)(path, scene=scene) as source:
        letters = source.axes.letters if axes is None else axes.upper()
        lengths = dict(zip(letters, source.axes.shape, strict=False))
        interval = frame_interval_s or source.frame_interval_s
        frames = lengths.get("T", 1)
        if frames < FEWEST_FRAMES or interval is None or not (math.isfinite(interval) and interval > 0.0):
            return None
        z_plane, note = _one_plane(source, axes, channels, z_plane, frames, path)
    whose = "given by the user" if frame_interval_s else "as the file says"
    read = [read_image(path, pixel_size_um=pixel_size_um, z_step_um=z_step_um, time_index=t, scene=scene, axes=axes,
                       channels=channels, z_plane=z_plane) for t in range(frames)]  # fmt: skip
    return TimeSeries(tuple(read), float(interval), f"{frames} frames, {interval:g} s apart {whose}{note}")


def _one_plane(
    source: ImageSource, axes: str | None, channels: Channels | None, z_plane: int | str | None, frames: int, path: Path
) -> tuple[int | str | None, str]:  # fmt: skip
    """Return which plane to take of every frame, and a remark where that had to be found out."""
    plans = [plan_axes(source.axes, name=str(path), time_index=t, declared=axes) for t in range(frames)]
    depth = dict(zip(plans[0].letters, source.axes.shape, strict=True)).get("Z", 1)
    if z_plane != "sharpest" or depth == 1:
        return z_plane, ""

    def mean(index: int) -> np.ndarray:
        taken = [_read(source, plan, channels, index, path)[0].data for plan in plans]
        return np.asarray(np.mean(taken, axis=0, dtype=np.float32))

    best = sharpest_plane(mean, depth)
    return best, f", z plane {best} of {depth}, the sharpest of their mean"


def _read(
    source: ImageSource,
    plan: AxesPlan,
    channels: Channels | None,
    z_plane: int | str | None,
    path: Path,
) -> tuple[ChosenPlane, tuple[int, ...]]:
    """Return the wanted pixels with what was done about z, and the numbers of their channels in the file."""
    every = tuple(range(len(plan.channel_names)))
    chosen = every
    if channels is not None:
        chosen = _wanted(plan.channel_names, channels, path)
    left = [axis for axis in range(len(source.axes.shape)) if axis not in plan.fixed]
    letters = [plan.letters[axis] for axis in left]
    one_axis = [left[i] for i, letter in enumerate(letters) if letter in "CS"]
    if chosen == every or len(one_axis) != 1:
        parts: tuple[dict[int, int], ...] = ({},)
    else:
        parts = tuple({one_axis[0]: index} for index in chosen)
    depth = [left[i] for i, letter in enumerate(letters) if letter == "Z"]

    def taken(more: dict[int, int]) -> np.ndarray:
        stacked = [
            plan.arrange_without(source.read(plan.fixed | more | part), {*more, *part}) for part in parts
        ]
        data = stacked[0] if len(stacked) == 1 else np.concatenate(stacked)
        # Channels and samples of their own axes each are told apart only when all are read.
        return data if parts != ({},) or chosen == every else data[list(chosen)]

    if z_plane is None or not depth:
        return ChosenPlane(taken({}), "" if z_plane is None else "no z axis to choose a plane of"), chosen
    plane = choose_plane(
        lambda index: taken({depth[0]: index}), source.axes.shape[depth[0]], z_plane, name=str(path)
    )
    return plane, chosen


def _wanted(names: tuple[str, ...], channels: Channels, path: Path) -> tuple[int, ...]:
    """Return the numbers of the channels that are to be read, each once."""
    named = channels.items() if isinstance(channels, Mapping) else (("chromatin", each) for each in channels)
    return tuple(sorted({find_channel(names, each, name=str(path), kind=kind).index for kind, each in named}))


def _opener(path: Path) -> Callable[..., AbstractContextManager[ImageSource]]:
    """Choose a reader by the ending, or by the first bytes where the ending says nothing."""
    if is_zarr(path):
        return open_zarr
    head = first_bytes(path)
    opener = OPENERS.get(path.suffix.lower())
    if opener is None and head.startswith(MAGIC):
        opener = open_tiff
    if opener is None:
        kind = name_kind(head, PICTURES)
        ending = f"files ending in {path.suffix or 'nothing'!r} are not read"
        raise ReadError(
            f"{path}: {kind or ending}.",
            expected=f"one of {', '.join(OPENERS)}.",
            do="export the image as OME-TIFF from the microscope's software or Fiji.",
        )
    if opener is open_tiff:
        require_tiff(path, head)
    return opener


def is_image(path: Path) -> bool:
    """Whether a file is an image, one that is not read included: by its ending, or by its first bytes."""
    if path.suffix.lower() in (*OPENERS, *OTHER_IMAGES) or is_zarr(path):
        return True
    return first_bytes(path).startswith((*MAGIC, *PICTURES))


def checksum_of(path: Path) -> str:
    """Return the SHA-256 of a file; empty for what is no file (OME-Zarr is a folder)."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def first_bytes(path: Path) -> bytes:
    """Read the head of a file; raises `ReadError` if it is missing, a folder, unreadable or empty."""

    def refuse(found: str, do: str) -> ReadError:
        return ReadError(f"{path}: {found}.", expected="an image file that can be read.", do=do)

    try:
        with path.open("rb") as file:
            head = file.read(32)
    except FileNotFoundError as error:
        raise refuse("no such file", "check the path and its spelling.") from error
    except IsADirectoryError as error:
        raise refuse("a folder", "name the files in it, or give the folder to `chromamol infer`.") from error
    except (OSError, ValueError) as error:
        raise refuse(f"cannot be opened ({error})", "check the permissions and the disk.") from error
    if not head:
        raise refuse("zero bytes", "copy the file again from its source.")
    return head


def saturation_level(data: np.ndarray, *, stated: float | None = None) -> float | None:
    """Return the value at which pixels are saturated; None for real numbers, whose limit is not known.

    Cameras of 10, 12 or 14 bits fill 16-bit files only up to their own maximum: an image whose largest
    value is exactly such a maximum is taken to have reached it. A stated level below the data is wrong and
    is not used.
    """
    if data.dtype.kind not in "ui":
        return None
    largest = int(data.max()) if data.size else 0
    if stated is not None and stated >= largest:
        return stated
    if data.dtype == np.uint16 and largest in CAMERA_LEVELS:
        return float(largest)
    return float(np.iinfo(data.dtype).max)
