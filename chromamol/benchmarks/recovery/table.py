"""Run the cases, measure, and write the table: Markdown, CSV, and what the figure is drawn from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from chromamol.benchmarks.footprint import machine
from chromamol.benchmarks.recovery.bound import bound_of
from chromamol.benchmarks.recovery.cases import CASES, QUICK_CASES
from chromamol.benchmarks.recovery.costs import spend
from chromamol.benchmarks.recovery.kept import Scores
from chromamol.benchmarks.recovery.methods import METHODS, QUICK_METHODS, missing
from chromamol.benchmarks.recovery.printed import markdown, printed
from chromamol.benchmarks.recovery.scenes import Scene
from chromamol.benchmarks.recovery.scores import misses, score
from chromamol.benchmarks.recovery.truths import steady_truths
from chromamol.errors import ChromamolError, ParameterError
from chromamol.io.atomic import write_text

SIZE, QUICK_SIZE = 192, 64
SEEDS, QUICK_SEEDS = 5, 1
SCORES = {"correlation": min, "relative_l2": max, "bias": None, "coverage": min, "ratio_error": None,
          "stated_ratio_error": None, "diffusivity_error": None, "median_error": None, "spread": max}  # fmt: skip
"""Columns of the summary beside their medians, and which of the seeds is the worst; None: the largest in size."""


@dataclass(frozen=True, eq=False)
class RecoveryBenchmark:
    """What was measured.

    Parameters
    ----------
    scores : one row per case, seed, method and rate.
    skipped : methods that could not run, with the reason.
    """

    scores: pd.DataFrame
    skipped: dict[str, str]

    def summary(self) -> pd.DataFrame:
        """Median and worst over the seeds, one row per case, method and rate."""
        groups = self.scores.groupby(["case", "method", "rate"], sort=False, dropna=False)
        return pd.DataFrame([dict(zip(("case", "method", "rate"), key, strict=True)) | _summary(rows)
                             for key, rows in groups])  # fmt: skip

    def coverage(self) -> pd.DataFrame:
        """Share of pixels inside nominal 95 % intervals, over all cases and seeds, per method that has intervals."""
        told = self.scores.reindex(columns=["method", "coverage"]).dropna()
        return told.groupby("method", sort=False)["coverage"].agg(["mean", "min", "max"]).reset_index()

    def to_markdown(self) -> str:
        """The tables as text, `median / worst` over the seeds, with the machine that they were measured on."""
        lines = [printed(self.summary()), "", "Nominal 95 % intervals cover, over all cases and seeds:", "",
                 markdown(self.coverage()), ""]  # fmt: skip
        lines += [f"Skipped: {method}: {reason}." for method, reason in self.skipped.items()]
        return "\n".join([*lines, machine()])

    def write(self, output: Path) -> None:
        """Write `recovery.csv` (every run), `recovery_summary.csv` and `recovery.md`."""
        output.mkdir(parents=True, exist_ok=True)
        write_text(output / "recovery.csv", self.scores.to_csv(index=False))
        write_text(output / "recovery_summary.csv", self.summary().to_csv(index=False))
        write_text(output / "recovery.md", self.to_markdown() + "\n")


def run(
    *, truths: Path, seeds: int | None = None, cases: Sequence[str] = (), methods: Sequence[str] = (),
    quick: bool = False, output: Path | None = None, progress: Callable[[str], None] = lambda _: None,
) -> RecoveryBenchmark:  # fmt: skip
    """Run the benchmark.

    Parameters
    ----------
    truths : folder that truths are kept in; those that are not there are made, minutes each.
    seeds : truths and noises per case; 5 when None.
    cases, methods : by name; all when empty.
    quick : 64 x 64 pixels, one seed, two cases and two methods, unless those are named.
    output : folder for the tables. Every score is kept there as it is made (`scores.jsonl`), and those that the same
        version of the code has put there are not made again: a run that was cut off goes on, and the tables are of all
        that the folder holds of this version.
    progress : told of every case.

    Raises
    ------
    ParameterError : a case or method that is not among those known, or fewer than one seed.
    """
    chosen = [_named(name, CASES, "case") for name in cases or (QUICK_CASES if quick else tuple(CASES))]
    wanted = tuple(methods) or (QUICK_METHODS if quick else tuple(METHODS))
    for name in wanted:
        _named(name, METHODS, "method")
    count = seeds if seeds is not None else QUICK_SEEDS if quick else SEEDS
    if count < 1:
        raise ParameterError(f"seeds = {seeds}.", expected="a whole number >= 1.", do="use 5.")
    skipped = {name: reason for name in wanted if (reason := missing(name)) is not None}
    able = tuple(name for name in wanted if name not in skipped)
    size = QUICK_SIZE if quick else SIZE
    scores = Scores.of(output, size)
    for case in chosen:
        for seed, truth in steady_truths(case.truth, count, folder=truths, size=size, progress=progress):
            left = [
                m for m in able if (not case.methods or m in case.methods) and not scores.has(case, seed, m)
            ]
            if not left:
                continue
            progress(f"{case.name}, seed {seed}")
            scene = Scene.of(case, truth, seed)
            # Truths of one kind have one smoothness, and the bound takes as long as a fit: once per case.
            bound = scores.bound(case) or bound_of(scene)
            for method in left:
                scores.add(list(_run_method(scene, seed, method, bound)))
        result = RecoveryBenchmark(scores.table(), skipped)
        if output is not None:
            result.write(output)
    return result


def _run_method(scene: Scene, seed: int, method: str, bound: dict[str, float]) -> Iterator[dict[str, Any]]:
    head = {"case": scene.case.name, "seed": seed, "method": method}
    try:
        spent = spend(partial(METHODS[method], scene))
    except ChromamolError as error:  # a refusal is a result
        failed = ["refused"] if scene.case.bar.identifiable else []
        refusal = {"rate": "methylation", "outcome": "refused", "note": error.given}
        yield head | refusal | _held(scene, failed)
        return
    cost = {"cpu_s": spent.cpu_s, "wall_s": spent.wall_s, "peak_mb": spent.peak_mb}
    for row in score(spent.answer, scene):
        failed = misses(row, scene.case.bar)
        limit = bound.get(row["rate"], math.nan)
        over = row.get("relative_l2", math.nan) / limit
        yield head | row | cost | {"bound": limit, "over_bound": over} | _held(scene, failed)


def _held(scene: Scene, failed: list[str]) -> dict[str, str | float]:
    """The cell that says which demands of the case's bar were missed; NaN where nothing is demanded."""
    return {"misses": "; ".join(failed) if scene.case.bar.asks else math.nan}


