"""The mollified regression with its width and smoothness chosen by the truth: the best that tuning could make of it."""

from __future__ import annotations

import numpy as np
import torch

from chromamol.benchmarks.recovery.patterns import PARAMETERS, PIXEL
from chromamol.benchmarks.recovery.scenes import Scene
from chromamol.benchmarks.recovery.scores import RATES, Estimate, Guess
from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse.basis import CosineBasis
from chromamol.inverse.from_images import one_channel_problem, two_channel_problem
from chromamol.inverse.lattice import TestLattice
from chromamol.inverse.normal_equations import NormalEquations, WeightedTile
from chromamol.inverse.positive_fit import positive_fit
from chromamol.inverse.problem import RateProblem
from chromamol.inverse.regression import regress
from chromamol.inverse.single_fit import SHORTEST_LENGTH_PX, Balance, RegressionFit, typical_sizes
from chromamol.inverse.smooth_fit import fit_smooth
from chromamol.inverse.weak_form import weak_equations
from chromamol.inverse.weak_noise import EquationNoise
from chromamol.physics.split import split_total

HALF_WIDTHS_PX = (29, 21, 15, 11, 8)
LENGTHS = tuple(float(r) for r in np.geomspace(1.0, 8.0, 7))
"""Correlation lengths tried, in units of the shortest that the basis carries."""

AMPLITUDES = (0.05, 0.1, 0.2, 0.4, 0.8)
CPU = torch.device("cpu")


def tuned_regression(scene: Scene) -> Estimate:
    """Return the regression of least error among all widths and smoothness; no user could choose it.

    Judged by the sum of the relative errors of the unknown rates over the scored pixels. The noise is estimated and one
    channel is split as in the untuned regression.
    """
    problem = _problem(scene)
    (first,) = regress(problem, device=CPU)
    unknown = RATES[: 1 if scene.case.acetylation_known else 2]
    guess = tuple(max(getattr(first, name).mean, 0.0) for name in unknown)
    truths = {name: getattr(scene.truth, name) for name in unknown}
    best: tuple[float, dict[str, Guess]] = (np.inf, {})
    for pixels in HALF_WIDTHS_PX:
        width = (pixels * PIXEL,) * problem.grid.ndim
        lattice = TestLattice.inside_mask(problem.grid, problem.mask, width)
        if lattice.count < 2 * len(unknown):
            continue
        for fit in _fits(problem, lattice, width, guess):
            found = {name: Guess.of(fit.rate_map(i)) for i, name in enumerate(unknown)}
            error = sum(_relative(found[name], truths[name], scene) for name in unknown)
            if error < best[0]:
                best = (error, found)
    return Estimate(best[1], "best of all settings" if best[1] else "no width fits")


def _problem(scene: Scene) -> RateProblem:
    grid = Grid(scene.truth.phi_h.shape, (PIXEL,) * scene.truth.phi_h.ndim)
    fields = [Field(image, grid, "1", scene.truth.mask) for image in scene.images]
    known = scene.known_acetylation
    if len(fields) == 1:
        return one_channel_problem(split_total(fields[0], PARAMETERS), PARAMETERS, known)
    return two_channel_problem(fields, PARAMETERS, known, None, with_total=False)


def _fits(
    problem: RateProblem, lattice: TestLattice, width: tuple[float, ...], guess: tuple[float, ...]
) -> list[RegressionFit]:
    basis = CosineBasis.smooth_to(problem.grid, SHORTEST_LENGTH_PX * PIXEL)
    normal = NormalEquations.zeros(len(guess) * basis.size)
    noise = EquationNoise.of(problem)
    for tile in lattice.tiles():
        weighted = WeightedTile.of(noise.grams(tile), basis, guess, device=CPU)
        normal.add(weak_equations(problem, basis, tile), weighted)
    scales = np.maximum(np.array(guess), 1e-3)
    normal = normal.without_negative(typical_sizes(basis, len(guess)))
    normal = Balance.of(problem, basis, 0.5 * max(width)).added_to(normal, scales)
    priors = [
        (length * basis.shortest_length_um, amplitude) for length in LENGTHS for amplitude in AMPLITUDES
    ]
    linear = [fit_smooth(normal, basis, scales, misfit=1.0, prior=prior) for prior in priors]
    return [
        RegressionFit(width, lattice, basis, len(guess), positive_fit(normal, basis, each)) for each in linear
    ]


def _relative(found: Guess, truth: np.ndarray, scene: Scene) -> float:
    use = scene.scored
    return float(np.linalg.norm((found.values - truth)[use]) / np.linalg.norm(truth[use]))
