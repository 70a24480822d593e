"""A mask drawn too large is cut back to the wall; one that fits, or lies inside, is left alone."""

import numpy as np
import pytest
from scipy import ndimage

from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse.trimmed_mask import trimmed, without_dark_rim

MIXINGS = {
    "marks": ((1.0, 0.0), (0.0, 1.0)),
    "mark and total": ((1.0, 0.0), (1.0, 1.0)),
    "total": ((1.0, 1.0),),
}


def look(state, mixing, *, blur_px=0.0, noise=0.05):
    """What images show of a pattern; outside the nucleus there is noise alone."""
    rng = np.random.default_rng(0)
    sd = noise * 0.7
    images = [(h * state.phi_h + e * state.phi_e) * state.mask for h, e in mixing]
    return [ndimage.gaussian_filter(v, blur_px) + sd * rng.standard_normal(v.shape) for v in images]


def cut(images, mixing, mask):
    grid = Grid(mask.shape, (1.0,) * mask.ndim)
    return without_dark_rim(tuple(Field(v, grid, "1", mask) for v in images), mixing)


@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize("seen", MIXINGS)
def test_dark_layers_are_left_out(truth, seen, layers):
    """Domains that stick to the wall shine over it through the point spread function of one pixel."""
    state = truth("walled_1")
    images = look(state, MIXINGS[seen], blur_px=1.0)
    wide = ndimage.binary_dilation(state.mask, iterations=layers)
    found = cut(images, MIXINGS[seen], wide)
    assert (found[0].mask ^ state.mask).sum() < 0.05 * (wide & ~state.mask).sum()
    for field, given in zip(found, images, strict=True):
        assert field.mask is found[0].mask
        np.testing.assert_array_equal(field.values, given)


def test_a_margin_on_one_side_is_left_out(truth):
    state = truth("walled_1")
    shifted = state.mask | np.roll(state.mask, 4, axis=0)
    (found,) = cut(look(state, MIXINGS["total"], blur_px=1.0), MIXINGS["total"], shifted)
    # The margin tapers to nothing.
    assert (found.mask ^ state.mask).sum() < 0.1 * (shifted & ~state.mask).sum()


@pytest.mark.parametrize("layers", [0, 1, 3])
@pytest.mark.parametrize("seen", MIXINGS)
def test_a_mask_that_fits_or_lies_inside_stays(truth, seen, layers):
    state = truth("walled_1")
    inside = ndimage.binary_erosion(state.mask, iterations=layers) if layers else state.mask
    found = cut(look(state, MIXINGS[seen], blur_px=1.0), MIXINGS[seen], inside)
    assert (found[0].mask == inside).all()


@pytest.mark.parametrize("name", ["known_0", "both_0"])
def test_a_border_through_a_larger_pattern_stays(truth, name):
    """Wherever it runs, along the edge of a domain, too."""
    state = truth(name)
    rng = np.random.default_rng(1)
    (total,) = look(state, MIXINGS["total"], noise=0.1)
    y, x = np.mgrid[-1 : 1 : total.shape[0] * 1j, -1 : 1 : total.shape[1] * 1j]
    for _ in range(10):
        a, b, cy, cx = *rng.uniform(0.4, 0.9, 2), *rng.uniform(-0.1, 0.1, 2)
        mask = ((y - cy) / a) ** 2 + ((x - cx) / b) ** 2 < 1.0
        (found,) = cut([total], MIXINGS["total"], mask)
        assert (found.mask == mask).all()


def test_a_long_domain_behind_the_wall_does_not_darken_what_is_before_it():
    """What lies between the two is less than half as bright as the mean of both, and belongs to the nucleus."""
    y, x = np.mgrid[:80, :80] - 39.5
    radius = np.hypot(y, x)
    total = np.where(radius < 35.0, 0.3, 0.0) + 0.6 * (np.abs(radius - 25.0) < 5.0)
    np.testing.assert_array_equal(trimmed(radius < 35.0, total), radius < 35.0)
    assert (trimmed(radius < 38.0, total) ^ (radius < 35.0)).sum() < 0.1 * np.pi * (38.0**2 - 35.0**2)


def test_nothing_is_cut_at_the_edge_of_the_image_nor_from_darkness():
    everywhere = np.ones((40, 30), bool)
    disc = np.hypot(*np.mgrid[-20:20, -15:15]) < 12.0
    for level in (1.0, 0.0, -1.0):
        for mask in (everywhere, disc):
            np.testing.assert_array_equal(trimmed(mask, np.full(mask.shape, level)), mask)


def test_a_ball_is_cut_to_its_wall():
    distance = np.sqrt(sum(c**2 for c in np.mgrid[-14:15, -14:15, -14:15]))
    ball, wide = distance < 9.5, distance < 12.5
    found = trimmed(wide, ball.astype(float))
    assert not (ball & ~found).any()
    assert (found & ~ball).sum() < 0.1 * (wide & ~ball).sum()  # layers of pixels are none of the ball
