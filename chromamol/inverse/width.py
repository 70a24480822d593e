"""The width of the test functions, chosen by the data.

The weak form has no smoothing bias at any width, and noise costs the same at every width once the equations
are weighted. What narrow functions suffer from is the noise inside the nonlinear f(φ) and aliasing at the
interfaces, which weights can't see; what wide ones cost is pixels: a rate is valid only where the whole
support lies inside the nucleus. So take the narrowest width whose mean rates agree with those of every wider
one within their standard errors (Lepski's balancing principle).

What standard errors leave out (the prior's shape, aliasing) differs from width to width: how far the fits of the chosen
and the next wider width are apart is part of the errors.

References
----------
Lepski, Theory Probab. Appl. 35, 454 (1991), doi:10.1137/1135065;
Mathé & Pereverzev, Inverse Problems 19, 789 (2003), doi:10.1088/0266-5611/19/3/319.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from chromamol.errors import KernelError
from chromamol.inverse.lattice import TILE_FUNCTIONS, TestLattice
from chromamol.inverse.normal_equations import WeightedTile
from chromamol.inverse.problem import RateProblem
from chromamol.inverse.single_fit import RegressionFit, basis_of, fit_on_lattice, fit_weighted
from chromamol.inverse.weak_noise import EquationNoise

HALF_WIDTHS_PX = (58, 41, 29, 21, 15, 11, 8)
"""Candidates in pixels of the finest axis, in steps of √2. Narrower than 8 the fourth derivative of ψ is not
resolved."""

MIN_HALF_WIDTH_PX = 6
"""Smallest half-width along a coarser axis (the z-step of a stack)."""

MIN_FUNCTIONS = 12
"""Fewer test functions than this can't carry two rates and an error estimate."""

MIN_VALID_FRACTION = 0.2
"""A width that leaves less than this of the nucleus valid is too wide, if a narrower one exists."""

TRIAL_SIDE_PX = 256
"""Larger nuclei choose their width on a central crop of this side."""


def fit_best_width(
    problem: RateProblem, *, device: torch.device, variants: tuple[RateProblem, ...] = ()
) -> tuple[RegressionFit, ...]:
    """Return the fits of `problem` and its `variants` at the chosen width; () when no width is possible."""
    trial = problem.crop(central_window(problem))
    noise = EquationNoise.of(trial)
    accepted: list[RegressionFit] = []
    guess = (0.0,) * (1 if problem.known_acetylation is not None else 2)
    for width, lattice in candidates(trial):
        basis = basis_of(lattice)
        parts = list(lattice.tiles())
        if lattice.count > TILE_FUNCTIONS:
            # The only candidate: as many functions as one tile holds are enough for a guess.
            central = lattice.central_tile()
            parts = [central] if np.count_nonzero(central.inside) >= MIN_FUNCTIONS else parts
        grams = [noise.grams(tile) for tile in parts]
        tiles = [WeightedTile.of(each, basis, guess, device=device) for each in grams]
        start = accepted[-1].solution if accepted else None
        (fit,) = fit_weighted((trial,), tiles, lattice, basis, width, start=start)
        if not all(_agree(fit, wider, on=accepted[0]) for wider in accepted):
            break
        accepted.append(fit)
        kept = grams, tiles
        guess = _positive_means(fit)
    if not accepted:
        return ()
    (*_, chosen) = accepted
    width, lattice, basis = chosen.half_width_um, chosen.lattice, chosen.basis
    beside = chosen.away_from(accepted[-2]) if len(accepted) > 1 else None
    if trial is not problem or lattice.count > TILE_FUNCTIONS:
        lattice = TestLattice.inside_mask(problem.grid, problem.mask, width)
        fits = fit_on_lattice(problem, lattice, width, guess=guess, device=device, variants=variants)
        return tuple(replace(each, beside=beside) for each in fits)
    grams, tiles = kept
    if len(accepted) == 1:
        # Once more, with the noise of the reaction that is known by now.
        tiles = [WeightedTile.of(each, basis, guess, device=device) for each in grams]
        return fit_weighted((problem, *variants), tiles, lattice, basis, width)
    # The weights hold the rates of the next wider width, with which these agree.
    others = fit_weighted(
        variants, tiles, lattice, basis, width, start=chosen.solution, prior=chosen.solution.prior
    )
    return tuple(replace(each, beside=beside) for each in (chosen, *others))


def candidates(problem: RateProblem) -> Iterator[tuple[tuple[float, ...], TestLattice]]:
    """Yield usable widths with their lattices, widest first."""
    nucleus, finest = np.count_nonzero(problem.mask), min(problem.grid.spacing_um)
    tight = None  # the narrowest that leaves few pixels valid
    wider = False
    for pixels in HALF_WIDTHS_PX:
        width = tuple(max(pixels * finest, MIN_HALF_WIDTH_PX * h) for h in problem.grid.spacing_um)
        try:
            lattice = TestLattice.inside_mask(problem.grid, problem.mask, width)
        except KernelError:  # too few pixels across for the fourth derivative
            continue
        if lattice.count < MIN_FUNCTIONS:
            continue
        if np.count_nonzero(lattice.valid) < MIN_VALID_FRACTION * nucleus:
            tight = width, lattice
            continue
        if lattice.count <= TILE_FUNCTIONS or not wider:
            yield width, lattice
        if lattice.count > TILE_FUNCTIONS:
            return  # as have all narrower ones
        wider = True
    if tight and not wider:
        yield tight


def _agree(fit: RegressionFit, wider: RegressionFit, *, on: RegressionFit) -> bool:
    """Whether two fits give the same mean rates where the fit `on` is valid."""
    (mean, error), (other, other_error) = (f.mean_over(on.lattice.valid) for f in (fit, wider))
    return bool(np.all(np.abs(mean - other) <= error + other_error))


def _positive_means(fit: RegressionFit) -> tuple[float, ...]:
    mean, _ = fit.mean_over(fit.lattice.valid)
    return tuple(float(m) for m in np.maximum(mean, 0.0))


def central_window(problem: RateProblem) -> tuple[slice, ...]:
    """Return the window of at most `TRIAL_SIDE_PX` around the centre of the nucleus, the mirrored one if mirrored."""
    window = []
    for indices, n in zip(np.nonzero(problem.mask), problem.grid.shape, strict=True):
        side = min(n, TRIAL_SIDE_PX - (n - TRIAL_SIDE_PX) % 2)  # as much is left on either side of the middle
        start = min(max(0, round(float(indices.mean()) - 0.5 * (side - 1))), n - side)
        window.append(slice(start, start + side))
    return tuple(window)
