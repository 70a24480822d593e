"""The output folder: refused when it holds results, filled under another name, put in place at the end."""

from __future__ import annotations

import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chromamol.batch.contents import RECORD, Contents, first_inside
from chromamol.errors import OutputError

CONTENTS = Contents(
    names=(
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
    ),
    inside={"images": ("*/labels.tif", "*/rates.ome.tif", "*/overview.png")},
)
"""Of an analysis."""

Progress = Callable[[str], None]
"""Takes one line for the user to read while the run goes on."""

_STAGING = ".chromamol-partial-"

_NAMED = 5
"""So many foreign files are named in a message."""


def require_free(
    output: Path, *, overwrite: bool, contents: Contents = CONTENTS, inputs: Iterable[Path] = ()
) -> None:
    """Raise `OutputError` if `output` is no folder, or holds what was not meant to be replaced or must not be.

    Never replaced, `overwrite` or not, are `inputs` and what chromamol has not written.
    """
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output} is a file.", expected="a folder, new or existing.",
                          do="choose another --output.")  # fmt: skip
    held = contents.held_by(output)
    if not held:
        return
    read = first_inside([output / name for name in held], inputs)
    if read is not None:
        raise OutputError(
            f"{output} already holds what is to be read ({read}) where a run puts its results.",
            expected="results that take the place of nothing that they are made from.",
            do="choose another --output; a new folder inside this one will do.",
        )
    _require_own(output, held, contents)
    if not overwrite:
        raise OutputError(
            f"{output} already holds results ({', '.join(held)}).",
            expected="an empty or new folder.",
            do="choose another --output, or pass --overwrite to replace them.",
        )


def _require_own(output: Path, held: list[str], contents: Contents) -> None:
    """Raise `OutputError` where replacing what is held would cost something that chromamol has not written."""
    if not contents.recorded_in(output):
        kind = "a simulation" if contents.is_simulation else "an analysis"
        raise OutputError(
            f"{output} already holds {', '.join(held)}, without a record ({RECORD}) that {kind} made them.",
            expected="a folder where a run's results take the place of nothing else.",
            do="choose another --output (a new folder inside this one will do), or move them elsewhere.",
        )
    foreign = [str(path.relative_to(output)) for path in contents.foreign_to(output)]
    if foreign:
        more = f" and {len(foreign) - _NAMED} more" if len(foreign) > _NAMED else ""
        raise OutputError(
            f"{output} already holds results, and among them what chromamol has not written: "
            f"{', '.join(foreign[:_NAMED])}{more}.",
            expected="nothing but results where results are replaced.",
            do="move those files elsewhere, or choose another --output.",
        )


@contextmanager
def staged(
    output: Path, *, contents: Contents = CONTENTS, progress: Progress | None = None
) -> Iterator[Path]:
    """Lend an empty folder inside `output`; `contents` of it take their place there when the block ends well.

    What an earlier run left there under one of these names is removed, also if this run did not make it again. What
    came there meanwhile, from a run beside this one, is put aside, and `progress` is told.

    If the block raises, nothing is left behind: not the folder, and not `output` if it was made here. If the
    earlier results cannot be replaced they stay, and the new ones are kept beside them.

    Raises
    ------
    OutputError : the folder cannot be made or written, or earlier results in it cannot be replaced.
    """
    missing = [folder for folder in (output, *output.parents) if not folder.exists()]
    replaceable = frozenset(contents.held_by(output))
    staging = output / f"{_STAGING}{secrets.token_hex(4)}"
    try:
        staging.mkdir(parents=True)
    except OSError as error:
        raise unwritable(output, error) from error
    done = False
    try:
        yield staging
        aside = _put_in_place(staging, output, contents, replaceable)
        done = True
        if aside is not None:
            tell(
                progress, f"{output}: what came there while this run went on was put aside, into {aside.name}"
            )
    except OSError as error:
        raise unwritable(output, error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not done:
            for folder in missing:
                if folder.is_dir() and not any(folder.iterdir()):
                    folder.rmdir()


def _put_in_place(
    staging: Path, output: Path, contents: Contents, replaceable: frozenset[str]
) -> Path | None:
    """Exchange the contents of `output` for those of `staging`, all of them or none; return what was put aside."""
    token = secrets.token_hex(4)
    old, new = output / f"replaced-{token}", output / f"results-{token}"
    held = contents.held_by(output)
    moves = [(output / name, old / name) for name in held]
    moves += [(staging / name, output / name) for name in contents.held_by(staging)]
    if held:
        old.mkdir()
    try:
        for source, target in moves:
            source.rename(target)
    except BaseException as error:
        _move_back(moves, old)
        if not isinstance(error, OSError):
            raise
        staging.rename(new)  # hours of work, which an open spreadsheet must not cost
        where = f"partly in {old}" if old.exists() else "as they were"
        raise OutputError(
            f"{output}: what is there cannot be replaced ({error.strerror or error}). It is {where}; "
            f"the new results are in {new}.",
            expected="results that no other program has open, in a folder with write permission.",
            do="close the other program; then take the new results from there.",
        ) from error
    # What came while the run went on was not looked at by `require_free`, and is left where it was put aside.
    if held and replaceable.issuperset(held) and not contents.foreign_to(old):
        shutil.rmtree(old, ignore_errors=True)
        return None
    return old if held else None


def tell(progress: Progress | None, text: str) -> None:
    """Say what must not pass unseen: as a line where lines are read, else as a warning."""
    if progress is None:
        warnings.warn(text, stacklevel=2)
    else:
        progress(text)


def _move_back(moves: list[tuple[Path, Path]], old: Path) -> None:
    """Undo those moves that were made; `old` stays if something has to stay in it."""
    for source, target in reversed(moves):
        with suppress(OSError):
            if os.path.lexists(target) and not os.path.lexists(source):
                target.rename(source)
    with suppress(OSError):
        old.rmdir()


def unwritable(output: Path, error: OSError) -> OutputError:
    """Return the error for a folder that cannot be written."""
    return OutputError(
        f"{output}: cannot be written ({error.strerror or error}).",
        expected="a folder with write permission and free disk space.",
        do="check the folder and its disk, or choose another --output.",
    )
