"""The output folder: refused when it holds results, filled under another name, put in place at the end."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from chromamol.errors import OutputError

CONTENTS = (
    "nuclei.csv",
    "nuclei.parquet",
    "domains.csv",
    "domains.parquet",
    "calibration.csv",
    "sensitivity.csv",
    "images.csv",
    "report.html",
    "settings.toml",
    "provenance.json",
    "images",
)
"""What a run writes at the top of its folder; nothing else in the folder is ever touched."""

_STAGING = ".chromamol-partial-"


def require_free(output: Path, *, overwrite: bool, contents: Sequence[str] = CONTENTS) -> None:
    """Raise `OutputError` if `output` is no folder, or holds results that were not meant to be replaced."""
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file.", expected="a folder, new or existing.",
                          do="choose another --output.")  # fmt: skip
    held = [name for name in contents if (output / name).exists()]
    if held and not overwrite:
        raise OutputError(
            f"{output} already holds results ({', '.join(held)}).",
            expected="an empty or new folder.",
            do="choose another --output, or pass --overwrite to replace them.",
        )


@contextmanager
def staged(output: Path, *, contents: Sequence[str] = CONTENTS) -> Iterator[Path]:
    """Lend an empty folder inside `output`; `contents` of it take their place there when the block ends well.

    What an earlier run left there under one of these names is removed, also if this run did not make it again.

    If the block raises, nothing is left behind: not the folder, and not `output` if it was made here.

    Raises
    ------
    OutputError : the folder cannot be made or written.
    """
    missing = [folder for folder in (output, *output.parents) if not folder.exists()]
    staging = output / f"{_STAGING}{secrets.token_hex(4)}"
    try:
        staging.mkdir(parents=True)
    except OSError as error:
        raise unwritable(output, error) from error
    done = False
    try:
        yield staging
        for name in contents:
            _remove(output / name)
            if (staging / name).exists():
                (staging / name).replace(output / name)
        done = True
    except OSError as error:
        raise unwritable(output, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not done:
            for folder in missing:
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def unwritable(output: Path, error: OSError) -> OutputError:
    """Return the error for a folder that cannot be written."""
    return OutputError(
        f"{output}: cannot be written ({error.strerror or error}).",
        expected="a folder with write permission and free disk space.",
        do="check the folder and its disk, or choose another --output.",
    )
