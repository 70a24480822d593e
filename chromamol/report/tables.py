"""The tables of a run: one row per nucleus, one row per image. Columns are defined here and nowhere else."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import pandas as pd
import pyarrow
import pyarrow.parquet

from chromamol.errors import FieldError, ReadError
from chromamol.io import atomic_write, readable

_NUCLEI: Mapping[str, str] = MappingProxyType(
    {
        "image": "str",
        "nucleus": "int64",
        "centroid_y_um": "float64",
        "centroid_x_um": "float64",
        "area_um2": "float64",
        "heterochromatin_fraction": "float64",
        "domain_count": "Int64",
        "domain_radius_um": "float64",
        "domain_spacing_um": "float64",
        "lad_thickness_um": "float64",
        "gamma_me_per_um2": "float64",
        "gamma_me_se": "float64",
        "gamma_ac_per_um2": "float64",
        "gamma_ac_se": "float64",
        "rate_ratio": "float64",
        "rate_ratio_se": "float64",
        "valid_fraction": "float64",
        "mollifier_width_um": "float64",
        "noise_sd": "float64",
        "method": "str",
        "flags": "str",
    }
)
_PER_SECOND: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(
        (
            "gamma_me_per_s",
            "gamma_me_per_s_se",
            "gamma_ac_per_s",
            "gamma_ac_per_s_se",
            "diffusivity_um2_per_s",
            "diffusivity_se",
            "diffusivity_calibration_se",
        ),
        "float64",
    )
)

_MEASURED: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(
        (
            "domain_area_fraction",
            "lad_coverage",
            "gamma_me_calibration_se",
            "gamma_ac_calibration_se",
            "rate_ratio_calibration_se",
        ),
        "float64",
    )
)

DETAIL_TABLES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "domains": {
            "image": "str", "nucleus": "int64", "domain": "int64", "centroid_z_um": "float64",
            "centroid_y_um": "float64", "centroid_x_um": "float64", "area_um2": "float64", "volume_um3": "float64",
            "radius_um": "float64", "nearest_um": "float64", "depth_um": "float64", "is_lad": "bool",
            "thickness_um": "float64",
        },
        "calibration": {
            "image": "str", "nucleus": "int64", "plane": "str", "scale": "str", "dark_level": "float64",
            "gain": "float64", "low_level": "float64", "high_level": "float64", "blur_um": "float64",
            "phase_radius_um": "float64", "explained": "float64", "note": "str",
        },
        "sensitivity": {
            "image": "str", "nucleus": "int64", "change": "str", "gamma_me_per_um2": "float64",
            "gamma_ac_per_um2": "float64", "rate_ratio": "float64",
        },
    }
)  # fmt: skip
"""Tables beside that of the nuclei, and their columns.

`domains`: a row per interior domain and per LAD (`is_lad`): centroid from the centre of the image's first pixel, area
(volume in stacks), radius of the disc (ball) of that size, distance to the nearest interior domain, depth below the
nuclear border, and the thickness of a LAD. `calibration`: a row per plane of each nucleus: which scale was used,
dark level and gain in counts, levels of both phases as volume fractions, blur, radius and share of the variance as
fitted, and why the step between the phases is no scale where it seems to be one. `sensitivity`: rates of one nucleus
per image after the scale was moved."""

_IMAGES: Mapping[str, str] = MappingProxyType(
    {
        "image": "str",
        "path": "str",
        "sha256": "str",
        "status": "str",
        "nuclei": "int64",
        "seconds": "float64",
        "error": "str",
        "pixel_size_um": "float64",
        "pixel_size_note": "str",
        "channel_note": "str",
        "axes_note": "str",
        "notes": "str",
        "origin_y_um": "float64",
        "origin_x_um": "float64",
    }
)

NUCLEI_COLUMNS: tuple[str, ...] = tuple(_NUCLEI)
"""Columns of `nuclei.csv` in their order. Lengths in µm, rates over diffusivity in µm⁻², fractions 0..1."""

PER_SECOND_COLUMNS: tuple[str, ...] = tuple(_PER_SECOND)
"""Columns behind them when a diffusivity was given (it counts as exact) or, from a time-lapse, measured: s⁻¹, µm² s⁻¹.
The errors of a time-lapse hold the calibration; `diffusivity_calibration_se` is its part of that of D."""

MEASURED_COLUMNS: tuple[str, ...] = tuple(_MEASURED)
"""Columns behind these when rates were inferred: part of the nucleus inside domains, part of its border under LADs, and
the part of each standard error that comes from the calibration, which nuclei that share a gain have in common. The
split constant's part, a convention that they mostly share as well, is not in it."""

