"""The parts of the regression: test functions, basis, noise covariance, evidence."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from chromamol.errors import FieldError
from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse.basis import CosineBasis
from chromamol.inverse.lattice import TestLattice, bilaplacian_terms, identity_terms, laplacian_terms
from chromamol.inverse.normal_equations import NormalEquations, TakenOff
from chromamol.inverse.pair_products import NeighbourPairs
from chromamol.inverse.problem import NoiseSource, RateProblem
from chromamol.inverse.smooth_fit import fit_smooth
from chromamol.inverse.weak_form import weak_equations
from chromamol.inverse.weak_noise import EquationNoise, SmoothedTest, SpreadRows
from chromamol.physics import ChromatinParameters

GRIDS = [Grid((60, 70), (0.04, 0.05)), Grid((30, 34, 36), (0.06, 0.04, 0.04))]


def coordinates(grid):
    return np.meshgrid(
        *(np.arange(n) * h for n, h in zip(grid.shape, grid.spacing_um, strict=True)), indexing="ij"
    )


def lattice_of(grid, half_width_px=9.0):
    width = tuple(half_width_px * h for h in grid.spacing_um)
    return TestLattice.inside_mask(grid, np.ones(grid.shape, dtype=bool), width)


@pytest.mark.parametrize("grid", GRIDS, ids=["2D", "3D"])
def test_test_functions_integrate_derivatives_of_polynomials_exactly(grid):
    """∫ u Δψ = ∫ ψ Δu and ∫ u ΔΔψ = ∫ ψ ΔΔu for a polynomial of degree 5, to rounding."""
    lattice = lattice_of(grid)
    tile = next(lattice.tiles())
    axes = coordinates(grid)
    first, last = axes[0], axes[-1]
    u = first**4 * last + 3.0 * first**2 * last**2 + last**4
    laplacian = 12.0 * first**2 * last + 6.0 * (last**2 + first**2) + 12.0 * last**2
    bilaplacian = 24.0 * last + 24.0 + 24.0
    for terms, derivative in (
        (laplacian_terms(grid.ndim), laplacian),
        (bilaplacian_terms(grid.ndim), bilaplacian),
    ):
        weak = tile.integrate(u[tile.window], terms)
        strong = tile.integrate(
            np.broadcast_to(derivative, grid.shape)[tile.window], identity_terms(grid.ndim)
        )
        np.testing.assert_allclose(weak, strong, rtol=1e-8)


def test_every_test_function_lies_inside_the_mask():
    grid = GRIDS[0]
    y, x = np.indices(grid.shape)
    mask = (y - 30) ** 2 + (x - 35) ** 2 < 28**2
    lattice = TestLattice.inside_mask(grid, mask, (8 * 0.04, 8 * 0.05))
    assert lattice.count > 0
    for tile in lattice.tiles():
        for corner in tile.corners:
            box = tuple(slice(c, c + n) for c, n in zip(corner, tile.stencil_shape, strict=True))
            assert mask[box].all()


@pytest.mark.parametrize("pixels", [40, 41, 42, 43, 150, 151])
@pytest.mark.parametrize("half_width_px", [8, 11, 15])
def test_a_lattice_and_its_tiles_are_the_same_from_either_end(pixels, half_width_px):
    mask = np.ones((pixels, 33), dtype=bool)
    lattice = TestLattice.inside_mask(Grid(mask.shape, (0.04,) * 2), mask, (half_width_px * 0.04,) * 2)
    tiles = list(lattice.tiles())
    rows = np.unique(np.concatenate([tile.positions[:, 0] for tile in tiles]))
    np.testing.assert_array_equal(rows, pixels - 1 - rows[::-1])
    assert np.all(np.diff(rows) == round(0.3 * half_width_px))
    assert lattice.inside.all()
    counts = [len(tile.positions) for tile in tiles]
    assert counts == counts[::-1]
    assert max(counts) <= 1296
    central = lattice.central_tile().positions
    np.testing.assert_allclose(central.mean(axis=0), [0.5 * (pixels - 1), 16.0])


@pytest.mark.parametrize("grid", GRIDS, ids=["2D", "3D"])
def test_cosines_are_orthonormal_and_sorted(grid):
    basis = CosineBasis.smooth_to(grid, 0.5)
    modes = basis.evaluate_rows(slice(0, grid.shape[0])).reshape(basis.size, -1)
    np.testing.assert_allclose(modes @ modes.T / modes.shape[1], np.eye(basis.size), atol=1e-10)
    assert np.all(np.diff(basis.wavenumbers) >= 0)
    assert basis.relative_spectrum(0.8).sum() == pytest.approx(1.0)
    positions = np.array([[3] * grid.ndim, [7] * grid.ndim])
    chosen = basis.evaluate_at(positions)
    np.testing.assert_allclose(
        chosen[1], basis.evaluate_rows(slice(7, 8))[(slice(None), 0, *[7] * (grid.ndim - 1))]
    )


@pytest.mark.parametrize("grid", GRIDS, ids=["2D", "3D"])
def test_maps_axis_by_axis_are_those_of_the_modes_one_by_one(grid):
    basis = CosineBasis.smooth_to(grid, 0.5)
    modes = basis.evaluate_rows(slice(0, grid.shape[0]))
    rng = np.random.default_rng(0)
    coefficients, root = rng.standard_normal(basis.size), rng.standard_normal((basis.size, basis.size))
    values = np.tensordot(coefficients, modes, axes=1)
    np.testing.assert_allclose(basis.synthesise(coefficients), values, atol=1e-10)
    np.testing.assert_allclose(basis.average(values), coefficients, atol=1e-10)
    variance = (np.tensordot(root.T, modes, axes=1) ** 2).sum(axis=0)
    np.testing.assert_allclose(basis.variance(root @ root.T), variance, rtol=1e-10)


def pattern(grid):
    axes = coordinates(grid)
    wave = np.prod([np.sin(9.0 * a + i) for i, a in enumerate(axes)], axis=0)
    return 0.35 + 0.3 * np.tanh(4.0 * wave), 0.25 + 0.01 * wave


@pytest.mark.parametrize("grid", GRIDS, ids=["2D", "3D"])
def test_sums_over_neighbouring_functions_are_those_pixel_by_pixel(grid):
    """Σ c (P ψ_i)(Q ψ_j), for a field and a number, against the functions written out on the whole grid."""
    inside = np.ones(grid.shape, dtype=bool)
    inside[:5] = False
    lattice = TestLattice.inside_mask(grid, inside, tuple(9.0 * h for h in grid.spacing_um))
    tile = next(lattice.tiles())
    pairs = NeighbourPairs.of(tile)
    ndim, field = grid.ndim, np.random.default_rng(0).random(grid.shape)
    laplacian, surface, test = laplacian_terms(ndim), bilaplacian_terms(ndim), identity_terms(ndim)

    def written_out(terms):
        rows = np.zeros((len(tile.corners), *grid.shape))
        for row, corner in zip(rows, tile.corners, strict=True):
            box = tuple(slice(c, c + n) for c, n in zip(corner, tile.stencil_shape, strict=True))
            row[box] = tile.stencil(terms)
        return rows.reshape(len(rows), -1)

    p, q, r = (written_out(terms) for terms in (laplacian, surface, test))
    expected = (p * field.ravel()) @ q.T + (q * field.ravel()) @ r.T + 2.0 * p @ p.T
    found = pairs.sums(
        [(field[tile.window], ((laplacian, surface), (surface, test))), (2.0, ((laplacian, laplacian),))]
    )
    scale = np.abs(expected).max()
    # Products of fields are taken in single precision.
    np.testing.assert_allclose(found, expected[pairs.first, pairs.second], rtol=0.0, atol=5e-7 * scale)
    both = expected + expected.T
    neglected = both - pairs.matrix(both[pairs.first, pairs.second])
    assert np.abs(neglected).max() < 1e-12 * scale


def test_smoothed_test_functions_are_the_rows_written_down():
    """One shape, shifted, against every row spread over its own pixels."""
    grid, taps = Grid((40, 36), (0.04, 0.05)), np.array([0.05, 0.25, 0.4, 0.25, 0.05])
    tile = next(lattice_of(grid, 11.0).tiles())
    source = NoiseSource(0.02, 1.0, 0.0, (taps, taps))
    pairs = NeighbourPairs.of(tile, spread=2)
    test = tile.stencil(identity_terms(2))
    n = np.count_nonzero(tile.inside)
    rows = test * np.random.default_rng(0).uniform(0.5, 1.5, (n, *test.shape))
    column = SpreadRows.of(np.broadcast_to(test, rows.shape).reshape(n, -1), source, tile)
    mixed = SpreadRows.of(rows.reshape(n, -1), source, tile).gram(column)
    i, j = pairs.first, pairs.second
    shape = SmoothedTest.of(source, pairs)
    own = column.gram(column)[i, j]
    np.testing.assert_allclose(shape.with_itself(), own, atol=1e-5 * own.max())
    expected = np.stack([mixed[i, j], mixed[j, i]])
    np.testing.assert_allclose(shape.with_rows(rows), expected, atol=1e-5 * expected.max())
    with pytest.raises(FieldError, match="one number where noise is smoothed"):
        NoiseSource(np.full((40, 36), 0.02), 1.0, 0.0, (taps, taps))


@pytest.mark.parametrize("smoothing", [(), (np.array([0.25, 0.5, 0.25]),) * 2], ids=["white", "smoothed"])
def test_noise_covariance_agrees_with_simulated_noise(smoothing):
    """The covariance of b - A c over 300 draws of noise, against the one that weighs the equations."""
    grid = Grid((36, 36), (0.04, 0.04))
    phi_h, phi_e = pattern(grid)
    sd, rates = 0.01, (0.8, 1.1)
    sources = (NoiseSource(sd, 1.0, 0.0, smoothing), NoiseSource(sd, 0.0, 1.0, smoothing))
    parameters = ChromatinParameters(interface_length_um=0.03)
    lattice = lattice_of(grid, 11.0)
    basis = CosineBasis(grid, np.zeros((1, 2), dtype=int))

    def residual(h, e):
        problem = RateProblem(Field(h, grid, "1"), Field(e, grid, "1"), sources, parameters)
        tile = next(lattice.tiles())
        grams = EquationNoise.of(problem).grams(tile)
        equations = weak_equations(problem, basis, tile)
        return equations.right_side - equations.columns @ np.array(rates), grams

    rng = np.random.default_rng(0)

    def noise():
        draw = sd * rng.standard_normal(grid.shape)
        for axis, taps in enumerate(smoothing):
            draw = ndimage.convolve1d(draw, taps, axis=axis, mode="reflect")
        return draw

    clean, grams = residual(phi_h, phi_e)
    draws = np.array([residual(phi_h + noise(), phi_e + noise())[0] for _ in range(300)])
    predicted = grams.residual_covariance(*rates)
    measured = np.cov(draws.T)
    # Each entry of a covariance of 300 draws scatters by about 1 / sqrt(300) of the variances.
    scale = np.sqrt(np.outer(np.diag(predicted), np.diag(predicted)))
    assert np.abs((measured - predicted) / scale).max() < 0.35
    assert np.mean(np.diag(measured) / np.diag(predicted)) == pytest.approx(1.0, abs=0.06)
    bias = (draws.mean(axis=0) - clean) / np.sqrt(np.diag(predicted))
    assert np.abs(bias.mean()) < 0.1


def test_noise_of_a_stiffness_that_changes_is_the_same_with_a_smoothing_that_does_nothing():
    grid, rng = Grid((36, 36), (0.04, 0.04)), np.random.default_rng(4)
    phi_h, phi_e = pattern(grid)
    stiffness, changing = rng.uniform(-0.2, 0.5, grid.shape), rng.uniform(0.0, 0.4, grid.shape)
    tile = next(lattice_of(grid, 11.0).tiles())
    found = []
    for taps in ((), (np.array([0.0, 1.0, 0.0]),) * 2):
        noise = (NoiseSource(0.01, 1.0, 0.0, taps), NoiseSource(0.01, 0.0, 1.0, taps))
        problem = RateProblem(Field(phi_h, grid, "1"), Field(phi_e, grid, "1"), noise, ChromatinParameters())
        found.append(EquationNoise.with_stiffness(problem, stiffness, changing).grams(tile))
    steady = EquationNoise.with_stiffness(problem, stiffness).grams(tile)
    white, smoothed = (grams.residual_covariance(0.8, 1.1) for grams in found)
    np.testing.assert_allclose(white, smoothed, atol=1e-5 * white.max())
    own = np.trace(white) - np.trace(steady.residual_covariance(0.8, 1.1))
    assert own > 0.1 * np.trace(white)


def test_misfit_per_degree_of_freedom_is_that_of_the_noise_whatever_is_fitted():
    """90 unknowns from 300 equations with noise in A, of twice the variance that they are weighted with."""
    rng = np.random.default_rng(5)
    true, sd = rng.standard_normal(90), 0.1
    clean = rng.standard_normal((300, 90))
    variance = 1.0 + sd**2 * float(true @ true)
    seen = clean + np.sqrt(2.0) * sd * rng.standard_normal(clean.shape)
    values = clean @ true + np.sqrt(2.0) * rng.standard_normal(300)
    off = TakenOff(300 * sd**2 * np.eye(90) / variance, np.zeros(90))
    equations = NormalEquations(
        seen.T @ seen / variance - off.gram,
        seen.T @ values / variance,
        float(values @ values) / variance,
        300,
    )
    best = np.linalg.solve(equations.gram + off.gram, equations.cross)
    assert replace(equations, taken_off=off).misfit_of(best, fitted=lambda: 90.0) == pytest.approx(
        2.0, rel=0.2
    )
    assert equations.misfit_of(best, fitted=lambda: 90.0) < 1.5


def test_evidence_finds_the_smoothness_of_a_map():
    """Direct noisy observations of a map of known correlation length and amplitude."""
    grid = Grid((80, 80), (0.1, 0.1))
    basis = CosineBasis.smooth_to(grid, 0.9)
    rng = np.random.default_rng(3)
    true = np.concatenate(
        [[1.0], 0.3 * np.sqrt(basis.relative_spectrum(1.6))[1:] * rng.standard_normal(basis.size - 1)]
    )
    rows = basis.evaluate_at(rng.integers(0, 80, (600, 2)))
    values = rows @ true + 0.1 * rng.standard_normal(600)
    normal = NormalEquations(rows.T @ rows / 0.01, rows.T @ values / 0.01, float(values @ values) / 0.01, 600)
    fit = fit_smooth(normal, basis, np.array([1.0]), misfit=1.0)
    assert 1.0 < fit.length_um < 2.5
    assert 0.15 < fit.amplitude < 0.6
    assert fit.next_misfit == pytest.approx(1.0, abs=0.2)
    modes = basis.evaluate_rows(slice(0, 80)).reshape(basis.size, -1)
    error = np.sqrt(np.einsum("kp,kl,lp->p", modes, fit.covariance, modes))
    score = (fit.coefficients - true) @ modes / error
    assert np.sqrt(np.mean(score**2)) == pytest.approx(1.0, abs=0.35)


@pytest.mark.parametrize("grid", GRIDS, ids=["2D", "3D"])
def test_weights_of_a_stack_do_not_follow_its_noise(grid):
    rng = np.random.default_rng(0)
    wave = np.cos(coordinates(grid)[-1] * 8.0)
    noise = NoiseSource(0.035, 1.0, 0.0), NoiseSource(0.035, 0.0, 1.0)
    seen = []
    for _ in range(2):
        phi_h, phi_e = (0.3 + 0.3 * wave + 0.035 * rng.standard_normal(grid.shape) for _ in range(2))
        problem = RateProblem(Field(phi_h, grid, "1"), Field(phi_e, grid, "1"), noise, ChromatinParameters())
        (_, (stiffness, _), *_) = EquationNoise.of(problem).right
        seen.append(stiffness)
    changed = np.abs(seen[1] - seen[0]).max() / np.abs(seen[0]).max()
    assert (changed < 0.01) == (grid.ndim == 3)
