"""The methods of the recovery benchmark by name; each takes a scene and returns an estimate."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import chromamol as cm
from chromamol.benchmarks.recovery.deepxde_baseline import deepxde_fit
from chromamol.benchmarks.recovery.grid_baseline import grid_fit
from chromamol.benchmarks.recovery.oracle import tuned_regression
from chromamol.benchmarks.recovery.scenes import Scene
from chromamol.benchmarks.recovery.scores import Estimate


def _public(method: str) -> Callable[[Scene], Estimate]:
    def run(scene: Scene) -> Estimate:
        if scene.is_film:
            rates: cm.Rates | cm.RatesOverTime = cm.infer_rates_over_time(**scene.arguments(), device="cpu")
        else:
            rates = cm.infer_rates(**scene.arguments(), method=method, device="cpu")
        return Estimate.of(rates, acetylation_known=scene.case.acetylation_known)

    return run


METHODS: dict[str, Callable[[Scene], Estimate]] = {
    "joint": _public("joint"),
    "regression": _public("regression"),
    "regression_tuned": tuned_regression,
    "grid_odil_style": grid_fit,
    "deepxde": deepxde_fit,
}
"""`regression_tuned` and `grid_odil_style` are tuned by the truth, which no user
knows; see `oracle` and `grid_baseline`."""

QUICK_METHODS = ("joint", "regression")


def missing(method: str) -> str | None:
    """Return why a method can't run here; None when it can."""
    if method == "deepxde" and importlib.util.find_spec("deepxde") is None:
        return "DeepXDE is not installed (pip install deepxde; LGPL, so it is no dependency)"
    return None
