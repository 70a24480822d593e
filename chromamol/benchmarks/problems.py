"""The three equations of the mollifier-layer paper as data: equation, truth, noise, metric, published figures.

Each problem asks for an unknown coefficient field of a differential equation, given its solution with noise. The
sources at hand give no seeds and no exact coefficient functions, so truths are made here: equations, dimension,
order and metric are the paper's. Figures are as its authors and the press state them.

References
----------
Bhartari, Vinayak & Shenoy, arXiv:2505.11682 (2025); TMLR 2026.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from chromamol.benchmarks.problem_truths import fourth_order_truth, heat_truth, langevin_truth
from chromamol.errors import FieldError
from chromamol.shapes import FloatField

SOURCE = "arXiv:2505.11682"
PRESS = f"{SOURCE}, as reported in the press"


@dataclass(frozen=True, eq=False)
class Truth:
    """One solved problem.

    Parameters
    ----------
    unknown : the coefficient to find, (*grid).
    fields : by name, (*grid): those with noise are named in `Problem.observed`, the others are known exactly.
    spacing : of the grid, one number per axis.
    """

    unknown: FloatField
    fields: dict[str, FloatField]
    spacing: tuple[float, ...]


@dataclass(frozen=True)
class PublishedFigure:
    """One number of the source: without and with the mollifier layer."""

    quantity: str
    autodiff: float
    mollifier: float
    source: str = SOURCE


@dataclass(frozen=True)
class Problem:
    """A published inverse problem.

    Parameters
    ----------
    name, equation, order : what is solved; `order` is the highest derivative in it.
    unknown : symbol of the coefficient.
    observed : fields that come with noise, as a fraction `noise` of each one's standard deviation.
    truth : (pixels, seed) -> a solved problem.
    published : figures of the source.
    """

    name: str
    equation: str
    order: int
    unknown: str
    observed: tuple[str, ...]
    truth: Callable[[int, int], Truth]
    noise: float = 0.05
    published: tuple[PublishedFigure, ...] = field(default=())

    def data(self, truth: Truth, *, seed: int, noise: float | None = None) -> dict[str, FloatField]:
        """The fields as an experiment would give them: Gaussian noise on the observed ones."""
        level = self.noise if noise is None else noise
        rng = np.random.default_rng(seed)
        noisy = {n: f + level * f.std() * rng.standard_normal(f.shape) for n, f in truth.fields.items()}
        return {n: noisy[n] if n in self.observed else f for n, f in truth.fields.items()}


def score(found: FloatField, truth: FloatField) -> tuple[float, float]:
    """Correlation and relative L2 error ||found - truth|| / ||truth|| of a coefficient field.

    Raises
    ------
    FieldError : shapes that differ, or values that are not finite.
    """
    if found.shape != truth.shape or not np.isfinite(found).all():
        raise FieldError(f"A coefficient of shape {found.shape}.", expected=f"finite values, shape {truth.shape}.",
                         do="score valid pixels only: crop both alike.")  # fmt: skip
    correlation = float(np.corrcoef(found.ravel(), truth.ravel())[0, 1])
    return correlation, float(np.linalg.norm(found - truth) / np.linalg.norm(truth))


def _solved(
    make: Callable[[int, int], tuple[FloatField, dict[str, FloatField], tuple[float, ...]]],
) -> Callable[[int, int], Truth]:
    return lambda pixels, seed: Truth(*make(pixels, seed))


LANGEVIN = Problem("langevin", "u_t = u + λ(t)", 1, "λ(t)", ("u",), _solved(langevin_truth))
HEAT = Problem("heat", "0 = λ(x, y) Δu + m(x, y)", 2, "λ(x, y)", ("u",), _solved(heat_truth))
FOURTH_ORDER = Problem(
    "reaction_diffusion",
    "0 = Δ[φ_h (φ_max - φ_h) (φ_max - 2 φ_h) - ℓ² Δφ_h] + Γ_me(x, y) φ_e - φ_h",
    4,
    "Γ_me(x, y)",
    ("phi_h", "phi_e"),
    _solved(fourth_order_truth),
    published=(
        PublishedFigure("correlation of the rate map", 0.17, 0.84, PRESS),
        PublishedFigure("time in s (from above 3300, to below 340)", 3300.0, 340.0, PRESS),
        PublishedFigure("peak memory in GB", 2.70, 0.21, PRESS),
    ),
)
PROBLEMS = {problem.name: problem for problem in (LANGEVIN, HEAT, FOURTH_ORDER)}
