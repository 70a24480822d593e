"""Write a file whole or not at all. Everything that chromamol writes goes through here."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chromamol.errors import OutputError


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Lend a temporary path in the folder of `path`; it takes the place of `path` when the block ends well.

    The block must create the temporary file, with any writer: its name ends like `path`, so writers that
    choose a format by the ending choose the same one. If the block raises, the temporary file is removed
    and an older file at `path` stays as it was.

    >>> with atomic_write("table.csv") as temporary:    # doctest: +SKIP
    ...     frame.to_csv(temporary)

    Raises
    ------
    OutputError : the folder is missing or read-only, the disk is full, or the block wrote nothing.
    """
    path = Path(path)
    temporary = path.with_name(f".part-{secrets.token_hex(4)}-{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}).",
            expected="an existing folder with write permission and free disk space.",
            do="check the folder and its disk, or choose another --output.",
        ) from error
    finally:
        _remove(temporary)


def _remove(temporary: Path) -> None:
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        # The folder itself is gone or read-only: nothing of ours is left in it, and the error that
        # brought us here says more.
        return


def write_text(path: str | Path, text: str) -> None:
    """Write `text`, made `readable`, as UTF-8 with "\\n" line ends, whole or not at all; raises `OutputError`."""
    with atomic_write(path) as temporary:
        temporary.write_text(readable(text), encoding="utf-8", newline="\n")


def readable(text: str) -> str:
    r"""Return text that every table and file takes: bytes of file names that are no UTF-8 become `\udcXX`.

    Python holds such bytes as lone surrogates, which neither UTF-8 nor pandas nor Arrow accepts.
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
