"""Column names by dialect. A header that states its own unit is a dialect of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Names = tuple[str, ...]


@dataclass(frozen=True)
class Dialect:
    """Whose text table it is and what its columns mean.

    Parameters
    ----------
    name : for the record.
    required : column names, lower case, that only this dialect has together.
    columns : meaning -> names, lower case, the preferred first.
    unit : of lengths.
    rule : how the unit is known.
    pixel_um : side of the camera pixel that the dialect fixes.
    """

    name: str
    required: Names
    columns: Mapping[str, Names]
    unit: str
    rule: str = "by dialect"
    pixel_um: float | None = None
    units: dict[str, str] = field(default_factory=dict)

    def fits(self, header: Sequence[str]) -> bool:
        return set(self.required) <= set(header)


_XYZ: dict[str, Names] = {"x": ("x",), "y": ("y",), "z": ("z",)}

DIALECTS: tuple[Dialect, ...] = (
    # Drift-corrected and, where there is one, chromatically warped columns first.
    Dialect("N-STORM", ("x", "y", "xc", "yc", "frame"),
            {"x": ("xwc", "xc"), "y": ("ywc", "yc"), "z": ("zwc", "zc", "z"),
             "precision": ("lateral localization accuracy",), "frame": ("frame",), "intensity": ("photons",),
             "channel": ("channel name",)}, "nm"),
    Dialect("Elyra", ("position x [nm]", "position y [nm]"),
            {"x": ("position x [nm]",), "y": ("position y [nm]",), "z": ("position z [nm]",),
             "precision": ("precision [nm]",), "precision_z": ("precision z [nm]",), "frame": ("first frame",),
             "intensity": ("number photons",), "channel": ("channel",)}, "nm"),
    Dialect("Nanoimager", ("channel", "frame", "x (nm)", "y (nm)"),
            {"x": ("x (nm)",), "y": ("y (nm)",), "z": ("z (nm)",), "precision_x": ("x precision (nm)",),
             "precision_y": ("y precision (nm)",), "frame": ("frame",), "intensity": ("photons",),
             "channel": ("channel",)}, "nm"),
    Dialect("Vutara", ("image-id", "photon-count", "x", "y"),
            {**_XYZ, "precision_x": ("precisionx",), "precision_y": ("precisiony",), "precision_z": ("precisionz",),
             "frame": ("frame",), "intensity": ("photon-count",), "channel": ("probe",)}, "nm"),
    Dialect("Leica", ("frameid", "eventid", "x", "y"),
            {**_XYZ, "frame": ("frameid",), "intensity": ("photons", "n photons")}, "px", units={"z": "nm"}),
    Dialect("ThunderSTORM", ("x [nm]", "y [nm]", "frame"),
            {"x": ("x [nm]",), "y": ("y [nm]",), "z": ("z [nm]",),
             "precision": ("uncertainty [nm]", "uncertainty_xy [nm]"), "precision_z": ("uncertainty_z [nm]",),
             "frame": ("frame",), "intensity": ("intensity [photon]",)}, "nm"),
)  # fmt: skip

OSNAP = Dialect("O-SNAP", ("x", "y"), {**_XYZ, "frame": ("frame",), "intensity": ("photons", "intensity")}, "px",
                "by the file's name, as O-SNAP's", 0.117, units={"z": "nm"})  # fmt: skip

OSNAP_NAME = re.compile(r"storm-\d+\.csv$", re.IGNORECASE)

BY_NAME: dict[str, Dialect] = {
    "osnap": OSNAP,
    "storm_analysis": Dialect("STORM_Analysis", ("x", "y"), _XYZ, "nm", "by dialect, named by the user"),
    "leica": Dialect("Leica", ("x", "y"), {**_XYZ, "frame": ("frameid", "frame")}, "px",
                     "by dialect, named by the user", units={"z": "nm"}),
    "minflux": Dialect("MINFLUX", ("x", "y"), {**_XYZ, "trace": ("tid",)}, "m", "by dialect, named by the user"),
}  # fmt: skip
"""Dialects that a table can't be recognised by: the user names them. Without a header the first columns are x, y, z."""

_MEANING: dict[str, Names] = {
    "x": ("x", "position x", "x position", "pos x", "xpos", "x coordinate"),
    "y": ("y", "position y", "y position", "pos y", "ypos", "y coordinate"),
    "z": ("z", "position z", "z position", "pos z", "zpos", "z coordinate"),
    "precision": (
        "precision",
        "uncertainty",
        "localization precision",
        "locprec",
        "sigma xy",
        "uncertainty xy",
    ),
    "frame": ("frame", "frame number", "first frame", "t"),
    "intensity": ("intensity", "photons", "number photons", "n photons"),
    "channel": ("channel", "channel name", "channel index", "probe", "probe name", "fluorophore", "dye"),
}

_UNIT = re.compile(r"^(.*?)[\s_]*[\[(]\s*([^\])]*?)\s*[\])]$")
_UNIT_TAIL = re.compile(r"^(.+?)[_\s](nm|um|µm|px|pix|pixel|pixels|m)$")


def split_unit(name: str) -> tuple[str, str]:
    """Split a header's cell into the words before its unit and the unit.

    >>> split_unit("Position X [nm]"), split_unit("y_um"), split_unit("frame")
    (('position x', 'nm'), ('y', 'um'), ('frame', ''))
    """
    text = name.strip().lower()
    match = _UNIT.match(text) or _UNIT_TAIL.match(text)
    words, unit = match.groups() if match else (text, "")
    return re.sub(r"[\s_\-]+", " ", words).strip(), "px" if unit.startswith("pix") else unit


def by_meaning(header: Sequence[str]) -> tuple[dict[str, int], dict[str, str]]:
    """Find columns by the usual words for them: meaning -> index, and meaning -> the unit in the header."""
    split = [split_unit(name) for name in header]
    found = {
        meaning: next(i for i, (words, _) in enumerate(split) if words in names)
        for meaning, names in _MEANING.items()
        if any(words in names for words, _ in split)
    }
    return found, {meaning: split[index][1] for meaning, index in found.items() if split[index][1]}
