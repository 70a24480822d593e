"""`discover`: the files and folders of a command line become an ordered list of inputs."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from chromamol.errors import ReadError
from chromamol.io.ome_zarr import is_zarr
from chromamol.io.reading import OPENERS
from chromamol.io.smlm import is_localization_table

MAX_STEM_BYTES = 120

_LABEL_NAME = re.compile(r"(^|[_.\- ])(labels?|masks?([23]d)?|cp_masks|stardist|outlines)$", re.IGNORECASE)
"""Masks of other tools, which lie beside the images: Cellpose `_cp_masks`, StarDist `.stardist`, ours."""

_DEVICE_NAME = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """One input.

    Parameters
    ----------
    path : as given, or folder / name.
    stem : name of its folder in the output, unique among the inputs; empty for what is not read.
    skipped : why a file in a folder is not read; empty if it is.
    error : why a path that was given cannot be read.
    """

    path: Path
    stem: str = ""
    skipped: str = ""
    error: ReadError | None = None

    @property
    def is_readable(self) -> bool:
        return not self.skipped and self.error is None


def discover(paths: Iterable[str | Path], *, suffixes: Iterable[str] = tuple(OPENERS)) -> list[Found]:
    """List the inputs of a run, in the order given; the files of a folder by name.

    A file that is named is always taken. Of a folder, the files with one of `suffixes` and the localisation tables
    whose dialect is recognised are taken, not
    those in folders inside it; hidden files, label images and other things are listed as skipped, with the
    reason. A file that is met twice is listed once. A path that is not there becomes an entry with an error.

    Stems: the file name without its ending, with every character that is not a letter, digit, ".", "-" or
    "_" replaced by "_". Inputs that would share a stem (upper and lower case count as the same, for file
    systems that think so) get the name of their folder in front, `treated-img01`; those that still do get
    the first 8 hexadecimal digits of the SHA-256 of their full path behind. The rule looks at the set of
    inputs only, not at their order.
    """
    found: list[Found] = []
    for path in map(Path, paths):
        is_folder = path.is_dir() and not is_zarr(path)
        found += _in_folder(path, tuple(suffixes)) if is_folder else [_named(path)]
    named = {f.path.resolve() for f in found if f.is_readable}
    listed: dict[Path, Found] = {}
    for entry in found:
        # A file that is named and also lies in a folder that was given is read, whatever the folder says.
        if entry.skipped and entry.path.resolve() in named:
            continue
        listed.setdefault(entry.path.resolve(), entry)
    return _with_stems(list(listed.values()))


def _named(path: Path) -> Found:
    if path.exists():
        return Found(path)
    return Found(
        path,
        error=ReadError(
            f"{path}: no such file or folder.",
            expected="an image, or a folder of images.",
            do="check the path and its spelling.",
        ),
    )


def _in_folder(folder: Path, suffixes: tuple[str, ...]) -> list[Found]:
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        refused = ReadError(f"{folder}: the folder cannot be listed ({error.strerror or error}).",
                            expected="a readable folder.", do="check its permissions.")  # fmt: skip
        return [Found(folder, error=refused)]
    found = [Found(path, skipped=_reason_to_skip(path, suffixes)) for path in entries]
    if any(entry.is_readable for entry in found):
        return found
    empty = ReadError(
        f"{folder}: no image in this folder ({len(found)} other entries).",
        expected=f"files ending in {', '.join(suffixes)}.",
        do="give the folder that holds the images; folders inside it are not searched.",
    )
    return [*found, Found(folder, error=empty)]


def _reason_to_skip(path: Path, suffixes: tuple[str, ...]) -> str:
    if path.name.startswith("."):
        return "hidden file"
    if is_zarr(path):
        return ""
    if path.is_dir():
        return "a folder inside a folder is not searched"
    if path.suffix.lower() not in suffixes and not is_localization_table(path):
        return f"neither an image nor a localisation table that is read ({path.suffix or 'no ending'})"
    if _LABEL_NAME.search(_without_ending(path.name)):
        return "looks like a label image; name the file itself to analyse it"
    return ""


def _without_ending(name: str) -> str:
    return re.sub(r"(\.ome)?\.[^.]*$", "", name, flags=re.IGNORECASE) or name


def safe_stem(name: str) -> str:
    """Return a file name's stem as every file system accepts it.

    >>> safe_stem('=cmd|"x" <b>.ome.tif')
    '_cmd__x___b_'
    """
    stem = re.sub(r"[^\w.\-]", "_", unicodedata.normalize("NFC", _without_ending(name)))
    stem = stem.encode("utf-8", "ignore")[:MAX_STEM_BYTES].decode("utf-8", "ignore").strip(".")
    stem = f"_{stem}" if _DEVICE_NAME.match(stem) or stem.startswith("-") else stem
    return stem or "image"


def _with_stems(found: list[Found]) -> list[Found]:
    readable = [entry for entry in found if entry.is_readable]
    level = [0] * len(readable)
    stems = [_stem_at(entry.path, 0) for entry in readable]
    for _ in range(2 * len(readable)):
        shared = Counter(stem.casefold() for stem in stems)
        clashing = [i for i, stem in enumerate(stems) if shared[stem.casefold()] > 1 and level[i] < 2]
        if not clashing:
            break
        for i in clashing:
            level[i] += 1
            stems[i] = _stem_at(readable[i].path, level[i])
    unique = iter(stems)
    return [replace(entry, stem=next(unique)) if entry.is_readable else entry for entry in found]


def _stem_at(path: Path, level: int) -> str:
    stem = safe_stem(path.name)
    if level == 0:
        return stem
    full = path.resolve()
    stem = f"{safe_stem(full.parent.name + '.')}-{stem}" if full.parent.name else stem
    if level == 1:
        return stem
    return f"{stem}-{hashlib.sha256(str(full).encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
