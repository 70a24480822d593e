"""`Micrograph`: an image as it lies in the file, with what is known about its channels and pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chromamol.errors import AxesError, FieldError, ImageContentError
from chromamol.grid import Grid
from chromamol.io.pixel_size import require_pixel_size, require_z_step
from chromamol.shapes import Mask


@dataclass(frozen=True)
class ChannelChoice:
    """Which channel is used, and the sentence that is printed and recorded with the results."""

    index: int
    name: str
    reason: str


def find_channel(
    names: tuple[str, ...],
    which: int | str | None = None,
    *,
    name: str,
    numbers: tuple[int, ...] | None = None,
    kind: str = "chromatin",
) -> ChannelChoice:
    """Find a channel by index or name. A single channel needs neither.

    A stain is never guessed from a name: of several channels, one must be named.

    Parameters
    ----------
    names : of the channels.
    which : index from 0, or a name (upper and lower case are the same), or an index written as text, as it comes from
        the command line.
    name : of the file, for messages.
    numbers : indices of the channels where these are a selection; `ChannelChoice.index` is the place among `names`.
    kind : "chromatin", "heterochromatin" or "euchromatin": whose option a message names.

    Raises
    ------
    AxesError : several channels and none named, a name that is unknown or fits two, an index out of
        range. The message lists the channels.
    """
    numbers = tuple(range(len(names))) if numbers is None else numbers
    if which is None:
        if len(names) > 1:
            raise _channel_error(names, numbers, "several channels and none named", name, kind)
        return ChannelChoice(0, names[0], "the only channel of the image")
    matches = matching_places(names, which, numbers=numbers)
    if len(matches) != 1:
        found = f"fits {len(matches)} channels" if matches else "is not among its channels"
        raise _channel_error(names, numbers, f"channel {which!r} {found}", name, kind)
    place = matches[0]
    how = "index" if str(which) == str(numbers[place]) else "name"
    return ChannelChoice(place, names[place], f"channel {numbers[place]} ({names[place]!r}) named by {how}")


def matching_places(
    names: Sequence[str], which: int | str, *, numbers: Sequence[int] | None = None
) -> list[int]:
    """Return the places among `names` that a number or a text may mean: a number is an index, a text that or a name."""
    numbers = range(len(names)) if numbers is None else numbers
    if isinstance(which, int):
        return [place for place, number in enumerate(numbers) if number == which]
    exact = [i for i, name in enumerate(names) if name == which]
    folded = [i for i, name in enumerate(names) if name.casefold() == which.casefold()]
    named = exact or folded
    # "2" may be the index 2 and also the name of channel 1: then it fits two, and that is refused.
    index = [place for place, number in enumerate(numbers) if which.isdecimal() and number == int(which)]
    return sorted({*named, *index})


def _channel_error(
    names: tuple[str, ...], numbers: tuple[int, ...], found: str, name: str, kind: str
) -> AxesError:
    stain = "DNA or H2B" if kind == "chromatin" else kind
    listed = ", ".join(f"{number}: {each!r}" for number, each in zip(numbers, names, strict=True))
    return AxesError(
        f"{name}: {found}.",
        expected=f"one of its channels, {listed}.",
        do=f"name the {stain} channel by its index or its name: --{kind}-channel; --set {kind}_channel=INDEX takes a "
        "number for the index, whatever the names.",
    )


@dataclass(frozen=True, eq=False, repr=False)
class Micrograph:
    """An image of one or more channels, 2D or 3D.

    Parameters
    ----------
    data : (channel, y, x) or (channel, z, y, x), number type as in the file. Large files may stay on the
        disk and be read when used (a memory map).
    channel_names : one per channel; "0", "1", ... where the file names none.
    pixel_size_um : side of a pixel in µm, None where the file states none that can be believed.
    z_step_um : distance between planes in µm, None for 2D or where it is not stated.
    calibration_note : where the two lengths are from, or why what the file says was refused.
    path : the file, None for an image that never was one.
    axes_note : how the axes of the file were understood.
    saturation_level : the value at which a pixel is saturated, in units of `data`; None for real numbers.
    channel_numbers : index in the file of each channel, where not all were read; None for 0, 1, ...
    channel_saturation : the same value for each channel by itself; None where `saturation_level` holds for all.
    saturated : where the detector was saturated, of the shape of `data`, where `data` itself doesn't show it: a mean.
    flags : quality flags that hold for every nucleus of the image (`nucleus.flags`).

    Raises
    ------
    FieldError : data without a channel axis, or names that do not fit it.
    """

    data: np.ndarray
    channel_names: tuple[str, ...]
    pixel_size_um: float | None = None
    z_step_um: float | None = None
    calibration_note: str = ""
    path: Path | None = None
    axes_note: str = ""
    saturation_level: float | None = None
    channel_numbers: tuple[int, ...] | None = None
    channel_saturation: tuple[float | None, ...] | None = None
    saturated: Mask | None = None
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.data.ndim not in (3, 4) or self.data.shape[0] != len(self.channel_names):
            raise FieldError(
                f"Micrograph of shape {self.data.shape} with {len(self.channel_names)} channel names.",
                expected="(channel, y, x) or (channel, z, y, x) and one name per channel.",
                do="put the channel axis first: image[None] for a single channel.",
            )

    def __repr__(self) -> str:
        size = "pixel size unknown" if self.pixel_size_um is None else f"{self.pixel_size_um:g} um per pixel"
        step = f", {self.z_step_um:g} um between planes" if self.z_step_um is not None else ""
        channels = ", ".join(map(repr, self.channel_names))
        return f"Micrograph({self.name}, {self.data.dtype}, {self.shape}, {size}{step}, channels: {channels})"

    @property
    def name(self) -> str:
        """File name for messages."""
        return "image" if self.path is None else str(self.path)

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels along (y, x) or (z, y, x)."""
        return self.data.shape[1:]

    @property
    def is_stack(self) -> bool:
        """Whether there is a z axis."""
        return self.data.ndim == 4

    @property
    def spacing_um(self) -> tuple[float, ...]:
        """Distance between pixels along (y, x) or (z, y, x), in µm; raises `PixelSizeError` if unknown."""
        pixel = require_pixel_size(self)
        return (require_z_step(self), pixel, pixel) if self.is_stack else (pixel, pixel)

    @property
    def grid(self) -> Grid:
        """Where the pixels are; raises `PixelSizeError` if that is unknown."""
        return Grid(self.shape, self.spacing_um)

    def saturated_pixels(self, place: int) -> Mask | None:
        """Return where the channel at `place` in `data` is saturated; None where its limit is not known."""
        if self.saturated is not None:
            return self.saturated[place]
        level = self.saturation_level if self.channel_saturation is None else self.channel_saturation[place]
        return None if level is None else np.asarray(self.data[place] >= level)

    def choose_channel(self, which: int | str | None = None, *, kind: str = "chromatin") -> ChannelChoice:
        """Find a channel by index or name; as `find_channel`. An index is that in the file."""
        return find_channel(
            self.channel_names, which, name=self.name, numbers=self.channel_numbers, kind=kind
        )

    def channel(self, which: int | str | None = None) -> np.ndarray:
        """Return one channel, (y, x) or (z, y, x), as it is in the file; see `choose_channel`."""
        return np.ascontiguousarray(self.data[self.choose_channel(which).index])


def check_content(plane: np.ndarray, *, name: str) -> None:
    """Raise `ImageContentError` unless the pixels hold something that can be analysed.

    Parameters
    ----------
    plane : the selected channel, any shape.
    name : file name for the message.
    """
    bad = 0 if plane.dtype.kind in "ui" else int(np.count_nonzero(~np.isfinite(plane)))
    if bad:
        raise ImageContentError(
            f"{name}: {bad:,} of {plane.size:,} pixels are NaN or infinite.",
            expected="finite intensities.",
            do="export the raw image, before any ratio or background division.",
        )
    low, high = (plane.min(), plane.max()) if plane.size else (0, 0)
    if low == high:
        raise ImageContentError(
            f"{name}: every pixel is {low}.",
            expected="an image with contrast.",
            do="check that the right channel was named and that the acquisition worked.",
        )
