"""The regression of a section, at the width of test functions for which the correction is known best.

The balance of a section lacks ∂zz at every width, so widths disagree by far more than noise explains, and their
agreement can't choose one. Nor can pixels: functions much narrower than L0 see little but what is missing (c of a
plane is 1 at a half-width of L0, and 3 at half of that, with images twice as far apart). So take the candidate whose
half-width is nearest to L0. That is told by the pattern: rates of a blurred image are too large, so that the L0 they
tell is too short, a narrower function makes them larger still, and only the narrowest would end it.
"""

from __future__ import annotations

import math

import torch

from chromamol.inverse.lattice import TestLattice
from chromamol.inverse.pattern_length import unit_length_um
from chromamol.inverse.problem import RateProblem
from chromamol.inverse.single_fit import RegressionFit, fit_on_lattice
from chromamol.inverse.width import candidates, central_window

HALF_WIDTH_OVER_L0 = 1.0
"""Where c is near 1 for planes and changes little with noise and pixels (a few per cent, measured)."""

BLURS_PER_HALF_WIDTH = 7.0
"""What blur adds to the half-width that is asked for, in σ and in quadrature: below .8 L0, where the nearest candidate
may lie, blur of .08 L0 makes rates up to 1.5 times larger than it does above, where its factor hardly changes."""

WIDEST_OVER_L0 = 1.5
"""As far as blur may go: well inside the table."""


def fit_section(
    problem: RateProblem, *, blur_um: float, device: torch.device, variants: tuple[RateProblem, ...] = ()
) -> tuple[RegressionFit, ...]:
    """Return the fits of `problem` and its `variants` at the width nearest to L0; () when no width is possible.

    Blur, where it is known, asks for a wider one; the widest is taken where the pattern has no length.
    """
    trial = problem.crop(central_window(problem))
    unit_um = unit_length_um(problem.phi_h)
    best_um = min(
        math.hypot(HALF_WIDTH_OVER_L0 * unit_um, BLURS_PER_HALF_WIDTH * blur_um), WIDEST_OVER_L0 * unit_um
    )
    usable = list(candidates(trial))
    if not usable:
        return ()
    width, lattice = usable[0]
    if math.isfinite(best_um):
        width, lattice = min(usable, key=lambda each: abs(math.log(each[0][-1] / best_um)))
    (rough,) = fit_on_lattice(trial, lattice, width, guess=(0.0, 0.0), device=device)
    methylation, acetylation = (max(0.0, float(mean)) for mean in rough.mean_over(lattice.valid)[0])
    lattice = TestLattice.inside_mask(problem.grid, problem.mask, width)
    return fit_on_lattice(
        problem, lattice, width, guess=(methylation, acetylation), device=device, variants=variants
    )
