"""Two marks of a simulated nucleus at known gains: how well the water fraction ties them, what a wrong one does."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import chromamol as cm
from chromamol.calibrate import calibrate_nucleus
from chromamol.channels import Channels
from chromamol.density import Optics, calibrate_marks
from chromamol.errors import ImageContentError
from chromamol.nucleus import find_nuclei
from chromamol.nucleus_rates import MARK_CHANGES
from chromamol.settings import Settings
from chromamol.synthetic.microscope import Microscope

TRUTH = Path(__file__).parents[2] / "data_samples" / "truth" / "nucleus.ome.tif"
PIXEL_UM = 0.009
COUNTS = 2000.0
OFFSET = 100.0
GAINS = (1.0, 0.4)


@pytest.fixture(scope="module")
def nucleus():
    """Fields, mask, and both marks as a microscope with a blur of one pixel counts them."""
    image = cm.read_image(TRUTH)
    phi = [image.channel(name).astype(np.float64) for name in ("phi_h", "phi_e")]
    mask = image.channel("mask") > 0
    microscope = Microscope(psf_sigma_um=PIXEL_UM, counts_per_fraction=COUNTS, offset=OFFSET)
    marks = microscope.channels(phi, (PIXEL_UM, PIXEL_UM), rng=np.random.default_rng(0), gains=GAINS)
    return phi, mask, marks


def water_of(phi, mask):
    return 1.0 - float((phi[0] + phi[1])[mask].mean())


def calibrated(nucleus, *, water=None, **given):
    phi, mask, marks = nucleus
    optics = Optics((PIXEL_UM, PIXEL_UM), blur_um=Settings(psf_sigma_um=PIXEL_UM).expected_blur_um)
    return calibrate_marks(*marks, mask, dark=(OFFSET, OFFSET), gain=(None, None), optics=optics,
                           water_fraction=water_of(phi, mask) if water is None else water, **given)  # fmt: skip


def test_both_gains_are_found(nucleus):
    """That of heterochromatin by the step between its phases, that of euchromatin by the room that is left."""
    dense, light = calibrated(nucleus)
    assert dense.scale == "coexistence"
    assert dense.gain == pytest.approx(COUNTS * GAINS[0], rel=0.05)
    assert light.gain == pytest.approx(COUNTS * GAINS[1], rel=0.08)
    assert (dense.assumed, light.assumed) == (True, True)
    mask = nucleus[1]
    assert (dense.phi + light.phi)[mask].mean() == pytest.approx(1.0 - water_of(*nucleus[:2]), rel=1e-9)


@pytest.mark.parametrize("change", [-0.05, 0.05])
def test_a_wrong_water_fraction_moves_the_gain_of_euchromatin_alone(nucleus, change):
    """g_e goes as 1 / (1 - water - ⟨φ_h⟩): with a third of the nucleus euchromatin 0.05 of water is some 20 %."""
    water = water_of(*nucleus[:2])
    dense, light = calibrated(nucleus)
    other, moved = calibrated(nucleus, water=water + change)
    room = 1.0 - water - float(dense.phi[nucleus[1]].mean())
    assert other.gain == dense.gain
    assert moved.gain / light.gain == pytest.approx(room / (room - change), rel=1e-9)


def test_a_wrong_gain_of_heterochromatin_is_made_up_for_by_euchromatin(nucleus):
    """The sum stays what the water leaves, so what one field gains the other loses."""
    mask = nucleus[1]
    dense, light = calibrated(nucleus)
    thin, more = calibrated(nucleus, dense_factor=1.05)
    lost = float((dense.phi - thin.phi)[mask].mean())
    assert lost == pytest.approx(float(dense.phi[mask].mean()) * (1.0 - 1.0 / 1.05))
    assert float((more.phi - light.phi)[mask].mean()) == pytest.approx(lost)


def test_no_room_for_euchromatin_is_refused(nucleus):
    with pytest.raises(ImageContentError, match="room for euchromatin"):
        calibrated(nucleus, water=0.9)


def test_the_check_moves_one_mark_and_the_water(nucleus):
    """What the record's sensitivity is computed with, through the calibration of an image."""
    phi, mask, marks = nucleus
    labels = mask.astype(np.int32)
    channels = Channels({"heterochromatin": marks[0], "euchromatin": marks[1]}, False, "")
    settings = Settings(dark_level=OFFSET, water_fraction=water_of(phi, mask), psf_sigma_um=PIXEL_UM)
    found = find_nuclei(labels, marks[0], spacing_um=(PIXEL_UM, PIXEL_UM), margin_um=0.02)[0]
    spacing = (PIXEL_UM, PIXEL_UM)
    plain = calibrate_nucleus(channels, labels, found, spacing, settings)
    means = {
        change: {
            name: float(v[found.mask].mean())
            for name, v in calibrate_nucleus(
                channels, labels, found, spacing, settings, **moved
            ).fractions.items()
        }
        for change, moved in MARK_CHANGES.items()
    }
    h, e = (float(plain.fractions[name][found.mask].mean()) for name in ("phi_h", "phi_e"))
    assert means["water +0.05"] == pytest.approx({"phi_h": h, "phi_e": e - 0.05})
    assert means["heterochromatin gain +5 %"] == pytest.approx({"phi_h": h / 1.05, "phi_e": e + h - h / 1.05})
    given = replace(settings, euchromatin_gain=COUNTS * GAINS[1])
    assert calibrate_nucleus(channels, labels, found, spacing, given).rows[1]["scale"] == "given"