FOLDER_COLUMN = "folder"
"""Last column of `nuclei.csv`: where the image of the nucleus lay, as it was given."""

IMAGES_COLUMNS: tuple[str, ...] = tuple(_IMAGES)
"""Columns of `images.csv` in their order. `image` is the name of the image's folder under `images/`, the origin where
the centre of its first pixel lies in the coordinates of a localisation table; 0 for images."""

STATUSES: tuple[str, ...] = ("done", "failed", "skipped")
"""What can have become of an input."""

# A spreadsheet runs a cell that begins like this as a formula; file names can be anything.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def nuclei_frame(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the table of nuclei with its fixed columns, order and number types.

    Parameters
    ----------
    rows : one row per nucleus with any of `NUCLEI_COLUMNS` and `PER_SECOND_COLUMNS`; no row and no column
        is fine. A missing number is NaN, a missing text is empty. Other columns follow behind, as they are.

    Raises
    ------
    FieldError : rows without `image` or `nucleus`, or a value of the wrong type.
    """
    optional = {name: kind for name, kind in {**_PER_SECOND, **_MEASURED}.items() if name in rows}
    return _conform(rows, {**_NUCLEI, **optional}, required=("image", "nucleus"))


def images_frame(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the table of images with its fixed columns, order and number types, as `nuclei_frame` does."""
    return _conform(rows, _IMAGES, required=("image", "status"))


def write_tables(folder: str | Path, nuclei: pd.DataFrame, images: pd.DataFrame) -> None:
    """Write `nuclei.csv`, `nuclei.parquet` and `images.csv`, each whole or not at all.

    Nuclei get a last column, `FOLDER_COLUMN`, from the path of their image. In the CSV files NaN is an empty cell,
    and a text that a spreadsheet would run as a formula (it begins with =, +, - or @) gets a `'` in front, which
    `read_nuclei` and `read_images` take off again.

    Raises
    ------
    FieldError : rows without `image`, or a value of the wrong type.
    OutputError : a file cannot be written.
    """
    folder = Path(folder)
    nuclei, images = nuclei_frame(nuclei), images_frame(images)
    if len(nuclei):
        folders = nuclei["image"].map(folder_of_images(images)).map(_as_text).astype("str")
        nuclei = nuclei.assign(**{FOLDER_COLUMN: folders})
    _write_csv(folder / "nuclei.csv", nuclei)
    with atomic_write(folder / "nuclei.parquet") as temporary:
        nuclei.to_parquet(temporary, index=False)
    _write_csv(folder / "images.csv", images)


class DetailWriter:
    """Writes `DETAIL_TABLES` image by image, as CSV, and the domains as Parquet, too: no row is kept in memory.

    A context manager; the files take their names when its block ends well, and there are none where no image had
    any of the tables.

    Raises
    ------
    FieldError : a value of the wrong type.
    OutputError : a file cannot be written.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._files = ExitStack()
        self._csv: dict[str, IO[str]] = {}
        self._parquet: Any = None  # pyarrow.parquet.ParquetWriter, which has no types

    def __enter__(self) -> DetailWriter:
        self._files.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._files.__exit__(*error)

    def add(self, tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Append the rows of one image, by name of the table; nothing when it has no tables."""
        if tables and not self._csv:
            self._start()
        for name, rows in tables.items():
            frame = _conform(pd.DataFrame(rows), DETAIL_TABLES[name], required=("image", "nucleus"))
            _to_csv(frame, self._csv[name], header=False)
            if name == "domains" and len(frame):
                self._parquet.write_table(
                    pyarrow.Table.from_pandas(frame, self._parquet.schema, preserve_index=False)
                )

    def _start(self) -> None:
        for name, columns in DETAIL_TABLES.items():
            temporary = self._files.enter_context(atomic_write(self._folder / f"{name}.csv"))
            self._csv[name] = self._files.enter_context(temporary.open("w", encoding="utf-8", newline=""))
            empty = _conform(pd.DataFrame(), columns, required=())
            _to_csv(empty, self._csv[name], header=True)
            if name == "domains":
                temporary = self._files.enter_context(atomic_write(self._folder / f"{name}.parquet"))
                schema = pyarrow.Schema.from_pandas(empty, preserve_index=False)
                self._parquet = self._files.enter_context(pyarrow.parquet.ParquetWriter(temporary, schema))


