"""What can be chosen for the `network` estimator, and what it says while it trains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from chromamol.errors import ParameterError
from chromamol.networks.make import ARCHITECTURES

DERIVATIVES = ("mollifier", "nested", "taylor")

GRID_STEPS, COORDINATE_STEPS = 300, 1000
"""Adam steps when none are given: a grid of numbers needs few, a coordinate network as many as patience allows."""


@dataclass(frozen=True)
class NetworkSettings:
    """How a network is trained.

    Parameters
    ----------
    architecture : "grid", "mlp", "piratenet" or "pinnsformer".
    derivatives : "mollifier" (a layer on the pixels), "nested" or "taylor" (automatic differentiation in the
        coordinates; not for the grid, which has none).
    steps : of Adam; by the architecture when None.
    polish : iterations of L-BFGS after them.
    photons_per_fraction : detected photons per unit of volume fraction; a tuple for one each of the images. When
        given, the data term is that of Poisson counts with `noise_sd` as the read noise; Gaussian otherwise.
    precision : "float32" or "float64".
    compiled : pass the network through `torch.compile`. On a CPU a step of the Fourier MLP (128 x 128 points) took
        25 ms in place of 31, after a minute of compiling: worth it for long runs only.
    checkpoint : folder where training is saved and, if it was interrupted, taken up again. None saves nothing.
    checkpoint_every : optimiser steps between two saves.
    error_samples : of the linearised posterior, for the standard errors.
    """

    architecture: str = "grid"
    derivatives: str = "mollifier"
    steps: int | None = None
    polish: int = 60
    photons_per_fraction: float | tuple[float, ...] | None = None
    precision: str = "float32"
    compiled: bool = False
    checkpoint: str | Path | None = None
    checkpoint_every: int = 100
    error_samples: int = 8

    def __post_init__(self) -> None:
        choices = {
            "architecture": ARCHITECTURES,
            "derivatives": DERIVATIVES,
            "precision": ("float32", "float64"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ParameterError(f"{name} = {getattr(self, name)!r}.", expected=f"one of {', '.join(allowed)}.",
                                     do="use the default.")  # fmt: skip
        if self.architecture == "grid" and self.derivatives != "mollifier":
            raise ParameterError(
                f"derivatives = '{self.derivatives}' of a grid.", expected="'mollifier': a grid has no coordinates.",
                do="choose a coordinate network, for instance architecture='mlp'.",
            )  # fmt: skip
        counts = {f.name: getattr(self, f.name) for f in fields(self) if f.type == "int"} | {
            "steps": self.adam_steps
        }
        for name, value in counts.items():
            least = {"polish": 0, "error_samples": 2}.get(name, 1)
            if value < least:
                raise ParameterError(f"{name} = {value}.", expected=f"a whole number >= {least}.",
                                     do="use the default.")  # fmt: skip
        if self.photons_per_fraction is not None and not np.all(np.greater(self.photons_per_fraction, 0.0)):
            raise ParameterError(f"photons_per_fraction = {self.photons_per_fraction}.",
                                 expected="a number of photons > 0.", do="use None for Gaussian noise.")  # fmt: skip

    @property
    def adam_steps(self) -> int:
        """Steps of Adam, resolved."""
        if self.steps is not None:
            return self.steps
        return GRID_STEPS if self.architecture == "grid" else COORDINATE_STEPS


@dataclass(frozen=True)
class TrainingProgress:
    """One message of a training run.

    Parameters
    ----------
    stage : "adam", "lbfgs" or "batch"; the last says only that a smaller batch is tried (`note`).
    step, steps : done and in all, of this stage.
    data, balance, prior : terms of the loss per seen value, summed over the batch; 1/2 is noise level for `data`.
    """

    stage: str
    step: int
    steps: int
    data: float
    balance: float
    prior: float
    note: str = ""

    def __str__(self) -> str:
        if self.note:
            return self.note
        return (
            f"{self.stage} {self.step}/{self.steps}: data {self.data:.4g}, balance {self.balance:.4g}, "
            f"prior {self.prior:.4g}"
        )


Reporter = Callable[[TrainingProgress], None]
