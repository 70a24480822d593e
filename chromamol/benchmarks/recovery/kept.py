"""Scores of the recovery benchmark, kept as they are made: hours of fits should not hang on one run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from chromamol.benchmarks.recovery.cases import CASES, Case
from chromamol.errors import OutputError, ReadError
from chromamol.provenance import code_version


@dataclass
class Scores:
    """Rows of one folder, one size of truths and one version of the code.

    Parameters
    ----------
    path : of the file with one row per line; None keeps nothing.
    size : pixels along a side of the truths; rows of other sizes stay in the file and count for nothing.
    rows : what there is.
    version : of the code that runs; rows of another stay in the file, too, and are made again.
    """

    path: Path | None
    size: int
    rows: list[dict[str, Any]]
    version: str

    @classmethod
    def of(cls, folder: Path | None, size: int) -> Scores:
        """Read what the folder holds.

        Raises
        ------
        ReadError : a line that is no row of scores.
        """
        version = code_version()
        if folder is None:
            return cls(None, size, [], version)
        path = folder / "scores.jsonl"
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        try:
            rows = [json.loads(line) for line in lines]
            mine = [row for row in rows if (row["size"], row.get("version")) == (size, version)]
            return cls(path, size, mine, version)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ReadError(f"{path}: {error}.", expected="one row of scores per line.",
                            do="remove the line, or choose another folder.") from error  # fmt: skip

    def has(self, case: Case, seed: int, method: str) -> bool:
        """Whether a method was scored on a seed of a case."""
        wanted = (case.name, seed, method)
        return any((row["case"], row["seed"], row["method"]) == wanted for row in self.rows)

    def bound(self, case: Case) -> dict[str, float]:
        """The bound of a case by rate, as it was written beside its scores; empty where it was not."""
        return {row["rate"]: row["bound"] for row in self.rows if row["case"] == case.name and "bound" in row}

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Keep the rows of one method on one seed.

        Raises
        ------
        OutputError : a folder that cannot be written to.
        """
        rows = [row | {"size": self.size, "version": self.version} for row in rows]
        self.rows += rows
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        except OSError as error:
            raise OutputError(f"{self.path}: {error.strerror}.", expected="a folder for the scores.",
                              do="choose another --output.") from error  # fmt: skip

    def table(self) -> pd.DataFrame:
        """The rows in the order of the cases, and of the seeds."""
        order = {name: i for i, name in enumerate(CASES)}
        rows = sorted(
            self.rows, key=lambda row: (order.get(row["case"], len(order)), row["method"], row["seed"])
        )
        return pd.DataFrame(rows)