def read_details(folder: str | Path, name: str) -> pd.DataFrame:
    """Read one of `DETAIL_TABLES` of an output folder; no rows where the folder has none.

    Raises
    ------
    ReadError : the file is there and cannot be read.
    """
    path = Path(folder) / f"{name}.csv"
    kinds = DETAIL_TABLES[name]
    return _conform(_read_csv(path, kinds) if path.is_file() else pd.DataFrame(), kinds, required=("image",))


def read_nuclei(folder: str | Path) -> pd.DataFrame:
    """Read `nuclei.csv` of an output folder, with the types of `nuclei_frame`; raises `ReadError`."""
    kinds = {**_NUCLEI, **_PER_SECOND, **_MEASURED, FOLDER_COLUMN: "str"}
    return nuclei_frame(_read_csv(Path(folder) / "nuclei.csv", kinds))


def read_images(folder: str | Path) -> pd.DataFrame:
    """Read `images.csv` of an output folder, with the types of `images_frame`; raises `ReadError`."""
    return images_frame(_read_csv(Path(folder) / "images.csv", _IMAGES))


def folder_of_images(images: pd.DataFrame) -> dict[str, str]:
    """Return the folder that each analysed input lay in, by the name of the image; empty where no path is known."""
    done = images[images["status"] == "done"]
    pairs = zip(done["image"], done["path"], strict=True)
    return {str(name): str(Path(path).parent) if path else "" for name, path in pairs}


def _conform(rows: pd.DataFrame, columns: Mapping[str, str], *, required: tuple[str, ...]) -> pd.DataFrame:
    missing = [name for name in required if name not in rows]
    if missing and len(rows):
        raise FieldError(
            f"A table of {len(rows)} rows without the column {', '.join(missing)}.",
            expected=f"at least {', '.join(required)}.",
            do="say to which image each row belongs.",
        )
    frame = {name: _column(rows, name, kind) for name, kind in columns.items()}
    others = {str(name): rows[name] for name in rows.columns if name not in columns}
    return pd.DataFrame({**frame, **others}).reset_index(drop=True)


def _column(rows: pd.DataFrame, name: str, kind: str) -> pd.Series:
    values = rows[name] if name in rows else pd.Series([None] * len(rows), index=rows.index, dtype="object")
    try:
        if kind == "str":
            return values.map(_as_text).astype("str")
        # An input that failed has no nuclei, which is zero and not unknown.
        return pd.to_numeric(values.fillna(0) if name == "nuclei" else values).astype(kind)  # type: ignore[call-overload]
    except (TypeError, ValueError) as error:
        raise FieldError(
            f"Column {name} holds {values.iloc[0]!r} and cannot be read as {kind} ({error}).",
            expected=f"values of type {kind}.",
            do="check how the column was made.",
        ) from error


def _as_text(cell: object) -> str:
    missing = cell is None or cell is pd.NA or (isinstance(cell, float) and math.isnan(cell))
    return "" if missing else readable(str(cell))


def _write_csv(path: Path, frame: pd.DataFrame) -> None:
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        _to_csv(frame, file, header=True)


def _to_csv(frame: pd.DataFrame, file: IO[str], *, header: bool) -> None:
    safe = frame.assign(**{name: frame[name].map(_guard) for name in _texts(frame)})
    safe.to_csv(file, index=False, header=header, lineterminator="\n")


def _read_csv(path: Path, columns: Mapping[str, str]) -> pd.DataFrame:
    texts = {name: "str" for name, kind in columns.items() if kind == "str"}
    try:
        # Only an empty cell is a missing number: a file may well be called "NA".
        frame = pd.read_csv(
            path, dtype=texts, keep_default_na=False, na_values={n: [""] for n in columns if n not in texts}
        )
    except (OSError, ValueError) as error:
        raise ReadError(
            f"{path}: cannot be read as a table ({error}).",
            expected="the output folder of `chromamol infer`, with nuclei.csv and images.csv in it.",
            do="give that folder, or run `chromamol infer` again.",
        ) from error
    return frame.assign(**{name: frame[name].map(_unguard) for name in _texts(frame)})


def _texts(frame: pd.DataFrame) -> list[str]:
    return [str(name) for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]


def _guard(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def _unguard(cell: object) -> object:
    return cell[1:] if isinstance(cell, str) and cell.startswith("'") and _FORMULA.match(cell) else cell
