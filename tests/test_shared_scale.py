"""Nuclei of one image with one gain: from their phases or water, and from what their fits tell together."""

import math
from dataclasses import replace

import numpy as np
import pytest

from chromamol.calibrate import (
    COEXISTENCE_GAIN_SD,
    GIVEN_GAIN_SD,
    OFFSET_SD,
    NucleusCalibration,
    SharedScale,
    calibrate_nucleus,
)
from chromamol.channels import choose_channels
from chromamol.errors import ImageContentError
from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse.calibration import EXACT
from chromamol.inverse.rates import Outcome, RateMap, Rates
from chromamol.io import Micrograph
from chromamol.nucleus import find_nuclei, segment_nuclei
from chromamol.nucleus_rates import scale_sensitivity, scale_told
from chromamol.pipeline import analyse_image
from chromamol.settings import Settings

PLAIN = Settings(calibration_check=False, method="domains")


def analysed(image, **settings):
    return analyse_image(Micrograph(image[None], ("0",), 0.1), replace(PLAIN, **settings))


def test_nuclei_take_the_geometric_mean_of_their_gains_where_they_share_it(small_field):
    image = small_field(nuclei=2).astype(float)
    image[:, image.shape[1] // 2 :] *= 1.3  # one of the two is stained more strongly
    own, shared = (analysed(image, shared_gain=share).calibration for share in (False, True))
    gains = [row["gain"] for row in own]
    assert gains[1] > 1.05 * gains[0]
    assert [row["gain"] for row in shared] == pytest.approx([math.sqrt(gains[0] * gains[1])] * 2)
    assert len({row["dark_level"] for row in shared}) == 1
    assert {row["scale"] for row in shared} == {"water"}


def fitted(log_gain=None, sd=0.01):
    """A fit that told the gain of its first image, or did not."""
    grid = Grid((4, 4), (0.1, 0.1))
    field = Field(np.full((4, 4), 0.2), grid, "1", np.ones((4, 4), dtype=bool))
    nothing = RateMap.unknown(grid.shape)
    told = {} if log_gain is None else {"log_gain_0": log_gain, "log_gain_0_sd": sd}
    rates = Rates(
        nothing, nothing, 1.0, 0.1, Outcome.BOTH_RATES, (), "joint", field, field, (0.01, 0.01), 0.5, told
    )
    calibration = NucleusCalibration({}, None, {}, [{"plane": "euchromatin"}, {"plane": "heterochromatin"}])
    return calibration, rates


SCALE = SharedScale(
    {"heterochromatin": 3.0, "euchromatin": 5.0}, {"heterochromatin": 1000.0, "euchromatin": 800.0}
)


def test_gains_that_fits_tell_are_averaged_with_their_precisions():
    found = scale_told([fitted(0.1, 0.01), fitted(0.07, 0.02), fitted()], SCALE)
    weights = np.array([1e4, 2.5e3])
    assert math.log(found.gain["heterochromatin"] / 1000.0) == pytest.approx(
        weights @ [0.1, 0.07] / weights.sum()
    )
    # χ² is 1.8 with one degree of freedom.
    assert found.gain_sd["heterochromatin"] == pytest.approx(math.sqrt(1.8 / weights.sum()))
    assert found.gain["euchromatin"] == 800.0
    assert "euchromatin" not in found.gain_sd
    assert found.dark == SCALE.dark


def test_gains_that_agree_are_no_better_known_than_their_errors_say():
    found = scale_told([fitted(0.1, 0.02), fitted(0.1, 0.02)], SCALE)
    assert found.gain_sd["heterochromatin"] == pytest.approx(0.02 / math.sqrt(2.0))


def test_one_fit_has_nobody_to_share_with():
    assert scale_told([fitted(0.1), fitted()], SCALE) is None
    assert scale_told([], SCALE) is None


def test_a_fit_without_an_error_of_its_gain_tells_none():
    assert scale_told([fitted(0.1), fitted(0.3, 0.0)], SCALE) is None
    found = scale_told([fitted(0.1, 0.02), fitted(0.3, 0.0), fitted(0.1, 0.02)], SCALE)
    assert math.log(found.gain["heterochromatin"] / 1000.0) == pytest.approx(0.1)


def test_of_nuclei_of_one_size_the_same_is_asked_what_a_wrong_scale_does(monkeypatch):
    asked = []

    def calibrate(_channels, _labels, nucleus, *_, **__):
        asked.append(nucleus.centroid_um)
        raise ImageContentError("", expected="", do="")

    monkeypatch.setattr("chromamol.nucleus_rates.calibrate_nucleus", calibrate)
    labels = np.zeros((60, 120), np.int32)
    labels[20:40, 20:40], labels[20:40, 80:100] = 1, 2
    channels = choose_channels(Micrograph(labels[None], ("0",), 0.1), Settings())
    for each in (labels, np.array([0, 2, 1], np.int32)[labels]):
        nuclei = find_nuclei(each, each.astype(float), spacing_um=(0.1, 0.1))
        scale_sensitivity([(n, *fitted()) for n in nuclei], channels, each, (0.1, 0.1), Settings())
    assert len(set(asked)) == 1


def test_the_regression_is_not_asked_about_scalings():
    labels = np.zeros((60, 60), np.int32)
    labels[20:40, 20:40] = 1
    channels = choose_channels(Micrograph(labels[None], ("0",), 0.1), Settings())
    nuclei = [(n, *fitted()) for n in find_nuclei(labels, labels.astype(float), spacing_um=(0.1, 0.1))]
    assert scale_sensitivity(nuclei, channels, labels, (0.1, 0.1), Settings(method="domains")) == []


def test_priors_follow_from_how_a_gain_was_found_and_from_the_settings(small_field):
    image = Micrograph(small_field(nuclei=1)[None], ("0",), 0.1)
    labels = np.array(segment_nuclei(image.data[0], pixel_size_um=(0.1, 0.1)))
    (nucleus,) = find_nuclei(labels, image.data[0], spacing_um=(0.1, 0.1), margin_um=2.5)

    def prior(**values):
        settings = Settings(**values)
        found = calibrate_nucleus(choose_channels(image, settings), labels, nucleus, (0.1, 0.1), settings)
        return found.prior, found.rows[0]["scale"]

    by_water, scale = prior(intensity_scale="water", water_fraction=0.6, water_sd=0.04)
    assert scale == "water"
    assert by_water.gains(1) == pytest.approx((0.1,))  # .04 of the 0.4 that are left
    assert by_water.offset_sd == OFFSET_SD
    assert prior(chromatin_gain=1000.0)[0].gains(1) == (GIVEN_GAIN_SD,)
    assert prior(intensity_scale="coexistence")[0].gains(1) == (COEXISTENCE_GAIN_SD,)
    given = {"gain_sd": 0.0, "offset_sd": 0.0, "phi_max_sd": 0.0, "interface_sd": 0.0}
    assert prior(**given)[0] == replace(EXACT, gain_sd=0.0)
