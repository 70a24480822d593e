"""`read_localizations`: a table on the disk becomes `Localizations`."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from chromamol.errors import ChromamolError, ParameterError, ReadError
from chromamol.io.reading import first_bytes
from chromamol.io.smlm.containers import has_table, read_hdf5, read_mat, read_smlm
from chromamol.io.smlm.dialects import BY_NAME
from chromamol.io.smlm.localizations import Localizations
from chromamol.io.smlm.minflux import read_minflux_json, read_npy
from chromamol.io.smlm.stated import StatedTable, to_localizations
from chromamol.io.smlm.text import read_text

HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"

TABLE_SUFFIXES = (".csv", ".txt", ".tsv", ".ascii", ".hdf5", ".h5", ".smlm", ".mat", ".npy", ".json")
"""In a folder, files with these endings are looked into; a file that is named may have any other that no image has."""


def read_localizations(
    path: str | Path,
    *,
    columns: Mapping[str, str] | str | None = None,
    pixel_size_um: float | None = None,
    dialect: str | None = None,
) -> Localizations:
    """Read a localisation table.

    Known without being told: ThunderSTORM, N-STORM, Elyra, Nanoimager, Vutara, rapidSTORM text (drift-corrected
    columns are preferred); Picasso and DECODE HDF5, SMAP `.mat`, `.smlm`; MINFLUX `.npy`, `.mat`, `.json`; O-SNAP by
    its file name; and any header that states units ("x [nm]", "y_um"). Decimal commas and quoted headers are
    understood. The unit follows from the dialect or the header; where neither states one, the table is refused.

    Parameters
    ----------
    path : the file. The YAML of a Picasso table lies beside it.
    columns : meaning -> column name or number from 0, and "unit" -> unit of x, y and of columns whose names state
        none, for tables of no known dialect; or the same as text, "x=X,y=Y,frame=T,unit=nm". Meanings: x, y, z,
        precision, precision_x, precision_y, precision_z, frame, intensity, channel. A column named channel or probe
        is read without being named here.
    pixel_size_um : side of a camera pixel in the sample, in µm, for tables in pixels; goes before the file's own.
    dialect : "osnap" (pixels of 117 nm), "storm_analysis" (nm), "leica" (pixels) or "minflux" (m), for text that
        doesn't tell.

    Returns
    -------
    Localizations, all channels; positions and precision in µm.

    Raises
    ------
    ReadError : missing, empty, no table, broken.
    PixelSizeError : the unit can't be known, or a camera pixel is missing or absurd.
    ParameterError : an unknown dialect, or `columns` that can't be read.
    """
    path = Path(path)
    if dialect is not None and dialect not in BY_NAME:
        raise ParameterError(f"dialect = {dialect!r}.", expected=f"one of {', '.join(BY_NAME)}.",
                             do="leave it out: other dialects are recognised.")  # fmt: skip
    if isinstance(columns, str):
        columns = parse_columns(columns)
    head = first_bytes(path)
    try:
        # Numbers that do not fit are judged as numbers: a warning would say less than the error or the note.
        with np.errstate(invalid="ignore", over="ignore"):
            stated = _read(path, head, columns, dialect)
            return to_localizations(stated, path, camera_pixel_um=pixel_size_um)
    except ChromamolError:
        raise
    except Exception as error:
        # HDF5, MATLAB and ZIP readers raise anything over broken bytes, from struct.error to MemoryError.
        raise ReadError(f"{path}: broken or truncated table ({type(error).__name__}: {str(error)[:160]}).",
                        expected="a complete localisation table.",
                        do="copy the file again from its source, or export it again.") from error  # fmt: skip


def _read(path: Path, head: bytes, columns: Mapping[str, str] | None, dialect: str | None) -> StatedTable:
    if head.startswith(HDF5_MAGIC):
        return read_hdf5(path)
    if head.startswith(b"MATLAB"):
        return read_mat(path, is_hdf5=head.startswith(b"MATLAB 7.3"))
    if head.startswith(b"PK\x03\x04"):
        return read_smlm(path)
    if head.startswith(b"\x93NUMPY"):
        return read_npy(path)
    if head.lstrip().startswith((b"{", b"[")):
        return read_minflux_json(path)
    if b"\0" in head and not head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ReadError(f"{path}: binary data, starting with {head[:8]!r}.", expected="a localisation table.",
                        do="export the localisations as text, CSV or HDF5.")  # fmt: skip
    stated = read_text(path, columns=columns, dialect=dialect)
    assert stated is not None
    return stated


def parse_columns(text: str) -> dict[str, str]:
    """Split "x=X [nm],y=Y [nm],unit=nm"; raises `ParameterError` for what is none."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    columns = {meaning.strip(): name.strip() for meaning, _, name in pairs}
    if not {"x", "y"} <= set(columns) or not all(equals and name.strip() for _, equals, name in pairs):
        raise ParameterError(f"columns {text!r}.", expected="x=NAME,y=NAME, and more of the same kind.",
                             do="write --columns x=X,y=Y,frame=T,unit=nm.")  # fmt: skip
    return columns


def is_localization_table(path: Path) -> bool:
    """Whether a file of a folder is a localisation table that is recognised by its first bytes or its header."""
    if path.suffix.lower() not in TABLE_SUFFIXES:
        return False
    try:
        head = first_bytes(path)
        if head.startswith((HDF5_MAGIC, b"MATLAB 7.3")):
            return has_table(path)
        if path.suffix.lower() == ".smlm":
            return True
        if path.suffix.lower() not in (".csv", ".txt", ".tsv", ".ascii") or b"\0" in head:
            return False
        stated = read_text(path, columns=None, dialect=None, only_header=True)
        return stated is not None and bool(stated.rule)
    except (ChromamolError, OSError, ValueError, KeyError):
        return False
