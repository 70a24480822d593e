"""Delimited text, as instruments, Excel and scripts write it: what its columns mean, and their values."""

from __future__ import annotations

import mmap
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv

from chromamol.errors import ReadError
from chromamol.io.smlm.dialects import BY_NAME, DIALECTS, OSNAP, OSNAP_NAME, Dialect, by_meaning, split_unit
from chromamol.io.smlm.layout import (
    HEAD_BYTES,
    NO_COMMAS,
    Layout,
    decode,
    find_layout,
    misnamed,
    next_line,
    split_line,
)
from chromamol.io.smlm.rapidstorm import RAPIDSTORM_START, read_rapidstorm
from chromamol.io.smlm.stated import LENGTHS, OTHERS, PIXELS, StatedTable
from chromamol.io.source import require_memory
from chromamol.units import um_per_unit

_NO_NUMBER = re.compile(r"(?:invalid value|parse string) (['\"])(.+)\1")

_OTHER_LENGTH = re.compile(r"Expected (\d+) columns, got (\d+)")

_SIGNS = re.compile(r"[+-]?\d+(?:[.,'’\s]\d+)+")

_WHOLE = re.compile(r"^(\d+)\.0+$")


def read_text(
    path: Path, *, columns: Mapping[str, str] | None, dialect: str | None, only_header: bool = False
) -> StatedTable | None:
    """Read a text table, or with `only_header` say by None that its columns are not recognised.

    Parameters
    ----------
    columns : the user's word: meaning -> name or number (from 0) of a column, and "unit" -> unit of x, y and of columns
        whose names state none.
    dialect : a name of `BY_NAME`, for tables that don't say what they are.

    Raises
    ------
    ReadError : no text, no table, rows that differ in length, cells that are no numbers.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as bytes_:
        head = decode(bytes_[:HEAD_BYTES], path)
        if head.startswith(RAPIDSTORM_START):
            return read_rapidstorm(path, bytes_, start=next_line(bytes_, 0))
        layout = find_layout(head, bytes_, path)
        places, stated = _recognise(layout, path, columns, dialect)
        _add_channel(places, layout)
        if not {"x", "y"} <= set(places):
            if only_header:
                return None
            raise _unknown(layout, path)
        if only_header:
            return stated
        if not layout.names_fit and not _all_by_number(layout, columns):
            raise misnamed(layout, path)
        if layout.grouped:
            raise ReadError(f"{path}: numbers such as {layout.grouped!r} between commas.",
                            expected="a decimal sign that can't be one of thousands.",
                            do=f"export the table {NO_COMMAS}.")  # fmt: skip
        values = _values(bytes_, layout, places, path)
    names: tuple[str, ...] = ()
    if "channel" in values and values["channel"].dtype.kind not in "iuf":
        names, values["channel"] = _name_channels(values["channel"])
    return StatedTable(values, stated.units, stated.dialect, stated.rule, stated.pixel_um, stated.pixel_rule, names,
                       (*layout.notes, *stated.notes))  # fmt: skip


def _all_by_number(layout: Layout, columns: Mapping[str, str] | None) -> bool:
    wanted = [name for meaning, name in (columns or {}).items() if meaning != "unit"]
    return bool(wanted) and all(name.isdecimal() and name not in layout.header for name in wanted)


def _recognise(
    layout: Layout, path: Path, columns: Mapping[str, str] | None, dialect: str | None
) -> tuple[dict[str, int], StatedTable]:
    """Decide what the columns mean: the user's word, then a dialect, then the words and units of the header."""
    lower = [name.lower() for name in layout.header]
    if columns:
        return _by_user(layout, path, columns)
    known = BY_NAME[dialect] if dialect else next((d for d in DIALECTS if d.fits(lower)), None)
    if known is None and OSNAP_NAME.search(path.name) and OSNAP.fits(lower):
        known = OSNAP
    if known is not None:
        return _by_dialect(known, lower, layout.width)
    places, units = by_meaning(layout.header)
    units = {name: unit for name, unit in units.items() if name in LENGTHS}
    rule = "as the header says" if "x" in units else ""
    return places, StatedTable({}, units, "named columns", rule)


