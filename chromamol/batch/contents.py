"""What a run writes into its folder, and how that is told from what others put there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

RECORD = "provenance.json"
_RECORDED = frozenset({"version", "packages", "command_line"})

_DROPPINGS = (".DS_Store", "._*", "Thumbs.db", "desktop.ini")
"""File browsers leave these in every folder that is looked at."""


@dataclass(frozen=True)
class Contents:
    """What one kind of run writes at the top of its folder; nothing else in the folder is ever touched.

    Parameters
    ----------
    names : of files and folders.
    inside : of each of the folders, patterns of all that a run writes into it.
    is_simulation : whether the run was a simulation, whose record says what was changed.
    """

    names: tuple[str, ...]
    inside: Mapping[str, tuple[str, ...]]
    is_simulation: bool = False

    def held_by(self, folder: Path) -> list[str]:
        """Return the names that are taken in `folder`, by whomever."""
        return [name for name in self.names if os.path.lexists(folder / name)]

    def recorded_in(self, folder: Path) -> bool:
        """Whether `folder` has the record of a run of this kind: the names in it are then the run's."""
        try:
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        is_ours = isinstance(record, dict) and record.keys() >= _RECORDED
        return is_ours and ("change" in record) == self.is_simulation

    def foreign_to(self, folder: Path) -> list[Path]:
        """Return what has one of the names, or lies below one, and was not written by a run of this kind."""
        held = self.held_by(folder)
        if not self.recorded_in(folder):
            return [folder / name for name in held]
        return [path for name in held for path in _foreign(folder / name, self.inside.get(name))]


def _foreign(path: Path, patterns: tuple[str, ...] | None) -> list[Path]:
    """Return what of a file (no patterns) or folder a run has not written. Links are the user's, whatever they name."""
    is_of_its_kind = path.is_file() if patterns is None else path.is_dir()
    if path.is_symlink() or not is_of_its_kind:
        return [path]
    if patterns is None:
        return []
    found: list[Path] = []
    unlisted: list[Path] = []
    for top, folders, files in os.walk(path, onerror=lambda error: unlisted.append(Path(error.filename))):
        found += [Path(top, name) for name in files]
        found += [link for name in folders if (link := Path(top, name)).is_symlink()]
    return sorted([*unlisted, *(each for each in found if not _is_written(each, path, patterns))])


def _is_written(path: Path, folder: Path, patterns: tuple[str, ...]) -> bool:
    if path.is_symlink():
        return False
    parts = path.relative_to(folder).parts
    if any(fnmatchcase(path.name, pattern) for pattern in _DROPPINGS):
        return True
    split = [PurePath(pattern).parts for pattern in patterns]
    return any(len(each) == len(parts) and all(map(fnmatchcase, parts, each)) for each in split)


def first_inside(folders: Iterable[Path], paths: Iterable[Path]) -> Path | None:
    """Return the first of `paths` that is one of `folders` (or files) or lies in one, None if none does.

    Files are compared by their number on the disk: names may differ in case, or lead through links.
    """
    numbers = {number for folder in folders if (number := _number(folder)) is not None}
    known: dict[Path, bool] = {}
    for path in paths:
        resolved = path.resolve()
        for each in (resolved, *resolved.parents):
            if each not in known:
                known[each] = _number(each) in numbers
            if known[each]:
                return path
    return None


def _number(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
