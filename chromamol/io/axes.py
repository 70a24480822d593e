"""From the axes of a file to (channel, [z,] y, x), without guessing.

Letters as tifffile and OME use them: T time, Z, C channel, S sample ("RGB", which is often three
fluorophores), Y, X. Q, I and others mean "some planes, meaning not stated".
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from chromamol.errors import AxesError

KNOWN_AXES = "TZCSYX"

MAX_UNNAMED_CHANNELS = 8
"""More channels than this without names are far more often a z-stack or a time series saved as channels."""


@dataclass(frozen=True)
class StoredAxes:
    """The axes of an image as its file states them.

    Parameters
    ----------
    letters : one letter per axis, in the order of storage.
    shape : length of each axis.
    channel_names : names of the channels, empty if the file has none.
    plane_labels : labels of single planes (ImageJ), empty if the file has none.
    is_rgb : the file says that samples are red, green and blue of a display image.
    """

    letters: str
    shape: tuple[int, ...]
    channel_names: tuple[str, ...] = ()
    plane_labels: tuple[str, ...] = ()
    is_rgb: bool = False


@dataclass(frozen=True)
class AxesPlan:
    """How to arrange stored data.

    Parameters
    ----------
    fixed : axis number -> index to take (time, and axes of length one).
    order : the axes that are left, as numbers among those left: channels and samples, z, y, x.
    channel_names : one per channel.
    note : how the axes were understood, for people.
    letters : of every stored axis, as understood.
    """

    fixed: dict[int, int]
    order: tuple[int, ...]
    channel_names: tuple[str, ...]
    note: str
    letters: str

    def arrange_without(self, taken: np.ndarray, gone: set[int]) -> np.ndarray:
        """Turn data without the `fixed` axes, and `gone` (z, or a single channel's), into (channel, [z,] y, x)."""
        left = [axis for axis in range(len(self.letters)) if axis not in self.fixed]
        kept = [axis for axis in left if axis not in gone]
        order = [kept.index(left[i]) for i in self.order if left[i] in kept]
        arranged = taken.transpose(order)
        depth = sum(self.letters[axis] == "Z" for axis in kept)
        inner = arranged.shape[arranged.ndim - 2 - depth :]
        return arranged.reshape(-1, *inner)


def plan_axes(
    stored: StoredAxes, *, name: str, time_index: int | None = None, declared: str | None = None
) -> AxesPlan:
    """Decide which axis is what.

    Parameters
    ----------
    stored : what the file states.
    name : file name for messages.
    time_index : which time point of a series, from 0.
    declared : the user's word on the axes, such as "ZYX", in the order of storage.

    Raises
    ------
    AxesError : axes of unknown meaning, a time series without `time_index`, an index out of range, a
        stack that looks as if it were saved as channels.
    """
    notes = []
    if declared is not None:
        stored = _declare(stored, declared, name)
        notes.append(f"axes {stored.letters} declared by the user")
    elif _is_z_stack_in_channels(stored):
        stored = replace(stored, letters=stored.letters.replace("C", "Z"))
        notes.append("channel axis is z, as the labels of its planes say")
    notes.insert(
        0, "stored as " + " ".join(f"{a}={n}" for a, n in zip(stored.letters, stored.shape, strict=True))
    )
    _require_known(stored, name)
    if declared is None:
        _require_plausible_channels(stored, name)
    fixed, left = _fix(stored, name, time_index)
    if time_index is not None and "T" in stored.letters:
        notes.append(f"time point {time_index} of {stored.shape[stored.letters.index('T')]}")
    letters = "".join(stored.letters[i] for i in left)
    order = tuple(letters.index(a) for a in "CSZYX" if a in letters)
    length = dict(zip(stored.letters, stored.shape, strict=True))
    channels = length.get("C", 1) * length.get("S", 1)
    if "S" in letters:
        notes.append(_sample_note(stored, length["S"]))
    return AxesPlan(
        fixed,
        order,
        _names(stored, channels),
        "; ".join(notes),
        stored.letters,
    )


def _declare(stored: StoredAxes, declared: str, name: str) -> StoredAxes:
    letters = declared.upper()
    fits = len(letters) == len(stored.shape) and len(set(letters)) == len(letters)
    if not (fits and set("YX") <= set(letters) <= set(KNOWN_AXES)):
        raise AxesError(
            f"{name}: axes {declared!r} for an image stored as {stored.letters} of shape {stored.shape}.",
            expected=f"{len(stored.shape)} different letters of {KNOWN_AXES}, Y and X among them.",
            do=f"give one letter per axis in the order of storage, {_say('ZYX')}.",
        )
    return replace(stored, letters=letters, is_rgb=stored.is_rgb and "S" in letters)


def _say(letters: str) -> str:
    return f"--set axes={letters} (axes={letters!r} in Python)"


def _is_z_stack_in_channels(stored: StoredAxes) -> bool:
    """ImageJ labels its planes "z:3/51": only then are channels known to be a stack."""
    if "C" not in stored.letters or "Z" in stored.letters:
        return False
    count = stored.shape[stored.letters.index("C")]
    found = [re.search(r"\bz:\s*(\d+)/(\d+)", label) for label in stored.plane_labels]
    planes = [(int(m[1]), int(m[2])) for m in found if m]
    return count > 1 and planes == [(i + 1, count) for i in range(count)]


def _require_known(stored: StoredAxes, name: str) -> None:
    unknown = [
        f"{a} of length {n}"
        for a, n in zip(stored.letters, stored.shape, strict=True)
        if n > 1 and (a not in KNOWN_AXES or stored.letters.count(a) > 1)
    ]
    if unknown or not set("YX") <= set(stored.letters):
        raise AxesError(
            f"{name}: axes {stored.letters} of shape {stored.shape}; not understood: {', '.join(unknown)}.",
            expected="planes whose meaning (z, channel or time) the file states.",
            do=f"say it, {_say('ZYX')}, or CYX, TYX, with one letter per axis, or save it as OME-TIFF.",
        )


def _require_plausible_channels(stored: StoredAxes, name: str) -> None:
    length = dict(zip(stored.letters, stored.shape, strict=True))
    count = length.get("C", 1)
    if count > MAX_UNNAMED_CHANNELS and "Z" not in length and not stored.channel_names:
        raise AxesError(
            f"{name}: {count} channels without names and no z axis, as if a stack was saved as channels.",
            expected=f"at most {MAX_UNNAMED_CHANNELS} unnamed channels.",
            do=f"say what they are: {_say(stored.letters.replace('C', 'Z'))} if they are z planes, "
            f"{_say(stored.letters)} if they are channels.",
        )


def _fix(stored: StoredAxes, name: str, time_index: int | None) -> tuple[dict[int, int], list[int]]:
    count = dict(zip(stored.letters, stored.shape, strict=True)).get("T", 1)
    if (count > 1 and time_index is None) or (time_index is not None and not 0 <= time_index < count):
        given = "none was chosen" if time_index is None else f"number {time_index} was asked for"
        raise AxesError(
            f"{name}: {count} time point{'s' * (count > 1)}, {given}.",
            expected=f"a time index from 0 to {count - 1}.",
            do="choose one with --time (time_index in Python)"
            + (", or give --frame-interval-s for all of them together." if time_index is None else "."),
        )
    fixed: dict[int, int] = {}
    for axis, (letter, length) in enumerate(zip(stored.letters, stored.shape, strict=True)):
        if letter == "T":
            fixed[axis] = time_index or 0
        elif length == 1 and letter not in "YX":
            fixed[axis] = 0
    return fixed, [axis for axis in range(len(stored.shape)) if axis not in fixed]


def _sample_note(stored: StoredAxes, samples: int) -> str:
    if stored.is_rgb:
        return (
            f"{samples} samples of an 8-bit RGB image taken as channels: such exports are often rescaled for "
            "display, then intensities are not proportional to density"
        )
    return f"{samples} samples per pixel taken as channels (fluorophores stored like RGB)"


def _names(stored: StoredAxes, channels: int) -> tuple[str, ...]:
    if len(stored.channel_names) == channels:
        return stored.channel_names
    if stored.is_rgb and channels in (3, 4):
        return ("red", "green", "blue", "alpha")[:channels]
    return tuple(str(i) for i in range(channels))
