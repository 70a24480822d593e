"""What ran, where, on what: the record beside every result."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from chromamol._version import __version__
from chromamol.io import readable

PACKAGES = ("torch", "numpy", "scipy", "scikit-image", "tifffile", "pandas", "matplotlib")

PRECISION = "float64 (float32: weights of networks, inner solves of joint fits)"
"""Of the numbers that results are computed with, by default."""


def record(*, command: list[str], device: str, started: datetime) -> dict[str, Any]:
    """Return the record of a run that ends now; times are UTC in ISO 8601, file names `readable`."""
    return {
        "version": __version__,
        "git_hash": git_hash(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: installed_version(name) for name in PACKAGES},
        "device": device,
        "dtype": PRECISION,
        "command_line": [readable(part) for part in command],
        "started": started.isoformat(timespec="seconds"),
        "finished": now().isoformat(timespec="seconds"),
    }


def now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


def installed_version(package: str) -> str | None:
    """Return the version of a package, None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def code_version() -> str:
    """Return the version of the package, with the commit where it runs from its source tree."""
    commit = git_hash()
    return __version__ if commit is None else f"{__version__}+{commit[:12]}"


def git_hash() -> str | None:
    """Return the commit of the source tree that the package runs from, None for an installed release."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None  # git is not installed, or the folder is not its own repository's
    return answer.stdout.strip() or None
