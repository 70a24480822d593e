"""What became of each input of a run: rows of the tables, a line for the user, and faults that nobody foresaw."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from chromamol.errors import ImageContentError
from chromamol.io import Found, checksum_of, readable
from chromamol.report.numbers import counted


@dataclass(frozen=True)
class ImageRecord:
    """What became of one input: its row of `images.csv`, rows of its nuclei, rows of `DETAIL_TABLES`."""

    row: dict[str, Any]
    nuclei: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """One line for the user."""
        if self.row["status"] == "done":
            used = "; ".join(note for note in (self.row["channel_note"], self.row["axes_note"]) if note)
            nuclei = counted(self.row["nuclei"], "nucleus")
            return f"{self.row['image']}: {nuclei}, {self.row['seconds']:.1f} s ({used})"
        path, reason = self.row["path"], self.row["error"] or self.row["notes"]
        return f"{self.row['status']}: {reason if path in reason else f'{path}: {reason}'}"


def image_row(found: Found, status: str, **values: Any) -> dict[str, Any]:
    """Return a row of `images.csv`; what is not given is blank."""
    blank = {"sha256": "", "nuclei": 0, "seconds": 0.0, "error": "", "pixel_size_um": np.nan, "pixel_size_note": "",
             "channel_note": "", "axes_note": "", "notes": ""}  # fmt: skip
    return {
        "image": found.stem or found.path.name,
        "path": readable(str(found.path)),
        "status": status,
        **blank,
        **values,
    }


def sha256_of(path: Path) -> str:
    """Return the checksum of a file; empty when it can't be read (its record says why)."""
    try:
        return checksum_of(path)
    except OSError:
        return ""


def fault(found: Found, error: Exception) -> str:
    """Describe an error that nobody foresaw, with the line of code that met it."""
    line = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(line.filename).name}:{line.lineno}"
    fault = ImageContentError(
        f"{found.path}: {type(error).__name__} in {where}: {error}.",
        expected="an image that can be analysed, or an error that says why it cannot.",
        do="report this as a fault of chromamol, with the file; a MemoryError asks for a smaller image.",
    )
    return str(fault)


def require_some(records: list[ImageRecord], *, told: bool) -> None:
    """Raise unless an input was analysed; the reasons are in the message unless the user was told them."""
    if any(record.row["status"] == "done" for record in records):
        return
    failed = [record.line for record in records if record.row["status"] == "failed"]
    reasons = "" if told else " " + " | ".join(failed)
    raise ImageContentError(
        f"Nothing could be analysed: {len(failed)} of {len(records)} inputs failed, the others were skipped.{reasons}"
        if len(failed) < len(records)
        else f"Nothing could be analysed: every input failed ({len(failed)}).{reasons}",
        expected="at least one image with nuclei.",
        do="mend what is named above; nothing was written.",
    )