def _add_channel(places: dict[str, int], layout: Layout) -> None:
    # Whoever wrote or named the columns: localisations of several probes are not those of one.
    place = by_meaning(layout.header)[0].get("channel")
    if place is not None and layout.names_fit and "channel" not in places and place not in places.values():
        places["channel"] = place


def _by_dialect(known: Dialect, lower: list[str], width: int) -> tuple[dict[str, int], StatedTable]:
    places = {
        meaning: next(lower.index(name) for name in names if name in lower)
        for meaning, names in known.columns.items()
        if any(name in lower for name in names)
    }
    if not lower:
        places = dict(zip("xyz"[: min(width, 3)], range(width), strict=False))
    taken = ", ".join(lower[places[axis]] for axis in "xyz" if axis in places) if lower else "first columns"
    notes = (f"positions from {taken}",) if lower and lower[places.get("x", 0)] not in ("x", "x [nm]") else ()
    pixel = None if known.pixel_um is None else (known.pixel_um,) * 2
    return places, StatedTable({}, {"x": known.unit, **known.units}, known.name, known.rule, pixel,
                               f"the camera pixel of {known.name}", notes=notes)  # fmt: skip


def _by_user(layout: Layout, path: Path, columns: Mapping[str, str]) -> tuple[dict[str, int], StatedTable]:
    places = {}
    for meaning, wanted in columns.items():
        if meaning == "unit":
            continue
        matches = [i for i, name in enumerate(layout.header) if name == wanted]
        if not matches and wanted.isdecimal() and int(wanted) < layout.width:
            matches = [int(wanted)]
        if meaning not in (*LENGTHS, *OTHERS) or len(matches) != 1:
            raise ReadError(
                f"{path}: --columns {meaning}={wanted} with columns {', '.join(layout.header) or layout.width}.",
                expected=f"{', '.join((*LENGTHS, *OTHERS))}, each = one column's name, or its number from 0.",
                do="correct --columns, for instance x=X,y=Y,frame=T,unit=nm.",
            )
        places[meaning] = matches[0]
    own = _units_of_header(layout, places)
    units, rule = _with_unit(columns["unit"], own) if columns.get("unit") else (own, "as the header says")
    return places, StatedTable({}, units, "columns named by the user", rule)


def _units_of_header(layout: Layout, places: Mapping[str, int]) -> dict[str, str]:
    if not layout.header or not layout.names_fit:
        return {}
    units = {name: split_unit(layout.header[place])[1] for name, place in places.items() if name in LENGTHS}
    return {name: unit for name, unit in units.items() if unit}


