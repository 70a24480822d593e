"""Estimates and how they are held against the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chromamol.benchmarks.recovery.cases import Bar
from chromamol.benchmarks.recovery.patterns import DIFFUSIVITY
from chromamol.benchmarks.recovery.scenes import Scene
from chromamol.inverse.rates import RateMap, Rates
from chromamol.inverse.rates_over_time import RatesOverTime
from chromamol.shapes import FloatField

RATES = ("methylation", "acetylation")
NORMAL_95 = 1.96


@dataclass(frozen=True, eq=False)
class Guess:
    """One rate as a method found it: values and, where it has them, standard errors; NaN is no answer."""

    values: FloatField
    standard_error: FloatField | None = None
    mean_se: float = math.nan

    @classmethod
    def of(cls, rate: RateMap) -> Guess:
        return cls(rate.values, rate.standard_error, rate.mean_se)


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a method hands back: `Guess` by rate (those that were unknown), and how it ended.

    `ratio` is the mean Γ_me / Γ_ac that the method states beside its maps; `diffusivity` is that of a film.
    """

    rates: dict[str, Guess]
    outcome: str
    note: str = ""
    ratio: float = math.nan
    ratio_se: float = math.nan
    diffusivity: float = math.nan
    diffusivity_se: float = math.nan

    @classmethod
    def of(cls, rates: Rates | RatesOverTime, *, acetylation_known: bool) -> Estimate:
        found = {"methylation": Guess.of(rates.methylation)}
        if not acetylation_known:
            found["acetylation"] = Guess.of(rates.acetylation)
        flags = [
            flag for flag in rates.flags if flag.endswith("_not_identifiable") or flag == "not_converged"
        ]
        estimate = cls(found, rates.outcome.name.lower(), ";".join(flags), rates.ratio, rates.ratio_se)
        if isinstance(rates, Rates):
            return estimate
        return replace(estimate, diffusivity=rates.diffusivity_um2_per_s, diffusivity_se=rates.diffusivity_se)


def score(estimate: Estimate, scene: Scene) -> list[dict[str, Any]]:
    """Return one row per rate that the case asks for: how far the estimate is from the truth."""
    truths = {"methylation": scene.truth.methylation, "acetylation": scene.truth.acetylation}
    rows = []
    of_both = {"ratio_error": _ratio_error(estimate, truths, scene)} | _numbers(estimate, truths, scene)
    for name in RATES[: 1 if scene.case.acetylation_known else 2]:
        row: dict[str, Any] = {"rate": name, "outcome": estimate.outcome, "note": estimate.note}
        if name in estimate.rates:
            row |= _against(estimate.rates[name], truths[name], scene)
        rows.append(row | of_both)
    return rows


def _against(guess: Guess, truth: FloatField, scene: Scene) -> dict[str, float]:
    use = scene.scored & np.isfinite(guess.values)
    share = np.count_nonzero(use) / np.count_nonzero(scene.scored)
    if not use.any():
        return {"scored_share": 0.0}
    found, true = guess.values[use], truth[use]
    error = found - true
    varies = true.std() > 1e-6 * abs(true.mean())
    row = {
        "scored_share": share,
        "correlation": float(np.corrcoef(found, true)[0, 1]) if varies else math.nan,
        "relative_l2": float(np.linalg.norm(error) / np.linalg.norm(true)),
        "bias": float(found.mean() / true.mean() - 1.0),
        "median_error": math.nan if varies else float(np.median(found / true) - 1.0),
        "spread": math.nan if varies else float(np.std(found / true)),
    }
    if guess.standard_error is not None:
        covered = np.abs(error) <= NORMAL_95 * guess.standard_error[use]
        row["coverage"] = float(covered.mean())
        row["mean_covered"] = float(abs(found.mean() - true.mean()) <= NORMAL_95 * guess.mean_se)
    return row


def _ratio_error(estimate: Estimate, truths: dict[str, FloatField], scene: Scene) -> float:
    """Relative error of mean Γ_me over mean Γ_ac, on the pixels where both were found."""
    if set(estimate.rates) != set(RATES):
        return math.nan
    found = [estimate.rates[name].values for name in RATES]
    use = scene.scored & np.isfinite(found[0]) & np.isfinite(found[1])
    if not use.any():
        return math.nan
    true = truths["methylation"][use].mean() / truths["acetylation"][use].mean()
    return float(found[0][use].mean() / found[1][use].mean() / true - 1.0)


def _numbers(estimate: Estimate, truths: dict[str, FloatField], scene: Scene) -> dict[str, float]:
    """Relative errors of the ratio that is stated and of D, and whether their intervals hold the truth (0 or 1).

    The ratio counts where rates are even: else it depends on what a method averages over, and with which weights.
    """
    row: dict[str, float] = {}
    numbers = {"diffusivity": (estimate.diffusivity, estimate.diffusivity_se, DIFFUSIVITY)}
    if math.isnan(scene.truth.correlation):
        true = float(truths["methylation"].mean() / truths["acetylation"].mean())
        numbers["stated_ratio"] = (estimate.ratio, estimate.ratio_se, true)
    for name, (found, error, true) in numbers.items():
        if math.isfinite(found):
            row[f"{name}_error"] = found / true - 1.0
            row[f"{name}_covered"] = float(abs(found - true) <= NORMAL_95 * error)
    return row


def misses(row: dict[str, Any], bar: Bar) -> list[str]:
    """Return which demands of a bar a row of scores does not meet; a number that is not there meets none."""
    if not bar.identifiable:
        told = "not_identifiable" in str(row["note"]) + str(row["outcome"])
        return [] if told else ["said to be identifiable"]
    demands = {
        "correlation": (bar.correlation, lambda value, limit: value >= limit),
        "relative_l2": (bar.relative_l2, lambda value, limit: value <= limit),
        "bias": (bar.bias, lambda value, limit: abs(value) <= limit),
        "ratio_error": (bar.ratio, lambda value, limit: abs(value) <= limit),
        "stated_ratio_error": (bar.stated_ratio, lambda value, limit: abs(value) <= limit),
        "diffusivity_error": (bar.diffusivity, lambda value, limit: abs(value) <= limit),
        "median_error": (bar.median, lambda value, limit: abs(value) <= limit),
        "spread": (bar.spread, lambda value, limit: value <= limit),
    }
    return [
        f"{name} {row.get(name, math.nan):.4g}, asked {limit:g}"
        for name, (limit, meets) in demands.items()
        if limit is not None and not meets(row.get(name, math.nan), limit)
    ]
