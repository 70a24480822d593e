"""`report.html`: one file that says what was done, what came out and how far it can be trusted."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from chromamol._version import __version__
from chromamol.errors import ReadError
from chromamol.io import write_text
from chromamol.nucleus.flags import FLAGS, SEPARATOR
from chromamol.report.columns import Column, other_columns, shown_columns
from chromamol.report.inline import data_uri
from chromamol.report.numbers import NOT_ESTIMABLE, counted, format_number, is_number
from chromamol.report.scale import scale_facts
from chromamol.report.summary import by_folder, ratio_summary
from chromamol.report.tables import STATUSES, read_images, read_nuclei
from chromamol.report.trust import flag_counts, is_outlines_only, statements

PICTURE_BYTES = (60_000, 400_000)
"""Least and most that one picture takes in the report; the full one stays in its folder."""
ALL_PICTURES_BYTES = 40_000_000
"""What all of them may take together, as far as the least allows: browsers open this."""
MAX_ROWS = 3000
"""Nuclei in the table; the rest are in nuclei.csv, and the report says so."""

UNKNOWN_FLAG = "not described in this version of chromamol"

PROVENANCE_TITLES: Mapping[str, str] = {
    "version": "chromamol",
    "git_hash": "git revision",
    "command_line": "command line",
    "device": "device",
    "started": "started",
    "finished": "finished",
    "packages": "packages",
}
"""Known keys of provenance.json, in the order of the report. Other keys follow, under their own names."""


@dataclass(frozen=True)
class ImagePart:
    """What the report says about one input."""

    anchor: str
    name: str
    path: str
    status: str
    error: str
    facts: list[tuple[str, str]]
    picture: str
    picture_path: str


@dataclass(frozen=True)
class Row:
    """One nucleus of the table."""

    image: str
    anchor: str
    number: int
    cells: list[tuple[str, str]]
    method: str
    flags: list[tuple[str, str]]


def write_report(folder: str | Path) -> Path:
    """Write `report.html` from what lies in the output folder of `chromamol infer`, and return its path.

    Read are nuclei.csv, images.csv, calibration.csv, sensitivity.csv, settings.toml, provenance.json and
    images/*/overview.png; nothing is
    computed again. The file needs no other file and no network.

    Raises
    ------
    ReadError : nuclei.csv or images.csv is missing or broken, provenance.json is no JSON.
    OutputError : the report cannot be written.
    """
    folder = Path(folder)
    path = folder / "report.html"
    write_text(path, _template().render(_context(folder)))
    return path


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("chromamol.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _context(folder: Path) -> dict[str, Any]:
    nuclei, images = read_nuclei(folder), read_images(folder)
    anchors = {str(name): f"image-{i}" for i, name in enumerate(images["image"], start=1) if name}
    outlines = is_outlines_only(nuclei)
    columns = shown_columns(nuclei, outlines=outlines)
    folders = [] if outlines else by_folder(nuclei, images)
    return {
        "version": __version__,
        "outlines": outlines,
        "headline": _headline(nuclei, images, has_ratio=not (outlines or folders)),
        "folders": folders,
        "provenance": _provenance(folder, nuclei),
        "statements": statements(nuclei),
        "images": _image_parts(folder, images, nuclei),
        "columns": columns,
        "flags_after": sum(column.is_rate for column in columns),
        "rows": [_row(record, columns, anchors) for record in _records(nuclei.head(MAX_ROWS))],
        "left_out": max(0, len(nuclei) - MAX_ROWS),
        "other_columns": other_columns(nuclei),
        "not_estimable": NOT_ESTIMABLE,
        "raised": _raised(nuclei),
        "not_raised": [] if outlines else _not_raised(nuclei),
        "settings": _text_or_empty(folder / "settings.toml"),
    }


def _headline(nuclei: pd.DataFrame, images: pd.DataFrame, *, has_ratio: bool) -> list[tuple[str, str, str]]:
    """Number, what it is, and a remark."""
    states = images["status"].value_counts()
    parts = [(*_counted(int(states.get(state, 0)), "image", state), "") for state in STATUSES]
    parts = [(*_counted(len(nuclei), "nucleus"), ""), *parts]
    if not has_ratio:
        return parts
    ratio = ratio_summary(nuclei)
    return [(ratio.number, "rate ratio Γme / Γac", ratio.remark), *parts]


def _counted(number: int, one: str, state: str = "") -> tuple[str, str]:
    figure, noun = counted(number, one).split(" ", 1)
    return figure, f"{noun} {state}".strip()


def _raised(nuclei: pd.DataFrame) -> list[tuple[str, str, int]]:
    """Flags of the nuclei, what each means, and how many carry it."""
    counts = flag_counts(nuclei)
    known = [(_words(name), text, counts[name]) for name, text in FLAGS.items() if name in counts]
    return known + [(_words(name), UNKNOWN_FLAG, n) for name, n in counts.items() if name not in FLAGS]


def _not_raised(nuclei: pd.DataFrame) -> list[tuple[str, str]]:
    counts = flag_counts(nuclei)
    return [(_words(name), text) for name, text in FLAGS.items() if name not in counts]


def _provenance(folder: Path, nuclei: pd.DataFrame) -> list[tuple[str, str]]:
    path = folder / "provenance.json"
    text = _text_or_empty(path)
    try:
        given = json.loads(text) if text else {}
    except ValueError as error:
        raise ReadError(f"{path}: no JSON ({error}).", expected="the file that `chromamol infer` wrote.",
                        do="run `chromamol infer` again.") from error  # fmt: skip
    methods = ", ".join(sorted({str(m) for m in nuclei["method"]} - {""}))
    known = [(title, given[key]) for key, title in PROVENANCE_TITLES.items() if key in given]
    others = [(_words(key), value) for key, value in given.items() if key not in PROVENANCE_TITLES]
    rows = [(title, _as_text(value)) for title, value in known + others if value is not None]
    return [*rows, ("method", methods)] if methods else rows


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return shlex.join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key} {_as_text(item)}" for key, item in value.items() if item is not None)
    return str(value)


def _image_parts(folder: Path, images: pd.DataFrame, nuclei: pd.DataFrame) -> list[ImagePart]:
    least, most = PICTURE_BYTES
    done = int((images["status"] == "done").sum())
    limit = max(least, min(most, ALL_PICTURES_BYTES // max(1, done)))
    own = {str(name): group for name, group in nuclei.groupby("image")}
    scales = scale_facts(folder)
    return [
        _image_part(folder, record, i, own.get(record["image"]), limit, scales.get(record["image"], []))
        for i, record in enumerate(_records(images), start=1)
    ]


def _image_part(
    folder: Path,
    record: Mapping[str, Any],
    number: int,
    nuclei: pd.DataFrame | None,
    limit: int,
    scale: list[tuple[str, str]],
) -> ImagePart:
    # Only the last part of the name: a table that was tampered with must not reach outside the folder.
    name = Path(record["image"]).name
    relative = Path("images", name, "overview.png")
    has_picture = bool(name) and (folder / relative).is_file()
    return ImagePart(
        anchor=f"image-{number}",
        name=Path(record["path"]).name or record["image"],
        path=record["path"],
        status=record["status"],
        error=record["error"],
        facts=_facts(record, nuclei, scale),
        picture=data_uri(folder / relative, max_bytes=limit) if has_picture else "",
        picture_path=relative.as_posix(),
    )


def _facts(
    record: Mapping[str, Any], nuclei: pd.DataFrame | None, scale: list[tuple[str, str]]
) -> list[tuple[str, str]]:
    facts = [("nuclei", str(record["nuclei"]))] if record["status"] == "done" else []
    if nuclei is not None and nuclei["rate_ratio"].notna().any():
        facts.append(("rate ratio", ratio_summary(nuclei).sentence))
    if is_number(record["pixel_size_um"]):
        note = f" ({record['pixel_size_note']})" if record["pixel_size_note"] else ""
        facts.append(("pixel size", f"{record['pixel_size_um']:g} µm{note}"))
    elif record["pixel_size_note"]:
        facts.append(("pixel size", record["pixel_size_note"]))
    facts += [
        ("channel", record["channel_note"]),
        ("axes", record.get("axes_note", "")),
        *scale,
        ("notes", record["notes"]),
        ("SHA-256", record["sha256"]),
    ]
    if is_number(record["seconds"]) and record["status"] != "skipped":
        facts.append(("time", f"{format_number(record['seconds'], digits=2)} s"))
    return [(title, text) for title, text in facts if text]


def _row(record: Mapping[str, Any], columns: list[Column], anchors: Mapping[str, str]) -> Row:
    names = [name for name in record["flags"].split(SEPARATOR) if name]
    return Row(
        image=record["image"],
        anchor=anchors.get(record["image"], ""),
        number=record["nucleus"],
        cells=[(column.show(record), column.sort_key(record)) for column in columns],
        method=record["method"],
        flags=[(_words(name), FLAGS.get(name, UNKNOWN_FLAG)) for name in names],
    )


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in record.items()} for record in frame.to_dict("records")]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _text_or_empty(path: Path) -> str:
    if not path.is_file():
        return ""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ReadError(f"{path}: cannot be read ({error}).", expected="a UTF-8 text file.",
                        do="check the file and its permissions.") from error  # fmt: skip
