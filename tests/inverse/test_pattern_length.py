"""The unit of length L0 as the pattern of a section tells it."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse.pattern_length import pattern_length_um, unit_length_um


def field(values, pixel_um):
    return Field(values, Grid(values.shape, (pixel_um,) * 2), "1", np.ones(values.shape, bool))


@pytest.mark.parametrize("radii", [0, 1, 2])
def test_sections_of_a_3d_pattern_tell_its_unit_through_noise_and_blur(radii):
    """L0 is 1 um there."""
    with np.load(Path(__file__).parent / "truth" / "sections.npz") as file:
        pixel, planes = float(file["pixel_size_um"]), file[f"phi_h_{radii}"].astype(float)
    rng = np.random.default_rng(0)
    for blur in (0.0, 0.15):
        seen = [ndimage.gaussian_filter(plane, blur / pixel, mode="wrap") for plane in planes]
        found = [
            unit_length_um(field(plane + 0.035 * rng.standard_normal(plane.shape), pixel)) for plane in seen
        ]
        assert np.mean(found) == pytest.approx(1.0, abs=0.06)
        assert np.std(found) < 0.1


def test_rates_that_vary_slowly_leave_it(truth):
    """They push the first zero of the autocorrelation to several times where it is, not its first minimum."""
    state = truth("both_0")
    phi_h = field(state.phi_h, state.pixel_size_um)
    assert pattern_length_um(phi_h) > 1.5
    assert 0.85 < unit_length_um(phi_h) < 1.1


def test_what_has_no_length_tells_none():
    assert np.isnan(unit_length_um(field(np.full((9, 9), 0.25), 0.1)))
    board = 0.2 + 0.1 * (-1.0) ** np.add.outer(np.arange(40), np.arange(40))
    assert np.isnan(unit_length_um(field(board, 0.1)))
    half = field(np.where(np.arange(40) < 20, 0.5, 0.1) * np.ones((40, 1)), 0.1)
    assert unit_length_um(half) > 1.0
