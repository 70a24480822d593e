"""Intensities become volume fractions: the dark level is found, gains are as stated, scale drops out."""

import numpy as np
import pytest

from chromamol.density import calibrate_dense, calibrate_marks, calibrate_total, dark_level, is_clipped
from chromamol.density.calibration import DENSE_LEVEL
from chromamol.errors import ImageContentError

RNG = np.random.default_rng(0)
Y, X = np.indices((120, 130))
MASK = (Y - 60) ** 2 + (X - 60) ** 2 < 35**2
LABELS = MASK.astype(np.int32)
PATTERN = np.where(MASK, np.where(np.sin(X / 4.0) * np.sin(Y / 4.0) > 0.3, 0.68, 0.05), 0.0)


def camera(phi, gain=1500.0, offset=105.0):
    return np.rint(gain * phi + offset + 2.0 * RNG.standard_normal(phi.shape)).astype(np.uint16)


def test_dark_level_is_the_camera_offset():
    assert dark_level(camera(PATTERN), LABELS, MASK) == pytest.approx(105.0, abs=1.0)


def test_dark_level_ignores_a_neighbour():
    labels, image = LABELS.copy(), camera(PATTERN).astype(float)
    labels[:, 100:] = 2
    image[:, 100:] = 5000.0
    assert dark_level(image, labels, MASK) == pytest.approx(105.0, abs=1.0)


def test_no_background_is_an_error():
    with pytest.raises(ImageContentError, match="dark_level"):
        dark_level(np.ones((9, 9)), np.ones((9, 9), dtype=np.int32), np.ones((9, 9), dtype=bool))


def test_a_background_that_was_cut_off_is_told_from_a_dark_one():
    image = camera(PATTERN).astype(int)
    assert not is_clipped(image, LABELS, MASK)
    assert not is_clipped(np.maximum(image, 104), LABELS, MASK), "most of it is left, and its median with it"
    assert is_clipped(np.maximum(image - 106, 0), LABELS, MASK)
    assert is_clipped(np.where(MASK, image, 0), LABELS, MASK)


def test_a_given_gain_returns_the_fractions():
    found = calibrate_total(camera(PATTERN), MASK, dark=105.0, gain=1500.0, water_fraction=0.5)
    assert np.abs(found.phi - PATTERN)[MASK].max() < 0.01
    assert not found.assumed


def test_without_a_gain_the_mean_is_set_by_the_water():
    found = calibrate_total(camera(PATTERN), MASK, dark=105.0, gain=None, water_fraction=0.6)
    assert found.phi[MASK].mean() == pytest.approx(0.4)
    assert found.assumed


def test_scale_and_offset_of_the_camera_drop_out():
    a = calibrate_total(camera(PATTERN), MASK, dark=105.0, gain=None, water_fraction=0.5)
    b = calibrate_total(
        camera(PATTERN, gain=6000.0, offset=400.0), MASK, dark=400.0, gain=None, water_fraction=0.5
    )
    assert np.abs(a.phi - b.phi)[MASK].max() < 0.02


def test_a_heterochromatin_mark_is_scaled_to_the_dense_phase():
    found = calibrate_dense(camera(PATTERN), MASK, dark=105.0, gain=None)
    assert np.percentile(found.phi[MASK], 90) == pytest.approx(DENSE_LEVEL, rel=0.03)


def test_two_marks_share_the_room_that_water_leaves():
    light = np.where(MASK, 0.3, 0.0)
    dense, loose = calibrate_marks(
        camera(PATTERN),
        camera(light, gain=700.0),
        MASK,
        dark=(105.0, 105.0),
        gain=(None, None),
        water_fraction=0.4,
    )
    assert dense.phi[MASK].mean() + loose.phi[MASK].mean() == pytest.approx(0.6)
    dense, loose = calibrate_marks(
        camera(PATTERN),
        camera(light, gain=700.0),
        MASK,
        dark=(105.0, 105.0),
        gain=(1500.0, 700.0),
        water_fraction=0.4,
    )
    assert loose.phi[MASK].mean() == pytest.approx(0.3, rel=0.01)
    assert not dense.assumed
    assert not loose.assumed


def test_a_nucleus_darker_than_its_surroundings_is_refused():
    with pytest.raises(ImageContentError, match="below the dark level"):
        calibrate_total(camera(PATTERN), MASK, dark=4000.0, gain=None, water_fraction=0.5)
