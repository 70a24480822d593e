"""The ratio of a region that the image cuts out of a larger pattern, and its error."""

from itertools import product

import numpy as np
import pytest

import chromamol as cm
from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse.cut_faces import cut_flux_error, pattern_length_um
from chromamol.inverse.from_images import two_channel_problem
from chromamol.inverse.regression import integral_ratio

SD = 0.01


def problem_of(phi_h, phi_e, pixel_um, mask=None):
    spacing = (pixel_um,) * phi_h.ndim
    mask = np.ones(phi_h.shape, bool) if mask is None else mask
    fields = [Field(phi, Grid(phi_h.shape, spacing), "1", mask) for phi in (phi_h, phi_e)]
    return two_channel_problem(fields, cm.ChromatinParameters(), None, SD, with_total=False)


def block(phi, shape, start):
    """A piece of a periodic pattern."""
    return phi[np.ix_(*[(np.arange(n) + s) % m for n, s, m in zip(shape, start, phi.shape, strict=True)])]


def uncut_aside(phi):
    """A stack that ends at its sides, where the balance of a periodic pattern closes, and is cut in z."""
    return np.pad(phi, [(0, 0), (1, 1), (1, 1)])


def scores(problems, true):
    """How many standard errors the ratio of each is off, root mean square."""
    found = [integral_ratio(each) for each in problems]
    return float(np.sqrt(np.mean([((ratio - true) / error) ** 2 for ratio, error in found])))


@pytest.mark.parametrize("planes", [1, 3, 5, 8])
def test_slabs_of_a_stack_are_off_by_their_errors(truth, planes):
    """Thinner than a domain, and thicker: nothing that a slab shows tells what its faces let through."""
    state, problems = truth("stack"), []
    for axis, first in product(range(3), range(0, 24, 4)):
        fields = [
            uncut_aside(np.take(phi, np.arange(first, first + planes) % 24, axis=axis).swapaxes(0, axis))
            for phi in state.noisy(0.03, first)
        ]
        problems.append(problem_of(*fields, state.pixel_size_um, fields[0] != 0.0))
    assert 0.7 < scores(problems, 0.8) < 1.4


@pytest.mark.parametrize("pixels", [(40, 40), (64, 64), (84, 84), (40, 100)])
def test_pieces_of_flat_patterns_are_off_by_their_errors(truth, pixels):
    """A side is 1.6 to 3.9 L0."""
    off = []
    for name, true in (("uniform_0.5", 0.5), ("uniform_1", 1.0), ("uniform_1.5", 1.5)):
        state = truth(name)
        fields = state.noisy(0.03, 0)
        problems = [
            problem_of(*(block(phi, pixels, start) for phi in fields), state.pixel_size_um)
            for start in product(range(0, 192, 48), repeat=2)
        ]
        off.append(scores(problems, true) ** 2)
    assert 0.7 < np.sqrt(np.mean(off)) < 1.4


def test_a_thin_slab_is_as_far_off_as_its_planes(truth):
    """What goes in through one face goes out of the other, so the error stops growing."""
    state = truth("stack")
    errors = []
    for planes in (1, 2, 8, 16):
        fields = [uncut_aside(np.repeat(phi[:1], planes, axis=0)) for phi in (state.phi_h, state.phi_e)]
        errors.append(cut_flux_error(problem_of(*fields, state.pixel_size_um, fields[0] != 0.0)))
    assert errors[0] == pytest.approx(errors[1], rel=0.1)
    assert errors[2] == pytest.approx(2.0 * errors[3], rel=0.1)
    assert sorted(errors, reverse=True) == errors


def test_a_nucleus_that_lies_inside_has_no_such_error(truth):
    state = truth("stack")
    inside = np.zeros((24,) * 3, bool)
    inside[1:-1, 1:-1, 1:-1] = True
    whole = problem_of(state.phi_h, state.phi_e, state.pixel_size_um, inside)
    assert cut_flux_error(whole) == 0.0
    ratio, error = integral_ratio(whole)
    assert error < 0.011 * ratio
    inside[0] = inside[1]
    cut = problem_of(state.phi_h, state.phi_e, state.pixel_size_um, inside)
    assert integral_ratio(cut)[1] > 1.3 * error


def test_the_length_of_a_pattern_is_told_through_noise_on_any_pixels(truth):
    state = truth("uniform_1")
    grid, mask = Grid((192, 192), (state.pixel_size_um,) * 2), np.ones((192, 192), bool)
    length = pattern_length_um(Field(state.phi_h, grid, "1", mask))
    assert 0.4 < length < 0.55, "half of a domain and of what feeds it, in L0"
    noisy, _ = state.noisy(0.3, 0)
    assert pattern_length_um(Field(noisy, grid, "1", mask)) == pytest.approx(length, rel=0.02)
    oblong = Grid((96, 192), (2.0 * state.pixel_size_um, state.pixel_size_um))
    coarse = Field(state.phi_h[::2], oblong, "1", mask[::2])
    assert pattern_length_um(coarse) == pytest.approx(length, rel=0.05)
    flat = Field(np.full((192, 192), 0.25), grid, "1", mask)
    assert pattern_length_um(flat) == state.pixel_size_um
    slope = Field(np.broadcast_to(np.linspace(0.1, 0.4, 192), (192, 192)).copy(), grid, "1", mask)
    assert 0.3 < pattern_length_um(slope) / 7.5 <= 0.5
