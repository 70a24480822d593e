"""What an image tells of domains and LADs: as far as its blur allows, and against the truth of the samples."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from chromamol.calibrate import calibrate_nucleus
from chromamol.channels import Channels, choose_channels
from chromamol.domains import PhaseRatio
from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse.rates import Outcome, RateMap, Rates
from chromamol.io import read_image
from chromamol.measured import nucleus_domains
from chromamol.nucleus import find_nuclei
from chromamol.nucleus_rates import with_phases
from chromamol.physics.split import split_chromatin
from chromamol.settings import Settings

SAMPLES = Path(__file__).parents[1] / "data_samples"
PIXEL_UM = 0.06
PHI_MAX = 0.7


def _rates(phi_h, mask, *, method="regression"):
    nothing = RateMap.unknown(phi_h.shape)
    field = Field(np.where(mask, phi_h, 0.0), Grid(phi_h.shape, (PIXEL_UM, PIXEL_UM)), "1", mask)
    return Rates(
        nothing, nothing, 1.0, 0.1, Outcome.NOT_IDENTIFIABLE, (), method, field, field, (0.01, 0.01), 0.3
    )


def _measured(phi_h, mask, *, blur_um=math.nan, method="regression", **settings):
    labels = mask.astype(np.int32)
    image = np.where(mask, 1000.0, 100.0).astype(np.float32)
    (nucleus,) = find_nuclei(labels, image, spacing_um=(PIXEL_UM, PIXEL_UM), margin_um=20.0)
    channels = Channels({"total": image}, False, "")
    return nucleus_domains(channels, labels, nucleus, _rates(phi_h, mask, method=method), Settings(**settings),
                           measured_blur_um=blur_um)  # fmt: skip


def _ring(thickness_um=0.3, radius_um=4.0):
    y, x = PIXEL_UM * (np.indices((150, 150)) - 74.5)
    radius = np.hypot(y, x)
    inside = radius <= radius_um
    return np.where(inside & (radius > radius_um - thickness_um), PHI_MAX, 0.05), inside


def test_lads_and_domains_of_treated_nuclei_are_those_of_the_truth():
    name = "treated_replicate2"
    micrograph = read_image(SAMPLES / "comparison" / "treated" / f"{name}.tif")
    labels = tifffile.imread(SAMPLES / "truth" / f"{name}_labels.tif").astype(np.int32)
    truth = pd.read_csv(SAMPLES / "truth" / f"{name}_nuclei.csv").set_index("nucleus")
    settings = Settings()
    channels = choose_channels(micrograph, settings)
    counts, radii, thicknesses = [], [], []
    for nucleus in find_nuclei(
        labels, channels.all_chromatin, spacing_um=micrograph.spacing_um, margin_um=2.5
    ):
        found = calibrate_nucleus(channels, labels, nucleus, micrograph.spacing_um, settings)
        phi_h, _ = split_chromatin(found.fractions["total"], pixel_size_um=PIXEL_UM, mask=nucleus.mask)
        measured = nucleus_domains(channels, labels, nucleus, _rates(phi_h, nucleus.mask), settings,
                                   measured_blur_um=found.blur_um)  # fmt: skip
        domains, true = measured.domains, truth.loc[nucleus.label]
        assert "lads_unresolved" not in measured.flags
        counts.append(domains.count - true["domain_count"])
        radii.append(domains.radius_um / true["domain_radius_um"])
        thicknesses.append(domains.lad_thickness_um / true["lad_thickness_um"])
    assert max(map(abs, counts)) <= 1
    assert np.mean(radii) == pytest.approx(1.0, abs=0.08)
    assert min(thicknesses) > 0.65
    assert np.mean(thicknesses) == pytest.approx(0.9, abs=0.1)


def test_lads_that_the_measured_blur_hides_are_flagged_and_nan():
    phi_h, mask = _ring(thickness_um=0.12)
    measured = _measured(phi_h, mask, blur_um=0.15)
    assert measured.flags == ("lads_unresolved",)
    assert math.isnan(measured.domains.lad_thickness_um)
    assert math.isnan(measured.domains.lad_coverage)


def test_a_psf_that_was_given_counts_in_place_of_the_measured_blur():
    phi_h, mask = _ring()
    assert _measured(phi_h, mask, blur_um=0.5).flags == ("lads_unresolved",)
    measured = _measured(phi_h, mask, blur_um=0.5, psf_sigma_um=0.1)
    assert measured.flags == ()
    assert measured.domains.lad_thickness_um == pytest.approx(0.3, rel=0.1)


def test_maps_of_fits_that_hold_the_psf_are_sharp():
    phi_h, mask = _ring(thickness_um=0.18)
    assert _measured(phi_h, mask, psf_sigma_um=0.15, method="regression").flags == ("lads_unresolved",)
    measured = _measured(phi_h, mask, psf_sigma_um=0.15, method="joint")
    assert measured.domains.lad_thickness_um == pytest.approx(0.18, rel=0.1)


def test_a_nucleus_without_two_phases_tells_no_lads():
    _, mask = _ring()
    measured = _measured(np.full(mask.shape, 0.05), mask)
    assert measured.flags == ("lads_unresolved",)
    assert math.isnan(measured.domains.lad_coverage)


def test_domains_below_the_resolution_are_said_to_be_unresolved():
    phi_h, mask = _ring()
    phi_h = phi_h.copy()
    for row, column in ((60, 60), (60, 90), (90, 60)):
        phi_h[row : row + 3, column : column + 3] = PHI_MAX
    measured = _measured(phi_h, mask, blur_um=0.1)
    assert (measured.domains.count, measured.domains.left_out) == (0, 3)
    assert measured.flags == ("unresolved_domains",)


def test_the_ratio_of_counted_phases_replaces_that_of_the_pixels():
    """With its own error; what a cut border or a section does is in the error of the pixels' alone, and is added."""
    phi_h, inside = _ring()
    image = np.where(inside, 1000.0, 100.0).astype(np.float32)
    (whole,) = find_nuclei(inside.astype(np.int32), image, spacing_um=(PIXEL_UM, PIXEL_UM))
    rates = replace(_rates(phi_h, inside), flags=("ratio_blurred",))
    found = with_phases(rates, whole, PhaseRatio(0.9, 0.08, 0.6, 1.9), Settings())
    assert (found.ratio, found.flags) == (0.9, ())
    assert found.ratio_se == pytest.approx(0.9 * math.hypot(0.08, 0.06))
    cut = replace(whole, flags=("touches_border",))
    for nucleus, settings in ((cut, Settings()), (whole, Settings(section_thickness_um=0.5))):
        partly = with_phases(rates, nucleus, PhaseRatio(0.9, 0.08, 0.6, 1.9), settings)
        assert partly.ratio_se == pytest.approx(0.9 * math.hypot(0.1, 0.1))
    untold = with_phases(rates, whole, PhaseRatio(*[math.nan] * 4), Settings())
    assert np.isnan([untold.ratio, untold.ratio_se, untold.ratio_calibration_se]).all()
