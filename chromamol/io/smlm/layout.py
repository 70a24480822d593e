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

_DECIMAL_COMMA = re.compile(r"\d,\d")


@dataclass(frozen=True)
class Layout:
    """How the text is laid out.

    Parameters
    ----------
    header : names of the columns, empty without one.
    separator : one character, or " " for any white space.
    decimal : "." or ",".
    start, stop : bytes that hold the rows.
    quoted_rows : each row is one quoted cell, as Excel leaves them.
    width : columns of a row.
    """

    header: tuple[str, ...]
    separator: str
    decimal: str
    start: int
    stop: int
    quoted_rows: bool
    width: int


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
    while lines and (not lines[0].strip() or (lines[0].startswith("#") and not _looks_like_header(lines))):
        lines.pop(0)
        start = next_line(bytes_, start)
    if not lines:
        raise _no_table(path, "no row in it")
    first = lines[0].strip("\r\n").removeprefix("#").strip()
    second = lines[1].strip("\r\n") if len(lines) > 1 else ""
    unquoted = _unquote_line(first)
    separator = _separator(unquoted)
    cells = _split(unquoted, separator)
    has_header = not all(_is_number(cell) for cell in cells)
    row = second if has_header else unquoted
    quoted_rows = bool(row) and _unquote_line(row) != row
    decimal = "," if _has_decimal_comma(_unquote_line(row), separator) else "."
    if has_header:
        start = next_line(bytes_, start)
    width = len(_split(_unquote_line(row), separator)) if row.strip() else len(cells)
    header = tuple(cell.strip().strip('"').strip() for cell in cells) if has_header else ()
    if width < 2:
        raise _no_table(path, f"one column, beginning {first[:40]!r}")
    return Layout(header, separator, decimal, start, stop, quoted_rows, width)


def _looks_like_header(lines: list[str]) -> bool:
    """Whether a line behind "#" names columns: it has as many cells as the next line, which are numbers."""
    if len(lines) < 2:
        return False
    names, row = lines[0].strip().removeprefix("#").strip(), lines[1].strip()
    separator = _separator(row)
    cells = _split(row, separator)
    return len(cells) > 1 and all(map(_is_number, cells)) and len(_split(names, separator)) == len(cells)


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
    for candidate in ("\t", ";", ","):
        if candidate in line:
            return candidate
    return " "


def _split(line: str, separator: str) -> list[str]:
    if separator == " ":
        return line.split()
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return []


def _has_decimal_comma(row: str, separator: str) -> bool:
    if separator == ",":
        return any(_DECIMAL_COMMA.search(cell) for cell in _split(row, ","))
    return bool(_DECIMAL_COMMA.search(row)) and "." not in row


def _is_number(cell: str) -> bool:
    try:
        float(cell.strip().strip('"').replace(",", "."))
    except ValueError:
        return False
    return True


def _no_table(path: Path, found: str) -> ReadError:
    return ReadError(f"{path}: no table ({found}).", expected="a header and rows of numbers.",
                     do="export the localisations as text or CSV.")  # fmt: skip
