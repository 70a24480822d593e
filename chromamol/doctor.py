"""What works on this machine."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from chromamol._version import __version__
from chromamol.provenance import PACKAGES, git_hash, installed_version

OPTIONAL_READERS = {"nd2": "ND2", "liffile": "LIF", "czifile": "CZI", "zarr": "OME-Zarr"}
"""Package of the extra `formats` -> what it reads. OME-Zarr is read through zarr itself (`io.ome_zarr`)."""


def checks() -> Iterator[tuple[str, str]]:
    """Yield (name, finding) of every check."""
    commit = git_hash()
    yield "chromamol", __version__ + (f" ({commit[:12]})" if commit else "")
    yield "python", f"{platform.python_version()} on {platform.platform()}"
    for package in (*PACKAGES, "imagecodecs", "pyarrow"):
        yield package, installed_version(package) or "not installed"
    yield from _devices()
    yield from _memory()
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    yield "free disk", f"{free:.1f} GiB in {Path.cwd()}"
    yield "readers", "TIFF, OME-TIFF, ImageJ TIFF, LSM; localisation tables"
    for package, formats in OPTIONAL_READERS.items():
        found = installed_version(package)
        yield f"reader {package}", f"{formats}: {found or 'not installed: pip install chromamol[formats]'}"
    yield "sample files", _samples()


def _devices() -> Iterator[tuple[str, str]]:
    import torch  # noqa: PLC0415 - slow to import, needed only here

    yield "cpu threads", str(torch.get_num_threads())
    if not torch.cuda.is_available():
        yield "cuda", "none; --device auto runs on the CPU"
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        yield f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"


def _memory() -> Iterator[tuple[str, str]]:
    import psutil  # noqa: PLC0415 - needed only here

    memory = psutil.virtual_memory()
    yield "memory", f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"


def _samples() -> str:
    from chromamol.datasets import cache_folder  # noqa: PLC0415 - pooch loads when it is used

    return f"{cache_folder()} (set CHROMAMOL_DATA to change)"
