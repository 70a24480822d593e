"""How a text table is laid out: its separator, decimal sign and header, found out from its first lines."""

from __future__ import annotations

import codecs
import csv
import mmap
import re
from dataclasses import dataclass
from pathlib import Path

from chromamol.errors import ReadError

HEAD_BYTES = 65_536

_SEPARATOR_LINE = re.compile(r'"?sep=(.|\\t)"?', re.IGNORECASE)
"""Excel's first line, which says what parts the columns."""

_COMMA = re.compile(r"[+-]?\d*,\d+(e[+-]?\d+)?", re.IGNORECASE)

_POINT = re.compile(r"[+-]?(\d+\.\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)

_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")

NO_COMMAS = "without commas inside of numbers (decimal commas, thousands separators) or with semicolons between columns"

_WORDS = re.compile(r'"[^"]*"|\S+')

_NAMES = re.compile(r'"[^"]*"|\S+(?:\s+[\[(][^\])]*[\])])*')
"""Parted by white space, a unit in brackets belongs to the name before it."""

_ROW_NAME = re.compile(r'\s*"(\d+)"[\s,;]+(?:"[^"]*"[\s,;]+)*[^"\s,;]')
"""A quoted number that begins a row in which some cell is bare: nothing but R quotes only that."""


@dataclass(frozen=True)
class Layout:
    """How the text is laid out.

    Parameters
    ----------
    header : names of the columns, empty without a line of them.
    separator : one character, or " " for any white space.
    decimal : "." or ",".
    start, stop : bytes that hold the rows.
    quoted_rows : each row is one quoted cell, as Excel leaves them.
    width : columns of a row.
    first_row : as it stands in the file, for messages.
    notes : for the record.
    grouped : a number between commas whose own comma may be a decimal sign or part thousands; empty without one.
    """

    header: tuple[str, ...]
    separator: str
    decimal: str
    start: int
    stop: int
    quoted_rows: bool
    width: int
    first_row: str = ""
    notes: tuple[str, ...] = ()
    grouped: str = ""

    @property
    def names_fit(self) -> bool:
        """Whether each cell of a row has a name, or none has."""
        return not self.header or len(self.header) == self.width


def decode(head: bytes, path: Path) -> str:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ReadError(f"{path}: text in UTF-16.", expected="text in UTF-8 or ASCII.",
                        do="save the table as CSV in UTF-8.")  # fmt: skip
    # Elyra writes its settings behind the rows, after a zero byte.
    head = head.removeprefix(codecs.BOM_UTF8).split(b"\0")[0]
    try:
        return head.decode("utf-8")
    except UnicodeDecodeError:
        return head.decode("latin-1")


def find_layout(head: str, bytes_: mmap.mmap, path: Path) -> Layout:
    """Find header, separator and decimal sign from the first lines."""
    lines = head.splitlines(keepends=True)
    stop = found if (found := bytes_.find(b"\0")) >= 0 else len(bytes_)
    start = len(codecs.BOM_UTF8) if bytes_[:3] == codecs.BOM_UTF8 else 0
    before, given = _before_header(lines)
    for _ in lines[:before]:
        start = next_line(bytes_, start)
    lines = lines[before:]
    if not lines:
        raise _no_table(path, "no row in it")
    first = _unquote_line(_first_line(lines[0]))
    separator = given or _separator(first.strip())
    cells = split_line(first, separator)
    filled = [cell for cell in cells if cell.strip()]
    has_header = not filled or not all(_is_number(cell) for cell in filled)
    body = [line.strip("\r\n") for line in lines[has_header:] if line.strip()]
    if len(bytes_) > HEAD_BYTES and len(body) > 1:
        body.pop()  # cut off where the head ends
    rows = [split_line(_unquote_line(line), separator) for line in body]
    first_row = _unquote_line(body[0]) if body else ""
    if has_header:
        start = next_line(bytes_, start)
        cells = _split_names(first, separator)
    width = len(rows[0]) if rows else len(cells)
    if width < 2:
        raise _no_table(path, f"one column, beginning {first[:40]!r}")
    names = tuple(cell.strip().strip('"').strip() for cell in cells) if has_header else ()
    header, notes = _fit_names(names, body, rows)
    quoted_rows = bool(body) and first_row != body[0]
    decimal, grouped = _decimal_sign(rows)
    return Layout(header, separator, decimal, start, stop, quoted_rows, width, first_row, notes,
                  grouped if separator == "," else "")  # fmt: skip


def _before_header(lines: list[str]) -> tuple[int, str]:
    """Return how many lines stand before the header or the first row, and the separator that they name, if any."""
    named = _SEPARATOR_LINE.fullmatch(lines[0].strip("\r\n")) if lines else None
    count = 1 if named else 0
    while count < len(lines) and (
        not lines[count].strip()
        or (lines[count].startswith("#") and not _looks_like_header(lines[count : count + 2]))
    ):
        count += 1
    return count, named[1].replace("\\t", "\t") if named else ""


def _first_line(line: str) -> str:
    # A tab before the names stays: behind it, an index without a name begins the rows.
    text = line.strip("\r\n")
    return text[1:].strip() if text.startswith("#") else text.strip(" ")


def _fit_names(
    names: tuple[str, ...], body: list[str], rows: list[list[str]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give each cell its name where it is plain which is whose, with a note; else return the names as they are."""
    if not names or not rows:
        return names, ()
    missing = len(rows[0]) - len(names)
    if missing < 0 and not any(names[missing:]):
        return names[:missing], ()
    # What separators at the end of rows leave behind.
    empty = not any(cell.strip() for row in rows for cell in row[len(names) :])
    numbered = missing == 1 and _has_row_names(body)
    if missing > 0 and empty and not numbered:
        return (*names, *[""] * missing), ()
    if numbered and not empty:
        return ("", *names), ("no name over the first column: the row names that R writes",)
    return names, ()


def _has_row_names(body: list[str]) -> bool:
    matches = [match for line in body if (match := _ROW_NAME.match(line))]
    return len(matches) == len(body) == len({match[1] for match in matches})


def misnamed(layout: Layout, path: Path) -> ReadError:
    """Return the error for a header that does not tell which name belongs to which cell."""
    parted = layout.separator == "," and len(layout.header) < layout.width
    reason = (
        "; a decimal comma between commas parts numbers" if parted and "." not in layout.first_row else ""
    )
    advice = f"{NO_COMMAS}; " if parted else ""
    return ReadError(
        f"{path}: {len(layout.header)} names ({', '.join(layout.header[:12])}) over rows of {layout.width} cells "
        f"({layout.first_row[:60]!r}{reason}).",
        expected="a name for each cell of a row.",
        do=f"export it again, {advice}from R with col.names=NA; or name columns by their numbers from 0: "
        "--columns x=1,y=2,unit=nm.",
    )


def _looks_like_header(lines: list[str]) -> bool:
    """Whether a line behind "#" names columns: it has as many cells as the next line, which are numbers."""
    if len(lines) < 2:
        return False
    names, row = lines[0].strip().removeprefix("#").strip(), lines[1].strip()
    separator = _separator(row)
    cells = split_line(row, separator)
    return (
        len(cells) > 1 and all(map(_is_number, cells)) and len(_split_names(names, separator)) == len(cells)
    )


def next_line(bytes_: mmap.mmap, start: int) -> int:
    r"""Return where the next line begins: behind \n or \r\n, or behind the lone \r of old Macintosh programs."""
    end = bytes_.find(b"\n", start)
    end = len(bytes_) if end < 0 else end + 1
    lone = bytes_.find(b"\r", start, end)
    return end if lone < 0 or bytes_[lone + 1 : lone + 2] == b"\n" else lone + 1


def _unquote_line(line: str) -> str:
    """Undo Excel's quoting of a whole line, in which the quotes of cells are doubled."""
    text = line.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        (inner,) = cells if len(cells := next(csv.reader([text]))) == 1 else (text,)
        return inner
    return line


def _separator(line: str) -> str:
    for candidate in ("\t", ";"):
        if candidate in line:
            return candidate
    # Of numbers between blanks, a comma is the decimal sign.
    blanks = all(map(_is_number, line.split())) and not all(map(_is_number, split_line(line, ",")))
    return "," if "," in line and not blanks else " "


def split_line(line: str, separator: str) -> list[str]:
    """Return the cells of a line, of which a quoted one may hold separators."""
    if separator == " ":
        return _WORDS.findall(line)
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return []


def _split_names(line: str, separator: str) -> list[str]:
    return _NAMES.findall(line) if separator == " " else split_line(line, separator)


def _decimal_sign(rows: list[list[str]]) -> tuple[str, str]:
    """Return the decimal sign, and a number with a comma where each such number may be one of thousands."""
    # More rows than the first: whole numbers are written without a sign.
    cells = [cell.strip().strip('"') for row in rows for cell in row]
    commas = [cell for cell in cells if _COMMA.fullmatch(cell)]
    if not commas or any(map(_POINT.fullmatch, cells)):
        return ".", ""
    return ",", commas[0] if all(map(_GROUPS.fullmatch, commas)) else ""


def _is_number(cell: str) -> bool:
    try:
        float(cell.strip().strip('"').replace(",", "."))
    except ValueError:
        return False
    return True


def _no_table(path: Path, found: str) -> ReadError:
    return ReadError(f"{path}: no table ({found}).", expected="a header and rows of numbers.",
                     do="export the localisations as text or CSV.")  # fmt: skip