def _with_unit(given: str, own: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Return units by the user's word, which goes before the header for x and y only, and the words for it."""
    other = {name: unit for name, unit in own.items() if _size(unit) not in (None, _size(given))}
    kept = {name: unit for name, unit in other.items() if name not in ("x", "y")}
    passed_over = sorted({unit for name, unit in other.items() if name not in kept})
    rule = "given by the user" + (f" (the header says {', '.join(passed_over)})" if passed_over else "")
    if kept:
        rule += f"; {', '.join(f'{name} in {unit}' for name, unit in kept.items())}, as the header says"
    return {"x": given, **kept}, rule


def _size(unit: str) -> float | str | None:
    return "px" if unit in PIXELS else um_per_unit(unit)


def _values(bytes_: mmap.mmap, layout: Layout, places: dict[str, int], path: Path) -> dict[str, np.ndarray]:
    if layout.stop <= layout.start:
        return {meaning: np.empty(0) for meaning in places}
    require_memory(layout.stop - layout.start, name=str(path))
    try:
        if layout.quoted_rows:
            text = (
                bytes_[layout.start : layout.stop]
                .replace(b'""', b"\1")
                .replace(b'"', b"")
                .replace(b"\1", b'"')
            )
            return _arrow(pa.py_buffer(text), layout, places)
        if layout.separator == " ":
            return _white_space(bytes_[layout.start : layout.stop], layout, places)
        return _arrow(pa.py_buffer(memoryview(bytes_)[layout.start : layout.stop]), layout, places)
    except (pa.ArrowInvalid, pd.errors.ParserError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0][:200]
    # Raised out here: a chained error would keep the map of the file in use, which then could not be closed.
    raise _unreadable(layout, path, reason)


def _unreadable(layout: Layout, path: Path, reason: str) -> ReadError:
    found, lengths = _NO_NUMBER.search(reason), _OTHER_LENGTH.search(reason)
    do = "export the table again, or name its columns with --columns."
    if found and _SIGNS.fullmatch(found[2]):
        do = "export the table with one decimal sign throughout, and without thousands separators."
    elif layout.separator == "," and lengths and int(lengths[2]) > int(lengths[1]):
        do = f"export the table {NO_COMMAS}."
    return ReadError(
        f"{path}: rows that can't be read ({reason}).",
        expected=f"{layout.width} cells in each row, numbers with {layout.decimal!r} as decimal sign.",
        do=do,
    )


def _arrow(rows: pa.Buffer, layout: Layout, places: dict[str, int]) -> dict[str, np.ndarray]:
    names = [str(i) for i in range(layout.width)]
    wanted = {
        str(place): pa.string() if meaning == "channel" else pa.float64() for meaning, place in places.items()
    }
    table = pacsv.read_csv(
        pa.BufferReader(rows),
        read_options=pacsv.ReadOptions(column_names=names, use_threads=False),
        parse_options=pacsv.ParseOptions(delimiter=layout.separator, newlines_in_values=False),
        convert_options=pacsv.ConvertOptions(include_columns=list(wanted), column_types=wanted,
                                             decimal_point=layout.decimal),
    )  # fmt: skip
    return {meaning: _column(table[str(place)]) for meaning, place in places.items()}


def _column(column: pa.ChunkedArray) -> np.ndarray:
    if pa.types.is_string(column.type):
        coded = column.combine_chunks().dictionary_encode()
        words = np.array([word or "" for word in coded.dictionary.to_pylist()], dtype=object)
        codes = coded.indices.fill_null(0).to_numpy(zero_copy_only=False)
        return words[codes] if words.size else np.full(len(column), "", dtype=object)
    return column.to_numpy().astype(np.float64)


def _white_space(rows: bytes, layout: Layout, places: dict[str, int]) -> dict[str, np.ndarray]:
    text = pa.BufferReader(pa.py_buffer(rows))
    # All columns are read: with some, pandas passes over what rows have too much.
    words = {place: str for meaning, place in places.items() if meaning == "channel"}
    frame = pd.read_csv(text, sep=r"\s+", header=None, names=range(layout.width), decimal=layout.decimal, engine="c",
                        encoding="latin-1", dtype=words)  # fmt: skip
    if frame[layout.width - 1].isna().any():
        _require_whole_rows(rows, layout.width)
    return {
        meaning: frame[place].fillna("").to_numpy(dtype=object)
        if place in words
        else pd.to_numeric(frame[place]).to_numpy(dtype=np.float64)
        for meaning, place in places.items()
    }


def _require_whole_rows(rows: bytes, width: int) -> None:
    """Raise `ValueError` where a row has too few cells, which pandas fills up at the end."""
    for number, line in enumerate(rows.splitlines(), start=1):
        if line.strip() and len(cells := split_line(line.decode("latin-1"), " ")) < width:
            raise ValueError(f"row {number}: {len(cells)} cells")


def _name_channels(words: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    found, spelled = pd.factorize(words)
    # Programs that write all numbers with decimals write channel 1 as 1.0, which nobody would name it.
    plain = np.array([_WHOLE.sub(r"\1", str(word).strip()) for word in spelled], dtype=object)
    codes, names = pd.factorize(plain, sort=True)
    return tuple(str(name) for name in names), codes[found]


def _unknown(layout: Layout, path: Path) -> ReadError:
    columns = ", ".join(layout.header[:12]) if layout.header else f"{layout.width} columns without names"
    return ReadError(
        f"{path}: columns not recognised as x and y ({columns}).",
        expected=f"a table of {', '.join(d.name for d in DIALECTS)}, rapidSTORM, or named columns.",
        do="say it with --columns x=NAME,y=NAME,unit=nm (numbers from 0 where there are no names).",
    )
