"""`chromamol benchmark heat-fem`: the diffusivity map of a heat equation from somebody else's finite elements.

    ∂u/∂t = ∇·(D(x) ∇u),    D = 5 exp(-((x₁ - 3)² + (x₂ - 3)²) / 20)

on 51 x 41 x 41 samples of [0, 5] x [0, 10]², with noise of a share of the standard deviation of u over all samples.
Every method is given the samples and their spacing; only the simple baseline is told the truth, to choose its width by.

References
----------
TorchPhysics, https://github.com/boschresearch/torchphysics (the data set and the task).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from chromamol import datasets
from chromamol.benchmarks.heat_fem_peers import reason_to_skip, two_step_error
from chromamol.benchmarks.markdown import markdown_table
from chromamol.errors import ParameterError
from chromamol.inverse.generic import InverseProblem, d, div, grad, implicit_step
from chromamol.inverse.generic.solution import Solution
from chromamol.io import atomic_write
from chromamol.shapes import FloatField

DATASET = "torchphysics_heat"
TARGETS = {0.0: 0.04, 0.01: 0.05, 0.05: 0.08, 0.1: 0.12}
"""Noise, as a share of the standard deviation of u, and the relative L2 error of D that is to be reached."""

SEEDS = 5
QUICK_NOISE = (0.0, 0.05)
PLAIN = "InverseProblem: ∂u/∂t = ∇·(D ∇u)"
EULER = "InverseProblem, the data's time step: ∂u/∂t - ½ Δt ∂²u/∂t² = ∇·(D ∇u)"
FOUND = "InverseProblem, time step found: ∂u/∂t - c ∂²u/∂t² = ∇·(D ∇u)"
TWO_STEP = "two steps: mollified derivatives, least squares, best width"


def load() -> tuple[FloatField, dict[str, float], FloatField]:
    """Return u, (t, x₁, x₂), its spacing by axis, and the true D, (x₁, x₂).

    Raises
    ------
    DatasetError : the file is neither cached nor reachable.
    """
    rows = np.load(datasets.fetch(DATASET))
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
    t, first, second = (np.unique(rows[:, axis]) for axis in range(3))
    field = rows[:, 3].reshape(len(t), len(first), len(second))
    truth = 5.0 * np.exp(-((first[:, None] - 3.0) ** 2 + (second[None, :] - 3.0) ** 2) / 20.0)
    return field, {"t": float(t[1] - t[0]), "y": float(first[1]), "x": float(second[1])}, truth


def invert(field: FloatField, spacing: dict[str, float], *, method: str = EULER) -> Solution:
    """Return D of a heat equation, everything chosen automatically.

    Parameters
    ----------
    method : `PLAIN`; `EULER`, for data that were stepped implicitly with the Δt of their file; `FOUND`, where that is
        not known and c is one more unknown number.
    """
    problem = InverseProblem(spacing=spacing)
    u = problem.measured("u", field)
    D = problem.unknown("D", over="yx", positive=True)
    change = d(u, "t") if method == PLAIN else implicit_step(u, "t")
    if method == FOUND:
        change = d(u, "t") - problem.unknown("c") * d(u, "t", 2)
    return problem.solve(change - div(D * grad(u)))


def run(output: Path | None = None, *, quick: bool = False, seeds: int = SEEDS) -> pd.DataFrame:
    """Measure, write `heat_fem.csv` and `heat_fem.md` into `output`, and return one row per method and noise.

    Parameters
    ----------
    output : folder, made if needed; nothing is written when None.
    quick : one seed at no and at 5 % noise.
    seeds : draws of the noise; one where there is none.

    Returns
    -------
    columns method, noise, error (relative L2 of D over the square, mean of the seeds), worst, target, inside (the
    same where test functions reach), covered (share of those samples whose 95 % interval holds the truth), misfit,
    cpu_seconds of one inversion.

    Raises
    ------
    ParameterError : no draw of the noise.
    DatasetError : as `load`.
    """
    if seeds < 1:
        raise ParameterError(
            f"{seeds} seeds.", expected="at least 1.", do="use 5, as in the table of the documentation."
        )
    field, spacing, truth = load()
    rows = []
    for noise in QUICK_NOISE if quick else TARGETS:
        draws = [_noisy(field, noise, seed) for seed in range(1 if quick or noise == 0.0 else seeds)]
        for method, solve in _methods(spacing, truth).items():
            found = pd.DataFrame([solve(draw) for draw in draws])
            rows.append({
                "method": method, "noise": noise, "error": found["error"].mean(), "worst": found["error"].max(),
                "target": TARGETS[noise], **found.drop(columns="error").mean().to_dict(),
            })  # fmt: skip
    table = pd.DataFrame(rows)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        with atomic_write(output / "heat_fem.csv") as temporary:
            table.to_csv(temporary, index=False)
        with atomic_write(output / "heat_fem.md") as temporary:
            temporary.write_text(markdown(table), encoding="utf-8")
    return table


def markdown(errors: pd.DataFrame) -> str:
    """Return the table in Markdown, errors in per cent, and what was left out."""
    head = ["method", "noise", "relative L2 error of D", "worst seed", "to be reached", "inside", "covered", "misfit",
            "CPU s"]  # fmt: skip
    formats = {
        "method": "", "noise": ".0%", "error": ".1%", "worst": ".1%", "target": ".0%", "inside": ".1%",
        "covered": ".0%", "misfit": ".2f", "cpu_seconds": ".1f",
    }  # fmt: skip
    # What a method does not state (an interval, a misfit) stays an empty cell.
    cells = (
        ["" if pd.isna(row[name]) else format(row[name], how) for name, how in formats.items()]
        for row in errors[list(formats)].to_dict("records")
    )
    return "\n".join([markdown_table(head, cells), "", reason_to_skip(), ""])


def _methods(
    spacing: dict[str, float], truth: FloatField
) -> dict[str, Callable[[FloatField], dict[str, float]]]:
    def ours(method: str) -> Callable[[FloatField], dict[str, float]]:
        def solve(field: FloatField) -> dict[str, float]:
            start = time.process_time()
            found = invert(field, spacing, method=method)
            seconds = time.process_time() - start
            return {
                "error": _error(found["D"].values, truth),
                **_inside(found, truth),
                "cpu_seconds": seconds,
            }

        return solve

    def two_steps(field: FloatField) -> dict[str, float]:
        start = time.process_time()
        error = two_step_error(field, spacing, truth)
        blank = dict.fromkeys(("inside", "covered", "misfit"), np.nan)
        return {"error": error, **blank, "cpu_seconds": time.process_time() - start}

    return {**{method: ours(method) for method in (EULER, FOUND, PLAIN)}, TWO_STEP: two_steps}


def _inside(found: Solution, truth: FloatField) -> dict[str, float]:
    estimate = found["D"]
    where = estimate.valid
    covered = np.abs(estimate.values - truth)[where] < 1.96 * estimate.standard_error[where]
    return {
        "inside": _error(estimate.values[where], truth[where]),
        "covered": float(covered.mean()),
        "misfit": found.misfit,
    }


def _noisy(field: FloatField, noise: float, seed: int) -> FloatField:
    return field + noise * field.std() * np.random.default_rng(seed).standard_normal(field.shape)


def _error(found: FloatField, truth: FloatField) -> float:
    return float(np.linalg.norm(found - truth) / np.linalg.norm(truth))
