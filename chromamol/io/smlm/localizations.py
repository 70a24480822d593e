"""`Localizations`: where single molecules were seen, in µm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from chromamol.errors import AxesError, FieldError
from chromamol.io.micrograph import ChannelChoice, matching_places

PER_ROW = ("x_um", "y_um", "z_um", "precision_um", "precision_z_um", "frame", "intensity", "channel", "trace")

MAX_LISTED = 12
"""Channels that a message names; a column of other numbers, taken for one of channels, may have thousands."""


@dataclass(frozen=True, eq=False)
class Localizations:
    """A table of localisations; every array has one entry per localisation, None where the file has none.

    Parameters
    ----------
    x_um, y_um, z_um : positions in µm.
    precision_um, precision_z_um : standard error of the position, in the plane and along z, in µm.
    frame : number of the camera frame.
    intensity : photons or counts, in the file's unit.
    channel : index into `channel_names`.
    channel_names : probes or channels of the table.
    trace : number of the molecule, where the instrument followed it (MINFLUX).
    dialect : whose table it is.
    unit_note : which unit the positions had and how that is known.
    notes : rows left out, columns preferred.
    path : the file, None for a table that never was one.

    Raises
    ------
    FieldError : arrays of different lengths.
    """

    x_um: np.ndarray
    y_um: np.ndarray
    z_um: np.ndarray | None = None
    precision_um: np.ndarray | None = None
    precision_z_um: np.ndarray | None = None
    frame: np.ndarray | None = None
    intensity: np.ndarray | None = None
    channel: np.ndarray | None = None
    channel_names: tuple[str, ...] = ()
    trace: np.ndarray | None = None
    dialect: str = ""
    unit_note: str = ""
    notes: tuple[str, ...] = ()
    path: Path | None = None

    def __post_init__(self) -> None:
        lengths = {name: array.shape for name in PER_ROW if (array := getattr(self, name)) is not None}
        if len(set(lengths.values())) != 1 or self.x_um.ndim != 1:
            raise FieldError(f"Localisations with arrays of shapes {lengths}.", expected="one length for all.",
                             do="give one entry per localisation in each array.")  # fmt: skip

    def __len__(self) -> int:
        return int(self.x_um.size)

    @property
    def name(self) -> str:
        """File name for messages."""
        return "table" if self.path is None else str(self.path)

    @property
    def is_3d(self) -> bool:
        """Whether there are z positions that differ."""
        return self.z_um is not None and bool(self.z_um.size) and float(np.ptp(self.z_um)) > 0

    def select(self, rows: np.ndarray, *, note: str = "") -> Localizations:
        """Return the chosen rows (a mask or indices), with a further note for the record."""
        chosen = {name: array[rows] for name in PER_ROW if (array := getattr(self, name)) is not None}
        return replace(self, **chosen, notes=(*self.notes, note) if note else self.notes)

    def choose_channel(self, which: int | str | None = None) -> tuple[Localizations, ChannelChoice]:
        """Return the localisations of one channel and the sentence that records the choice.

        A single channel needs no naming; of several, one must be named, by index or name as in an image
        (`find_channel`). A table without a column of channels is one channel, which may be named 0.

        Raises
        ------
        AxesError : several channels and none named, one that is not there, or a text that is the index of one and the
            name of another. The message lists them.
        """
        names = self.channel_names or ("0",)
        matches = ([0] if len(names) == 1 else []) if which is None else matching_places(names, which)
        if len(matches) != 1:
            raise self._not_one_channel(names, which, len(matches))
        index = matches[0]
        if which is None or self.channel is None:
            return self, ChannelChoice(index, names[index], "the only channel of the table")
        return self.select(self.channel == index), ChannelChoice(
            index, names[index], f"channel {index} ({names[index]!r}) named by the user"
        )

    def _not_one_channel(self, names: tuple[str, ...], which: int | str | None, fitting: int) -> AxesError:
        counts = np.bincount(self.channel, minlength=len(names)) if self.channel is not None else [len(self)]
        rows = list(enumerate(zip(names, counts, strict=True)))
        listed = ", ".join(f"{i}: {name!r} ({count:,} rows)" for i, (name, count) in rows[:MAX_LISTED])
        more = f" and {len(rows) - MAX_LISTED:,} more" if len(rows) > MAX_LISTED else ""
        found = f"fits {fitting} channels" if fitting else "is not there"
        given = "several channels and none named" if which is None else f"channel {which!r} {found}"
        do = (
            "name it by its index or its name: --chromatin-channel; --set chromatin_channel=INDEX takes a number for "
            "the index, whatever the names."
        )
        if self.channel is None:
            do = "leave --chromatin-channel out, or name the column of channels: --columns x=NAME,y=NAME,channel=NAME."
        return AxesError(f"{self.name}: {given}.", expected=f"one of {listed}{more}.", do=do)
