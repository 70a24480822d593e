"""Public sample files: where they are from, their checksum, licence and citation.

Nothing is downloaded unless a file is asked for by name. The cache folder is the environment variable
`CHROMAMOL_DATA`, else the user's cache folder for chromamol.
"""

from __future__ import annotations

import functools
import os
import re
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pooch

from chromamol.errors import DatasetError

CACHE_VARIABLE = "CHROMAMOL_DATA"

DOWNLOAD_TIMEOUT_S = 10.0
"""Without a network the answer comes within this time, not after minutes."""


@dataclass(frozen=True)
class Dataset:
    """One sample file.

    Parameters
    ----------
    name : what `fetch` takes.
    path : its place in the cache folder.
    sha256 : checksum of its bytes.
    url : where it can be downloaded; None if it has no address of its own.
    title, origin, licence, citation : what it is, whose it is, and how to cite it.
    """

    name: str
    path: str
    sha256: str
    url: str | None
    title: str
    origin: str
    licence: str
    citation: str


def names() -> tuple[str, ...]:
    """Return the names of all sample files, sorted."""
    return tuple(sorted(_registry()))


def describe(name: str) -> Dataset:
    """Return what is recorded about a sample file; raises `DatasetError` for an unknown name."""
    try:
        return _registry()[name]
    except KeyError as error:
        alike = [known for known in names() if name.lower() in known][:5] or ["hela_cells"]
        raise DatasetError(
            f"{name!r} is no sample file.",
            expected=f"a name such as {', '.join(alike)}.",
            do="see chromamol.datasets.names().",
        ) from error


def cache_folder() -> Path:
    """Return the folder in which sample files are looked up and stored."""
    folder = os.environ.get(CACHE_VARIABLE)
    return Path(folder) if folder else Path(pooch.os_cache("chromamol"))


def fetch(name: str) -> Path:
    """Return the path of a sample file, from the cache folder, else downloaded into it.

    Parameters
    ----------
    name : one of `names()`, for instance "hela_cells".

    Raises
    ------
    DatasetError : unknown name, no network, no known address, or bytes that differ from the record.
    """
    dataset = describe(name)
    path = cache_folder() / dataset.path
    if path.is_file():
        _require_checksum(path, dataset)
        return path
    if dataset.url is None:
        raise DatasetError(
            f"{name}: {path} is not there, and this file has no address to download it from.",
            expected=f"the file, with SHA-256 {dataset.sha256}.",
            do=f"get it from {dataset.origin}, put it there, or set {CACHE_VARIABLE} to its folder.",
        )
    return _download(dataset, dataset.url, path)


def _require_checksum(path: Path, dataset: Dataset) -> None:
    found = pooch.file_hash(str(path), alg="sha256")
    if found != dataset.sha256:
        raise DatasetError(
            f"{dataset.name}: {path} has SHA-256 {found}.",
            expected=f"{dataset.sha256}, the sum of the file as published.",
            do="delete that file and fetch it again.",
        )


def _download(dataset: Dataset, url: str, path: Path) -> Path:
    try:
        pooch.retrieve(
            url,
            known_hash=f"sha256:{dataset.sha256}",
            fname=path.name,
            path=path.parent,
            downloader=pooch.HTTPDownloader(timeout=DOWNLOAD_TIMEOUT_S),
        )
    # requests' errors are OSErrors; pooch raises ValueError for a wrong checksum.
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{dataset.name}: could not be downloaded from {url} ({type(error).__name__}).",
            expected=f"a network, a cache folder with write permission, and SHA-256 {dataset.sha256}.",
            do=f"download it by hand to {path}, or set {CACHE_VARIABLE} to a folder that has it.",
        ) from error
    return path


@functools.cache
def _registry() -> dict[str, Dataset]:
    folder = resources.files("chromamol") / "data"
    sources = tomllib.loads((folder / "datasets.toml").read_text(encoding="utf-8"))["source"]
    registry: dict[str, Dataset] = {}
    for source in sources.values():
        files = dict(source.get("files", {}))
        if "sums" in source:
            files |= _parse_sums((folder / source["sums"]).read_text(encoding="ascii"))
        for name, entry in files.items():
            upstream = entry.get("upstream")
            registry[name] = Dataset(
                name=name,
                path=entry["path"],
                sha256=entry["sha256"],
                url=source["url"] + upstream if upstream else None,
                title=source["title"],
                origin=source["origin"],
                licence=source["licence"],
                citation=source["citation"],
            )
    return registry


def _parse_sums(text: str) -> dict[str, dict[str, str]]:
    """Read lines as `sha256sum` writes them; the name is the path without its ending."""
    rows = (line.split(maxsplit=1) for line in text.splitlines())
    return {re.sub(r"\.[^./]+$", "", path): {"path": path, "sha256": digest} for digest, path in rows}
