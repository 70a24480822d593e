"""What a table states, before units are judged: `StatedTable`, and its way to `Localizations`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chromamol.errors import PixelSizeError, ReadError
from chromamol.io.pixel_size import PIXEL_SIZE_RANGE_UM, number, require_range
from chromamol.io.smlm.localizations import Localizations
from chromamol.units import um_per_unit

PIXELS = ("px", "pixel", "pixels", "camera px")

LENGTHS = ("x", "y", "z", "precision", "precision_x", "precision_y", "precision_z")

OTHERS = ("frame", "intensity", "channel", "trace")

MAX_EXTENT_UM = 10_000.0
"""Wider than any camera's field in the sample: positions beyond are in another unit than the table says."""


@dataclass(frozen=True, eq=False)
class StatedTable:
    """Columns by what they mean, as the file has them.

    Parameters
    ----------
    columns : `LENGTHS` and `OTHERS` -> values; x and y are always there.
    units : of the lengths: "nm", "um", "m", "px". One that is missing here has the unit of x.
    dialect : whose table it is.
    rule : how the unit is known, for the record; empty when it is not.
    pixel_um : side of a camera pixel along (x, y) in µm, if the file states it.
    pixel_rule : where that is from, or why it is not there.
    channel_names : of the values of "channel"; numbered when empty.
    notes : for the record.
    """

    columns: Mapping[str, np.ndarray]
    units: Mapping[str, str]
    dialect: str
    rule: str
    pixel_um: tuple[float, float] | None = None
    pixel_rule: str = ""
    channel_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def to_localizations(stated: StatedTable, path: Path, *, camera_pixel_um: float | None) -> Localizations:
    """Turn stated columns into µm; rows without a finite position are left out and counted.

    Raises
    ------
    PixelSizeError : positions in camera pixels whose size nobody states, or in a unit nobody states.
    ReadError : positions that no field of view can hold.
    """
    scale, note = _scales(stated, path, camera_pixel_um)
    kept = np.isfinite(stated.columns["x"]) & np.isfinite(stated.columns["y"])
    if "z" in stated.columns:
        kept &= np.isfinite(stated.columns["z"])
    columns = {name: np.asarray(values)[kept] for name, values in stated.columns.items()}
    notes = list(stated.notes)
    if dropped := int(kept.size - np.count_nonzero(kept)):
        notes.append(f"{dropped:,} of {kept.size:,} rows without a position left out")
    lengths = {name: columns[name].astype(np.float64) * scale[name] for name in LENGTHS if name in columns}
    _require_possible(lengths, path, note)
    channel, names = _channels(columns.get("channel"), stated.channel_names)
    frame = columns.get("frame")
    return Localizations(
        x_um=lengths["x"], y_um=lengths["y"], z_um=lengths.get("z"),
        precision_um=_precision(lengths, notes), precision_z_um=lengths.get("precision_z"),
        frame=None if frame is None else _whole(frame, path), intensity=columns.get("intensity"), channel=channel,
        channel_names=names, trace=columns.get("trace"), dialect=stated.dialect, unit_note=note, notes=tuple(notes),
        path=path,
    )  # fmt: skip


def _scales(stated: StatedTable, path: Path, camera_pixel_um: float | None) -> tuple[dict[str, float], str]:
    units = {name: stated.units.get(name, stated.units.get("x", "")) for name in LENGTHS}
    pixel, pixel_note = stated.pixel_um, stated.pixel_rule
    if camera_pixel_um is not None:
        require_range("camera pixel", camera_pixel_um, PIXEL_SIZE_RANGE_UM, option="--pixel-size-um")
        pixel, pixel_note = (camera_pixel_um, camera_pixel_um), "camera pixel given by the user"
    scale = {}
    for name, unit in units.items():
        if name not in stated.columns:
            continue
        if unit in PIXELS:
            scale[name] = _pixel(pixel, path, pixel_note)[1 if name in ("y", "precision_y") else 0]
            continue
        per = um_per_unit(unit) if unit else None
        if per is None:
            raise PixelSizeError(
                f"{path}: positions without a unit ({stated.dialect}; {unit or 'none stated'}).",
                expected="a dialect that fixes the unit, or a unit in the header such as 'x [nm]'.",
                do="say it with --columns x=NAME,y=NAME,unit=nm (or um, m, px).",
            )
        scale[name] = per
    note = f"{units['x']}, {stated.rule}"
    if units["x"] in PIXELS:
        x, y = _pixel(pixel, path, pixel_note)
        note += f"; camera pixel {number(x)}{'' if x == y else f' by {number(y)}'} um ({pixel_note})"
    return scale, note


def _pixel(pixel: tuple[float, float] | None, path: Path, note: str) -> tuple[float, float]:
    low, high = PIXEL_SIZE_RANGE_UM
    if pixel is None or not all(low <= side <= high for side in pixel):
        found = "unknown" if pixel is None else " by ".join(number(side) for side in pixel) + " um"
        raise PixelSizeError(
            f"{path}: positions in camera pixels, whose size is {found}{f' ({note})' if note else ''}.",
            expected=f"a camera pixel of {number(low)} to {number(high)} um in the sample.",
            do="pass --pixel-size-um (camera pixel over magnification; 117 nm is 0.117).",
        )
    return pixel


def _require_possible(lengths: dict[str, np.ndarray], path: Path, note: str) -> None:
    for axis in ("x", "y"):
        extent = float(np.ptp(lengths[axis])) if lengths[axis].size else 0.0
        if not extent <= MAX_EXTENT_UM:
            raise ReadError(
                f"{path}: positions spread over {number(extent)} um along {axis} ({note}).",
                expected=f"at most {number(MAX_EXTENT_UM)} um, a camera's field in the sample.",
                do="check the unit and the columns, with --columns x=NAME,y=NAME,unit=nm.",
            )


def _precision(lengths: dict[str, np.ndarray], notes: list[str]) -> np.ndarray | None:
    """Root mean square over the plane; values that are no precision become NaN, and are counted."""
    if "precision" in lengths:
        precision = lengths["precision"]
    elif "precision_x" in lengths and "precision_y" in lengths:
        with np.errstate(over="ignore"):
            precision = np.sqrt((lengths["precision_x"] ** 2 + lengths["precision_y"] ** 2) / 2.0)
    else:
        return None
    bad = ~(np.isfinite(precision) & (precision > 0.0))
    if bad.any():
        notes.append(f"{int(np.count_nonzero(bad)):,} rows without a usable precision")
        precision = np.where(bad, np.nan, precision)
    return precision


def _whole(frame: np.ndarray, path: Path) -> np.ndarray:
    values = np.asarray(frame, dtype=np.float64)
    if not np.all(np.isfinite(values) & (np.abs(values) < 2**53)):
        raise ReadError(f"{path}: frame numbers that are no numbers.", expected="finite frame numbers in every row.",
                        do="check the frame column; leave it out of --columns if it is another thing.")  # fmt: skip
    # Picasso's molecules have the mean of their frames.
    return np.rint(values).astype(np.int64)


def _channels(values: np.ndarray | None, names: tuple[str, ...]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    if values is None:
        return None, ("0",)
    if names:
        return values.astype(np.int64), names
    present, index = np.unique(values, return_inverse=True)
    return index, tuple(f"{value:g}" if isinstance(value, np.floating) else str(value) for value in present)
