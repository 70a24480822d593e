"""What each estimator sets to zero is the balance of `chromamol.physics`, which none of them calls."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse.basis import CosineBasis
from chromamol.inverse.joint_setup import Guess, build_model
from chromamol.inverse.lattice import TestLattice, identity_terms
from chromamol.inverse.moving_form import MovingProblem, balance_terms, windowed_images
from chromamol.inverse.problem import RateProblem
from chromamol.inverse.stencil import averaged, compact_laplacian
from chromamol.inverse.weak_form import weak_equations
from chromamol.physics import ChromatinModel, ChromatinParameters
from chromamol.synthetic.spaces import PeriodicBox

MODEL = ChromatinModel(ChromatinParameters(interface_length_um=0.03))
GRIDS = [Grid((60, 72), (0.02, 0.025)), Grid((32, 36, 40), (0.04, 0.04, 0.04))]


def waves(shape, cycles=1):
    """Smooth fields without a border."""
    y, x = (2.0 * np.pi * cycles * np.arange(n) / n for n in shape[-2:])
    wave = np.broadcast_to(np.sin(x) * np.cos(y + 0.3)[:, None], shape)
    if len(shape) == 3:
        wave = wave * np.cos(2.0 * np.pi * np.arange(shape[0]) / shape[0] + 0.5)[:, None, None]
    return 0.3 + 0.2 * wave, 0.25 + 0.05 * np.broadcast_to(np.cos(2.0 * x + 0.1), shape) + 0.02 * wave


def laplacian_on(shape, spacing):
    box = PeriodicBox.build(tuple(shape), tuple(spacing))

    def laplacian(values):
        found = box.laplacian(torch.as_tensor(values))
        return found if isinstance(values, torch.Tensor) else found.numpy()

    return laplacian


def problem_on(grid, phi_h, phi_e, known=None):
    mask = np.ones(grid.shape, dtype=bool)
    fields = (Field(phi, grid, "1", mask) for phi in (phi_h, phi_e))
    return RateProblem(*fields, (), MODEL.parameters, known)


def on_lattice(grid):
    """Test functions, cosines and the coefficients of two rates."""
    lattice = TestLattice.inside_mask(
        grid, np.ones(grid.shape, dtype=bool), tuple(10.0 * h for h in grid.spacing_um)
    )
    basis = CosineBasis.smooth_to(grid, 1.0)
    rng = np.random.default_rng(0)
    coefficients = 0.2 * rng.standard_normal((2, basis.size))
    coefficients[:, 0] = 8.0, 10.0
    return next(lattice.tiles()), basis, coefficients


@pytest.mark.parametrize("grid", GRIDS, ids=["2D", "3D"])
@pytest.mark.parametrize("is_known", [False, True], ids=["both", "known acetylation"])
def test_the_regression_tests_the_balance_of_heterochromatin(grid, is_known):
    phi_h, phi_e = waves(grid.shape)
    tile, basis, coefficients = on_lattice(grid)
    methylation, acetylation = (basis.synthesise(each) for each in coefficients)
    equations = weak_equations(problem_on(grid, phi_h, phi_e, acetylation if is_known else None), basis, tile)
    found = equations.columns @ (coefficients[0] if is_known else coefficients.ravel()) - equations.right_side
    strong = MODEL.heterochromatin.strong(
        phi_h, methylation * phi_e - acetylation * phi_h, laplacian=laplacian_on(grid.shape, grid.spacing_um)
    )
    expected = tile.integrate(strong[tile.window], identity_terms(grid.ndim))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_a_film_tests_the_balance_of_heterochromatin_on_its_way():
    """A pattern that changes as a parabola in time, which the windows differentiate exactly."""
    grid, interval, diffusivity = GRIDS[0], 3.0, 0.05
    phi_h, phi_e = waves(grid.shape)
    tile, basis, coefficients = on_lattice(grid)
    methylation, acetylation = (basis.synthesise(each) for each in coefficients)
    times = interval * np.arange(7)
    slow = 0.004 * (phi_e - 0.25)
    films = [(phi_h + t * slow + 0.05 * t**2 * slow, phi_e - t * slow) for t in times]
    problem = MovingProblem(tuple(problem_on(grid, *frame) for frame in films), interval)
    laplacian = laplacian_on(grid.shape, grid.spacing_um)
    strong = [
        MODEL.heterochromatin.strong(
            h, methylation * e - acetylation * h, laplacian=laplacian,
            change=(1.0 + 0.1 * t) * slow / diffusivity,
        )
        for t, (h, e) in zip(times, films, strict=True)
    ]  # fmt: skip
    for images, theta in zip(windowed_images(problem), problem.windows().weights, strict=True):
        columns, right_side = balance_terms(images, basis, tile)
        found = columns @ np.concatenate([coefficients.ravel(), [1.0 / diffusivity]]) - right_side
        seen = np.tensordot(theta, np.stack(strong), axes=1)
        expected = tile.integrate(seen[tile.window], identity_terms(grid.ndim))
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_the_joint_fit_has_both_balances_integrated_twice(small_problem):
    """Its residual is B (μ + Δ⁻¹ exchange) - C; A makes B² of the strong residual of it."""
    problem = small_problem()
    model = build_model(problem, Guess(0.8, 1.0, 1.6, 0.3), device=torch.device("cpu"))
    phi_h, phi_e = (torch.as_tensor(phi[None].copy()) for phi in waves(model.box, cycles=3))
    modes = 0.3 * torch.randn(model.root.shape, generator=torch.Generator().manual_seed(0), dtype=phi_h.dtype)
    nothing = model.nothing(1)
    x = nothing.__class__(phi_h, phi_e, nothing.outer, modes, nothing.scalars)
    methylation, acetylation = model.rates(x)
    conversion = methylation * phi_e - acetylation * phi_h
    spacing = problem.grid.spacing_um
    laplacian = laplacian_on(model.box, spacing)
    residual = model.residuals(x, 1.0)["balance"]
    found = compact_laplacian(residual, [h**-2 for h in spacing])
    strong = [
        balance.strong(phi, conversion, laplacian=laplacian)
        for balance, phi in ((MODEL.heterochromatin, phi_h), (MODEL.euchromatin, phi_e))
    ]
    expected = averaged(averaged(torch.stack(strong, 1), 2), 2)
    deep = ndimage.binary_erosion(model.balanced[0].numpy() > 0.0, iterations=3)
    assert deep.sum() > 1000
    for one, other in zip(found[0], expected[0], strict=True):
        difference = (one - other).numpy()[deep]
        np.testing.assert_allclose(difference, 0.0, atol=1e-3 * float(other.abs().max()))