def _summary(rows: pd.DataFrame) -> dict[str, Any]:
    cells: dict[str, Any] = {"seeds": " ".join(str(seed) for seed in sorted(rows["seed"]))}
    for name, worst in SCORES.items():
        values = rows[name].dropna() if name in rows else pd.Series(dtype=float)
        if values.empty:
            cells |= {name: math.nan, f"worst_{name}": math.nan}
            continue
        extreme = max(values, key=abs) if worst is None else worst(values)
        cells |= {name: float(values.median()), f"worst_{name}": float(extreme)}
    cells["means_covered"] = float(rows["mean_covered"].mean()) if "mean_covered" in rows else math.nan
    for name in ("bound", "over_bound", "scored_share", "cpu_s", "wall_s", "peak_mb"):
        cells[name] = float(rows[name].median()) if name in rows else math.nan
    counts = rows["outcome"].value_counts()
    cells["outcome"] = ", ".join(f"{outcome} {n}/{len(rows)}" for outcome, n in counts.items())
    asked = rows["misses"].dropna()
    cells["bar_met"] = math.nan if asked.empty else float((asked == "").sum())
    return cells


def _named(name: str, known: dict[str, Any], kind: str) -> Any:
    if name not in known:
        raise ParameterError(
            f"{kind} '{name}'.", expected=f"one of {', '.join(known)}.", do="correct the name."
        )
    return known[name]
