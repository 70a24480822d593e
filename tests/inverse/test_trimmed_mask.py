"""A mask drawn too large is cut back to the wall; one that fits, or lies inside, is left alone."""

import numpy as np
import pytest
from scipy import ndimage

from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse.trimmed_mask import trimmed, without_dark_rim

INTERFACE_UM = 0.03


@pytest.fixture(scope="module")
def nucleus(truth):
    """A nucleus with its wall, through a PSF of one pixel, as total chromatin with 5 % noise."""
    state = truth("walled_1")
    rng = np.random.default_rng(0)
    total = ndimage.gaussian_filter((state.phi_h + state.phi_e) * state.mask, 1.0)
    return state.mask, total + 0.035 * rng.standard_normal(total.shape), state.pixel_size_um


def images(values, mask, pixel_size_um):
    return (Field(values, Grid(mask.shape, (pixel_size_um,) * mask.ndim), "1", mask),)


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_dark_layers_are_left_out(nucleus, layers):
    mask, total, pixel = nucleus
    wide = ndimage.binary_dilation(mask, iterations=layers)
    (cut,) = without_dark_rim(images(total, wide, pixel), INTERFACE_UM)
    assert (cut.mask ^ mask).sum() < 0.03 * (wide & ~mask).sum()
    np.testing.assert_array_equal(cut.values, total)


def test_a_margin_on_one_side_is_left_out(nucleus):
    mask, total, pixel = nucleus
    shifted = mask | np.roll(mask, 4, axis=0)
    (cut,) = without_dark_rim(images(total, shifted, pixel), INTERFACE_UM)
    assert (cut.mask ^ mask).sum() < 0.1 * (shifted & ~mask).sum()  # the margin tapers to nothing


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_a_mask_that_fits_or_lies_inside_stays(nucleus, layers):
    mask, total, pixel = nucleus
    inside = ndimage.binary_erosion(mask, iterations=layers) if layers else mask
    given = images(total, inside, pixel)
    assert without_dark_rim(given, INTERFACE_UM) is given


def test_a_border_through_a_larger_pattern_stays(truth):
    state = truth("known_0")
    phi_h, phi_e = state.noisy(0.05, 0)
    y, x = np.mgrid[-1:1:192j, -1:1:192j]
    given = images(phi_h + phi_e, (y / 0.7) ** 2 + (x / 0.8) ** 2 < 1.0, state.pixel_size_um)
    assert without_dark_rim(given, INTERFACE_UM) is given


def test_nothing_is_cut_at_the_edge_of_the_image_nor_from_darkness():
    mask = np.ones((40, 30), bool)
    for level in (1.0, 0.0, -1.0):
        assert trimmed(mask, np.full(mask.shape, level), [5.0, 5.0]).all()
        disc = np.hypot(*np.mgrid[-20:20, -15:15]) < 12.0
        np.testing.assert_array_equal(trimmed(disc, np.full(mask.shape, level), [5.0, 5.0]), disc)


def test_a_ball_is_cut_to_its_wall():
    distance = np.sqrt(sum(c**2 for c in np.mgrid[-14:15, -14:15, -14:15]))
    ball, wide = distance < 9.5, distance < 12.5
    cut = trimmed(wide, ball.astype(float), [4.0, 4.0, 4.0])
    assert not (ball & ~cut).any()
    assert (cut & ~ball).sum() < 0.1 * (wide & ~ball).sum()  # layers of pixels are none of the ball
