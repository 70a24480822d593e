"""rapidSTORM text: an XML line that names the fields and their units, then rows parted by white space."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import numpy as np

from chromamol.errors import ReadError
from chromamol.io.smlm.stated import StatedTable
from chromamol.io.source import require_memory

RAPIDSTORM_START = "# <localizations"

_FIELD = re.compile(r'<field identifier="([^"]+)"[^>]*?\bunit="([^"]*)"')

_MEANING = {
    "Position-0-0": "x",
    "Position-1-0": "y",
    "Position-2-0": "z",
    "Position-0-0-uncertainty": "precision_x",
    "Position-1-0-uncertainty": "precision_y",
    "Position-2-0-uncertainty": "precision_z",
    "ImageNumber-0-0": "frame",
    "Amplitude-0-0": "intensity",
}


def read_rapidstorm(path: Path, bytes_: mmap.mmap, *, start: int) -> StatedTable:
    """Read localisations or tracks, whose rows begin at `start`. Of a track, its mean position is taken, which stands
    before its members.

    Raises
    ------
    ReadError : no position among the fields, or rows that are no numbers.
    """
    header = bytes_[:start].decode("latin-1")
    # A track file names the fields of the members inside those of the track.
    own, nested, _ = header.removeprefix(RAPIDSTORM_START).partition("<localizations")
    fields = _FIELD.findall(own)
    names = [identifier for identifier, _ in fields]
    if not {"Position-0-0", "Position-1-0"} <= set(names):
        raise ReadError(f"{path}: rapidSTORM fields {', '.join(names) or 'none'}.",
                        expected="positions in x and y.", do="export the localisations again.")  # fmt: skip
    require_memory(4 * (len(bytes_) - start), name=str(path))
    rows = _rows(bytes_[start:], len(names), path)
    kept = {_MEANING[name]: i for i, name in enumerate(names) if name in _MEANING}
    columns = {meaning: rows[:, i] for meaning, i in kept.items()}
    units = {_MEANING[name]: _unit(unit) for name, unit in fields if name in _MEANING}
    notes = ("tracks: one position each, the mean of its members",) if nested else ()
    return StatedTable(columns, units, "rapidSTORM", "as the header says", notes=notes)


def _unit(unit: str) -> str:
    return {"nanometer": "nm", "micrometer": "um", "meter": "m", "pixel": "px"}.get(unit, unit)


def _rows(text: bytes, width: int, path: Path) -> np.ndarray:
    # Rows of tracks differ in length: only the first `width` cells are the track's own.
    cells = [
        line.split(None, width)[:width] for line in text.splitlines() if line.strip() and line[:1] != b"#"
    ]
    try:
        rows = np.array(cells, dtype="S32").astype(np.float64) if cells else np.empty((0, width))
    except ValueError as error:
        raise ReadError(f"{path}: rows that are no numbers, or of different lengths.",
                        expected=f"{width} numbers at the start of each row.",
                        do="export again.") from error  # fmt: skip
    return rows.reshape(-1, width)
