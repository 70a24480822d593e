"""Local polynomial fits: exact up to the border of a mask, with the noise they say."""

import numpy as np
import pytest

from chromamol.calculus.layer import bilaplacian, laplacian
from chromamol.calculus.local_fit import fit_derivative
from chromamol.calculus.validity import differentiate, valid_after
from chromamol.errors import FieldError, KernelError
from chromamol.field import Field
from chromamol.grid import Grid


def disc(shape, radius):
    grids = np.meshgrid(*[np.arange(n) - n / 2 for n in shape], indexing="ij")
    return sum(g**2 for g in grids) < radius**2


@pytest.mark.parametrize(
    ("order", "degree"), [(laplacian(2), 3), ((1, 1), 3), (bilaplacian(2), 5), ((0, 1), 2)]
)
def test_polynomials_are_exact_up_to_the_border_of_a_mask(order, degree):
    spacing = (0.1, 0.2)
    y, x = np.meshgrid(
        *[(np.arange(n) - n / 2) * h for n, h in zip((48, 44), spacing, strict=True)], indexing="ij"
    )
    field = x**2 * y - y**2 + x * y + (x**4 if degree > 3 else 0) + (y**3 if degree > 2 else 0)
    field = field if degree > 2 else x - 2 * y + x * y
    answers = {
        (1, 1): 2 * x + 1, (0, 1): 1 + y,
    }  # fmt: skip
    answer = {3: 2 * y - 2 + 6 * y, 5: 24 + 0 * x}[degree] if not isinstance(order, tuple) else answers[order]
    mask = disc((48, 44), 18)
    spoiled = np.where(mask, field, np.nan)
    fit = fit_derivative(spoiled, order, mask=mask, spacing=spacing, width=(1.0, 2.0), max_noise_gain=1e4)
    assert fit.valid.sum() > 0.95 * mask.sum()
    assert not fit.valid[~mask].any()
    scale = np.abs(field[mask]).max() * fit.noise_gain[fit.valid].max()
    assert np.abs(fit.values - answer)[fit.valid].max() < 1e-9 * scale


@pytest.mark.parametrize(("shape", "order"), [((80,), (2,)), ((20, 18, 22), (2, 0, 0))])
def test_one_and_three_dimensions(shape, order):
    axis = np.arange(shape[0]) * 0.1
    field = np.broadcast_to((axis**2).reshape(-1, *[1] * (len(shape) - 1)), shape).copy()
    fit = fit_derivative(field, order, spacing=0.1, width=0.65)
    assert fit.valid.mean() > 0.5
    np.testing.assert_allclose(fit.values[fit.valid], 2.0, rtol=1e-8)


def test_the_noise_gain_is_what_repeated_noise_shows():
    rng = np.random.default_rng(0)
    mask = disc((22, 22), 9)
    squares = []
    for _ in range(40):
        fit = fit_derivative(rng.standard_normal((22, 22)), (2, 0), mask=mask, spacing=1.0, width=6.0)
        squares.append((fit.values / fit.noise_gain)[fit.valid] ** 2)
    assert np.mean(squares) == pytest.approx(1.0, abs=0.12)
    border = np.argsort(fit.noise_gain[fit.valid])[-40:]
    assert np.mean(np.array(squares)[:, border]) == pytest.approx(1.0, abs=0.2)


def test_a_field_may_ask_for_fits_and_gets_more_valid_pixels():
    grid = Grid((40, 40), (0.1, 0.1))
    y, x = np.meshgrid(np.arange(40) * 0.1, np.arange(40) * 0.1, indexing="ij")
    field = Field(x**2 + y, grid, "1", disc((40, 40), 15))
    excluded = differentiate(field, (0, 2), width=0.7)
    fitted = differentiate(field, (0, 2), width=0.7, mode="fit")
    assert fitted.unit == excluded.unit == "um^-2"
    assert fitted.mask.sum() > 2 * excluded.mask.sum()
    assert fitted.mask[excluded.mask].all()
    np.testing.assert_array_equal(excluded.mask, valid_after(field.mask, 7.0))
    np.testing.assert_allclose(fitted.values[fitted.mask], 2.0, rtol=1e-8)


def test_pixels_that_determine_nothing_are_invalid():
    mask = np.zeros((30, 30), dtype=bool)
    mask[15, 5:25] = True
    fit = fit_derivative(np.ones((30, 30)), (2, 0), mask=mask, spacing=1.0, width=6.0)
    assert not fit.valid.any()
    assert np.isnan(fit.values).all()
    along = fit_derivative(np.ones((30, 30)), (0, 0), mask=mask, spacing=1.0, width=6.0, degree=0)
    np.testing.assert_array_equal(along.valid, mask)


def test_masked_samples_are_unknown():
    field, hidden = np.ones((30, 30)), np.eye(30) > 0
    plain = fit_derivative(np.where(hidden, np.nan, field), (2, 0), spacing=1.0, width=6.0)
    masked = np.ma.masked_array(np.where(hidden, -9999.0, field), hidden)
    found = fit_derivative(masked, (2, 0), spacing=1.0, width=6.0)
    np.testing.assert_array_equal(found.values, plain.values)
    assert not found.valid[hidden].any()
    with pytest.raises(FieldError, match="finite values inside the mask"):
        fit_derivative(masked, (2, 0), mask=np.ones((30, 30), dtype=bool), spacing=1.0, width=6.0)


def test_bad_requests_are_typed_errors():
    field = np.ones((30, 30))
    with pytest.raises(KernelError, match="at least 2"):
        fit_derivative(field, (2, 0), spacing=1.0, width=6.0, degree=1)
    with pytest.raises(KernelError, match="more pixels"):
        fit_derivative(field, (4, 0), spacing=1.0, width=2.0)
    with pytest.raises(FieldError, match="one shape"):
        fit_derivative(field, (2, 0), mask=np.ones((5, 5), dtype=bool), spacing=1.0, width=6.0)
    with pytest.raises(FieldError, match="exclude or fit"):
        differentiate(Field(field, Grid((30, 30), (1.0, 1.0)), "1"), (2, 0), width=6.0, mode="guess")
