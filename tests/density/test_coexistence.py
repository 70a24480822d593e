"""The step between two phases is found whatever the gain, and is a scale only where it is seen."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from chromamol.density import Optics, calibrate_dense, calibrate_marks, calibrate_total
from chromamol.density.calibration import MARK_STEP, is_scale
from chromamol.density.coexistence import PLATEAU_STEP, fit_two_phases
from chromamol.errors import ImageContentError, ParameterError

PIXEL_UM = 0.02
RADIUS_PX = 8.0
LOW, HIGH = 0.30, 0.30 + PLATEAU_STEP
Y, X = np.indices((200, 200))
MASK = (Y - 99.5) ** 2 + (X - 99.5) ** 2 < 85.0**2


def phases(blur_px, noise=0.02, seed=0):
    """Discs on a lattice."""
    phase = np.zeros(MASK.shape)
    for y, x in np.stack(np.meshgrid(np.arange(12, 200, 28), np.arange(12, 200, 28)), -1).reshape(-1, 2):
        phase = np.maximum(phase, np.clip(RADIUS_PX + 0.5 - np.hypot(Y - y, X - x), 0.0, 1.0))
    image = gaussian_filter(LOW + (HIGH - LOW) * phase, blur_px)
    return np.where(MASK, image, 0.0) + noise * np.random.default_rng(seed).standard_normal(MASK.shape)


@pytest.mark.parametrize(("blur_px", "tolerance"), [(1.0, 0.03), (2.0, 0.06), (4.0, 0.2)])
def test_plateaus_that_no_pixel_reaches_are_found_when_the_blur_is_known(blur_px, tolerance):
    found = fit_two_phases(phases(blur_px), MASK, spacing_um=(PIXEL_UM, PIXEL_UM), blur_um=blur_px * PIXEL_UM)
    assert found.high - found.low == pytest.approx(PLATEAU_STEP, rel=tolerance)
    assert found.radius_um == pytest.approx(RADIUS_PX * PIXEL_UM, rel=0.1)
    assert found.is_resolved == (blur_px <= 2.0)


def test_blur_is_fitted_where_it_is_not_known():
    sharp, soft = (fit_two_phases(phases(s), MASK, spacing_um=(PIXEL_UM, PIXEL_UM)) for s in (1.0, 2.0))
    assert sharp.blur_um == pytest.approx(1.0 * PIXEL_UM, rel=0.3)
    assert soft.blur_um > 1.3 * sharp.blur_um
    assert sharp.high - sharp.low == pytest.approx(PLATEAU_STEP, rel=0.06)


@pytest.mark.parametrize("gain", [500.0, 1500.0])
def test_the_gain_follows_the_camera_and_not_the_water(gain):
    optics = Optics((PIXEL_UM, PIXEL_UM), blur_um=PIXEL_UM)
    for water in (0.4, 0.6):
        found = calibrate_total(
            gain * phases(1.0) + 100.0, MASK, dark=100.0, gain=None, water_fraction=water, optics=optics
        )
        assert found.scale == "coexistence"
        assert found.gain == pytest.approx(gain, rel=0.03)
        assert found.assumed
    by_water = calibrate_total(gain * phases(1.0), MASK, dark=0.0, gain=None, water_fraction=0.6,
                               optics=replace(optics, scale="water"))  # fmt: skip
    assert by_water.phi[MASK].mean() == pytest.approx(0.4)
    given = calibrate_total(phases(1.0), MASK, dark=0.0, gain=1.0, water_fraction=0.6, optics=optics)
    assert (given.scale, given.assumed) == ("given", False)


def test_a_blurred_image_falls_back_to_the_water_and_says_so():
    image = phases(6.0)
    optics = Optics((PIXEL_UM, PIXEL_UM))
    assert not is_scale(fit_two_phases(image, MASK, spacing_um=optics.spacing_um))
    assert (
        calibrate_total(image, MASK, dark=0.0, gain=None, water_fraction=0.5, optics=optics).scale == "water"
    )


def test_a_flat_nucleus_has_no_phases():
    flat = np.where(MASK, 1.0, 0.0)
    found = fit_two_phases(flat, MASK, spacing_um=(PIXEL_UM, PIXEL_UM))
    assert found is None or not is_scale(found)
    assert fit_two_phases(flat, np.zeros_like(MASK), spacing_um=(PIXEL_UM, PIXEL_UM)) is None
    with pytest.raises(ImageContentError, match="two phases"):
        calibrate_total(flat, MASK, dark=0.0, gain=None, water_fraction=0.5,
                        optics=Optics((PIXEL_UM, PIXEL_UM), PIXEL_UM, "coexistence"))  # fmt: skip
    with pytest.raises(ParameterError, match="coexistence"):
        Optics((PIXEL_UM, PIXEL_UM), scale="magic")


def test_a_step_that_implies_more_chromatin_than_there_can_be_is_no_scale():
    """Haze or stray stain beneath the domains: a dark level that is too low."""
    hazy, optics = 900.0 * (phases(1.0) + 0.6 * MASK), Optics((PIXEL_UM, PIXEL_UM), blur_um=PIXEL_UM)
    arguments = {"dark": 0.0, "gain": None, "water_fraction": 0.5}
    found = calibrate_total(hazy, MASK, **arguments, optics=optics)
    assert is_scale(found.phases)
    assert (found.scale, found.phi[MASK].mean()) == ("water", pytest.approx(0.5))
    assert "by it total chromatin averages 1.06" in found.note
    with pytest.raises(ImageContentError, match=r"average 1\.06 .*less than 0.96.*intensity_scale = 'water'"):
        calibrate_total(hazy, MASK, **arguments, optics=replace(optics, scale="coexistence"))
    clear = calibrate_total(900.0 * phases(1.0), MASK, **arguments, optics=optics)
    assert (clear.scale, clear.note) == ("coexistence", "")


def test_a_mark_whose_step_leaves_no_room_for_the_other_is_scaled_by_its_level():
    optics = Optics((PIXEL_UM, PIXEL_UM), blur_um=PIXEL_UM)
    phi_h = (phases(1.0, noise=0.0) - LOW * MASK) * MARK_STEP / PLATEAU_STEP + 0.35 * MASK
    settings = {"dark": (0.0, 0.0), "water_fraction": 0.5}
    dense, light = calibrate_marks(phi_h, 50.0 * MASK, MASK, **settings, gain=(None, None), optics=optics)
    assert (dense.scale, dense.phi[MASK].mean() < 0.5) == ("water", True)
    assert "heterochromatin averages 0.5" in dense.note
    assert light.phi[MASK].mean() > 0.0
    # Where the other's gain is known it needs no room.
    dense, _ = calibrate_marks(phi_h, 50.0 * MASK, MASK, **settings, gain=(None, 200.0), optics=optics)
    assert dense.scale == "coexistence"


def test_a_mark_is_scaled_by_its_own_step_and_the_other_fills_the_room():
    phi_h = (phases(1.0, noise=0.0) - LOW * MASK) * MARK_STEP / PLATEAU_STEP + 0.04 * MASK
    optics = Optics((PIXEL_UM, PIXEL_UM), blur_um=PIXEL_UM)
    alone = calibrate_dense(900.0 * phi_h, MASK, dark=0.0, gain=None, optics=optics)
    assert (alone.scale, alone.gain) == ("coexistence", pytest.approx(900.0, rel=0.03))
    dense, light = calibrate_marks(900.0 * phi_h, 50.0 * MASK, MASK, dark=(0.0, 0.0), gain=(None, None),
                                   water_fraction=0.5, optics=optics)  # fmt: skip
    assert (dense.phi + light.phi)[MASK].mean() == pytest.approx(0.5)
    assert (dense.scale, light.scale) == ("coexistence", "water")
    assert math.isclose(float(light.phi[MASK].std()), 0.0, abs_tol=1e-12)
