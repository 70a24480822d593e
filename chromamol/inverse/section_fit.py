"""The regression of a section, at the width of test functions for which the correction is known best.

The balance of a section lacks ∂zz at every width, so widths disagree by far more than noise explains, and their
agreement can't choose one. Nor can pixels: functions much narrower than L0 see little but what is missing (c of a
plane is 1 at a half-width of L0, and 3 at half of that, with images twice as far apart). So take the candidate whose
half-width is nearest to L0, which the corrected rates themselves tell.
"""

from __future__ import annotations

import math

import torch

from chromamol.inverse.lattice import TestLattice
from chromamol.inverse.problem import RateProblem
from chromamol.inverse.section import SectionTable
from chromamol.inverse.single_fit import RegressionFit, fit_on_lattice
from chromamol.inverse.width import candidates, central_window

HALF_WIDTH_OVER_L0 = 1.0
"""Where c is near 1 for planes and changes little with noise and pixels (a few per cent, measured)."""


def fit_section(
    problem: RateProblem, *, thickness_um: float, device: torch.device, variants: tuple[RateProblem, ...] = (),
    table: SectionTable | None = None,
) -> tuple[RegressionFit, ...]:  # fmt: skip
    """Return the fits of `problem` and its `variants` at the width nearest to L0; () when no width is possible."""
    table = table or SectionTable.measured()
    trial = problem.crop(central_window(problem))
    chosen: tuple[float, ...] | None = None
    least, guess = math.inf, (0.0, 0.0)
    for width, lattice in candidates(trial):
        (fit,) = fit_on_lattice(trial, lattice, width, guess=guess, device=device)
        methylation, acetylation = (max(0.0, float(m)) for m in fit.mean_over(lattice.valid)[0])
        mean_h, mean_e = (float(f.values[trial.mask].mean()) for f in (trial.phi_h, trial.phi_e))
        apparent = math.sqrt(acetylation * methylation * mean_e / mean_h)
        away = math.inf
        if apparent > 0.0:
            true = table.solve(apparent, thickness_um, width[-1], roughly=True)
            away = abs(math.log(width[-1] * math.sqrt(true) / HALF_WIDTH_OVER_L0))
        if chosen is not None and away > least:
            break
        chosen, least, guess = width, away, (methylation, acetylation)
    if chosen is None:
        return ()
    lattice = TestLattice.inside_mask(problem.grid, problem.mask, chosen)
    return fit_on_lattice(problem, lattice, chosen, guess=guess, device=device, variants=variants)
