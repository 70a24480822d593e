"""MINFLUX: positions in metres, several for each molecule, as the instrument iterates towards it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from chromamol.errors import ReadError
from chromamol.io.smlm.stated import StatedTable
from chromamol.io.source import require_memory


def minflux_table(
    loc: np.ndarray, path: Path, *, valid: np.ndarray | None = None, trace: np.ndarray | None = None
) -> StatedTable:
    """Return the last iteration of each localisation.

    Parameters
    ----------
    loc : (rows, 3) or (rows, iterations, 3), metres.
    valid : which rows the instrument calls valid.
    trace : number of the molecule of each row.
    """
    if loc.ndim not in (2, 3) or loc.shape[-1] not in (2, 3):
        raise ReadError(f"{path}: MINFLUX positions of shape {loc.shape}.",
                        expected="(rows, 3) or (rows, iterations, 3).", do="export the data again.")  # fmt: skip
    last = np.asarray(loc[:, -1] if loc.ndim == 3 else loc, dtype=np.float64)
    kept = np.ones(len(last), dtype=bool) if valid is None else np.ravel(valid).astype(bool)
    columns = {axis: last[kept, i] for i, axis in enumerate("xyz"[: last.shape[1]])}
    if trace is not None:
        columns["trace"] = np.ravel(trace)[kept]
    notes = (
        ()
        if valid is None
        else (f"{np.count_nonzero(~kept):,} localisations that the instrument calls invalid",)
    )
    return StatedTable(columns, {"x": "m"}, "MINFLUX", "by dialect", notes=notes)


def read_npy(path: Path) -> StatedTable:
    """Read MINFLUX's NumPy export; never a pickle.

    Raises
    ------
    ReadError : another array, or one that holds Python objects.
    """
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read_header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(file)
        position = file.tell()
    names = dtype.names or ()
    nested = dtype["itr"].base.names or () if "itr" in names else ()
    if dtype.hasobject or not ("loc" in nested or "loc" in names):
        raise ReadError(f"{path}: NumPy array of type {str(dtype)[:80]}.", expected="MINFLUX's table with 'loc'.",
                        do="export the localisations as CSV.")  # fmt: skip
    needed = math.prod(shape) * dtype.itemsize
    if needed > path.stat().st_size - position:
        raise ReadError(f"{path}: {needed:,} bytes promised, the file ends before.", expected="a complete file.",
                        do="copy the file again from its source.")  # fmt: skip
    require_memory(needed, name=str(path))
    table = np.ravel(np.load(path, allow_pickle=False))
    loc = table["itr"]["loc"] if "loc" in nested else table["loc"]
    return minflux_table(loc, path, valid=table["vld"] if "vld" in names else None,
                         trace=table["tid"] if "tid" in names else None)  # fmt: skip


def read_minflux_json(path: Path) -> StatedTable:
    """Read MINFLUX's JSON export: a list of records with `itr` (a list of iterations with `loc`) or `loc`."""
    require_memory(20 * path.stat().st_size, name=str(path))
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        loc = np.array([_last_position(record) for record in records], dtype=np.float64)
        valid = np.array([bool(record.get("vld", True)) for record in records])
        trace = np.array([int(record.get("tid", -1)) for record in records])
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ReadError(f"{path}: JSON that is no list of localisations ({type(error).__name__}).",
                        expected="MINFLUX's list of records with 'loc'.",
                        do="export the localisations as CSV.") from error  # fmt: skip
    return minflux_table(loc.reshape(-1, loc.shape[-1] if loc.ndim == 2 else 3), path, valid=valid,
                         trace=trace if np.all(trace >= 0) and trace.size else None)  # fmt: skip


def _last_position(record: Any) -> list[float]:
    iterations = record.get("itr")
    if isinstance(iterations, list):
        return list(iterations[-1]["loc"])
    if isinstance(iterations, dict):
        return list(iterations["loc"][-1])
    return list(record["loc"])
