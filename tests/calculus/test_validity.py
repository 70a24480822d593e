"""`valid` shrinks by exactly the support."""

import numpy as np
import pytest

from chromamol.calculus.taps import build_taps
from chromamol.calculus.validity import derivative_unit, differentiate, valid_after
from chromamol.errors import FieldError
from chromamol.field import Field
from chromamol.grid import Grid


def touched(mask, taps):
    """Brute force: pixels whose taps all fall inside the mask."""
    result = np.zeros_like(mask)
    radii = [n // 2 for n in taps.shape]
    for centre in np.ndindex(mask.shape):
        ok = True
        for offset in np.argwhere(taps != 0):
            pixel = tuple(c + o - r for c, o, r in zip(centre, offset, radii, strict=True))
            ok &= all(0 <= p < n for p, n in zip(pixel, mask.shape, strict=True)) and bool(mask[pixel])
        result[centre] = ok
    return result


@pytest.mark.parametrize("isotropic", [False, True])
@pytest.mark.parametrize(("shape", "widths"), [((25, 30), (3.0, 4.6)), ((13, 12, 11), (2.2, 3.0, 2.5))])
def test_valid_is_where_the_taps_stay_inside(shape, widths, isotropic):
    mask = np.random.default_rng(0).random(shape) > 0.01
    ndim = len(shape)
    taps = build_taps("gaussian", (0,) * ndim, half_width=widths, spacing=1.0, isotropic=isotropic).values
    np.testing.assert_array_equal(valid_after(mask, widths, isotropic=isotropic), touched(mask, taps))


def test_periodic_masks_keep_their_edge():
    assert valid_after(np.ones((20, 20), dtype=bool), 4.0, periodic=True).all()
    assert valid_after(np.ones((20, 20), dtype=bool), 4.0).sum() == 14 * 14


def test_a_derivative_carries_unit_grid_and_validity():
    grid = Grid((40, 50), (0.1, 0.2))
    y, x = np.meshgrid(np.arange(40) * 0.1, np.arange(50) * 0.2, indexing="ij")
    values = x**2 * y
    mask = np.ones(grid.shape, dtype=bool)
    mask[:, :5] = False
    values[:, :5] = np.nan
    result = differentiate(Field(values, grid, "1", mask), (0, 2), width=0.85)
    assert result.unit == "um^-2"
    assert result.grid == grid
    np.testing.assert_array_equal(result.mask, valid_after(mask, (8.5, 4.25)))
    np.testing.assert_allclose(result.values[result.mask], (2 * y)[result.mask], rtol=0, atol=1e-9)


def test_what_lies_outside_never_leaks_in():
    grid = Grid((40, 40), (1.0, 1.0))
    rng = np.random.default_rng(1)
    values = rng.standard_normal(grid.shape)
    mask = np.zeros(grid.shape, dtype=bool)
    mask[5:35, 8:33] = True
    other = np.where(mask, values, 1e6)
    a = differentiate(Field(values, grid, "1", mask), (4, 0), width=5.0)
    b = differentiate(Field(other, grid, "1", mask), (4, 0), width=5.0)
    np.testing.assert_allclose(a.values[a.mask], b.values[b.mask], rtol=1e-12, atol=1e-12)


def test_units():
    assert derivative_unit("1", 0) == "1"
    assert derivative_unit("um^-2", 2) == "um^-4"
    assert derivative_unit("photons", 1) == "photons um^-1"
    assert derivative_unit("photons um^-1", 1) == "photons um^-2"
    assert derivative_unit("um^2", 2) == "1"


def test_bad_masks_and_borders_are_field_errors():
    with pytest.raises(FieldError, match="bool"):
        valid_after(np.ones((5, 5)), 2.0)
    with pytest.raises(FieldError, match="masked samples"):
        valid_after(np.ma.masked_array(np.ones((5, 5), dtype=bool), np.eye(5)), 2.0)
    field = Field(np.zeros((30, 30)), Grid((30, 30), (1.0, 1.0)), "1")
    with pytest.raises(FieldError, match="reflect"):
        differentiate(field, (2, 0), width=4.0, border="valid")
    with pytest.raises(FieldError, match="one total order"):
        differentiate(field, {(2, 0): 1.0, (0, 0): 1.0}, width=4.0)
