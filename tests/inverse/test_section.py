"""2D images of a 3D nucleus: the correction for the depth that they show."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

import chromamol as cm
from chromamol.errors import ParameterError
from chromamol.inverse.pattern_length import UNIT_SD, unit_length_um
from chromamol.inverse.rates import RateMap
from chromamol.inverse.section import SectionTable, correct_section, widen_ratio

SETTINGS = {"parameters": cm.ChromatinParameters(interface_length_um=0.03), "noise_sd": 0.007}
TABLE = SectionTable(
    np.array([0.0, 0.5, 1.0]),
    np.array([0.2, 3.0]),
    np.array([[1.0, 0.8], [1.5, 1.1], [2.4, 1.7]]),
    np.full((3, 2), 0.03),
    np.full((3, 2), 0.6),
    np.array([0.5, 0.4, 0.1]),
    np.array([0.5, 2.0]),
)


@pytest.fixture(scope="module")
def uncorrected(truth):
    fields = truth("uniform_1")
    return cm.infer_rates(
        fields.phi_h[:96, :96], fields.phi_e[:96, :96], pixel_size_um=fields.pixel_size_um, method="regression",
        **SETTINGS,
    )  # fmt: skip


def scaled(rates, factor):
    """The rates as they come out of an image in which both are `factor` too large."""

    def times(rate):
        parts = (rate.values, rate.standard_error, rate.valid, rate.mean, rate.mean_se)
        return RateMap(*(part if part is rate.valid else part * factor for part in parts))

    return replace(rates, methylation=times(rates.methylation), acetylation=times(rates.acetylation))


@pytest.mark.parametrize("thickness_over_l0", [0.0, 0.3, 0.5, 0.95])
def test_the_factor_of_the_table_is_undone(uncorrected, thickness_over_l0):
    unit = unit_length_um(uncorrected.phi_h)
    factor, _ = TABLE.at(thickness_over_l0, uncorrected.mollifier_width_um / unit, 1.0)
    corrected = correct_section(scaled(uncorrected, factor), thickness_over_l0 * unit, table=TABLE)
    assert corrected.methylation.mean == pytest.approx(uncorrected.methylation.mean, rel=1e-6)
    assert corrected.acetylation.mean == pytest.approx(uncorrected.acetylation.mean, rel=1e-6)
    assert corrected.ratio == uncorrected.ratio


def test_rates_that_blur_made_larger_change_neither_the_factor_nor_the_error_of_the_ratio(uncorrected):
    """The length is the pattern's: one of such rates would be too short, and both would follow it."""
    sharp, blurred = (correct_section(scaled(uncorrected, by), 0.3, table=TABLE) for by in (1.0, 5.0))
    assert blurred.diagnostics["section_factor"] == sharp.diagnostics["section_factor"]
    assert blurred.acetylation.mean == pytest.approx(5.0 * sharp.acetylation.mean)
    assert blurred.ratio_se == sharp.ratio_se


def test_errors_hold_the_spread_between_planes_which_falls_with_the_area(uncorrected):
    corrected = correct_section(uncorrected, 0.0, table=TABLE)
    factor, unit = corrected.diagnostics["section_factor"], unit_length_um(uncorrected.phi_h)
    valid = np.count_nonzero(uncorrected.acetylation.valid)
    area = valid * (7.5 / 192) ** 2 / unit**2
    # The widths of the table are .2 and 3, between which c falls from 1 to .8: so it does with L0.
    of_unit = np.log(factor / (factor - 0.2 * UNIT_SD / np.log(15.0)))
    spread = np.sqrt(0.03**2 + 0.6**2 / area + of_unit**2 + (0.5 * 0.5) ** 2 / area)
    expected = np.hypot(uncorrected.acetylation.mean_se, uncorrected.acetylation.mean * spread) / factor
    assert corrected.acetylation.mean_se == pytest.approx(expected, rel=1e-3)
    valid = corrected.methylation.valid
    assert (corrected.methylation.standard_error * factor >= uncorrected.methylation.standard_error)[
        valid
    ].all()


def test_what_a_section_tells_is_judged_by_errors_that_hold_the_spread(uncorrected):
    """The mean that could be negative keeps its share of the mean, and its error grows with that of the mean."""
    corrected = correct_section(uncorrected, 0.0, table=TABLE)
    for before, after in ((uncorrected.methylation, corrected.methylation),
                          (uncorrected.acetylation, corrected.acetylation)):  # fmt: skip
        assert after.free_mean / after.mean == pytest.approx(before.free_mean / before.mean, rel=1e-12)
        assert after.free[1] / after.free_mean > before.free[1] / before.free_mean
        assert after.free[1] / after.free_mean == pytest.approx(after.mean_se / after.mean, rel=0.05)
        assert after.exceeds_noise(0.9 * after.mean / after.mean_se)
        assert not after.exceeds_noise(1.1 * after.mean / after.mean_se)


@pytest.mark.parametrize("thickness_over_l0", [0.0, 0.5, 1.0])
def test_the_error_of_the_ratio_holds_what_turns_over_through_the_faces(uncorrected, thickness_over_l0):
    given = widen_ratio(uncorrected, thickness_over_l0 * 1.1, 1.1, table=TABLE)
    spread = np.interp(thickness_over_l0, TABLE.thickness, TABLE.ratio_spread) / (96 * 7.5 / 192) * 1.1
    assert given.ratio_se == pytest.approx(np.hypot(uncorrected.ratio_se, uncorrected.ratio * spread))
    assert given.ratio_se <= widen_ratio(uncorrected, 0.0, 1.1, table=TABLE).ratio_se
    corrected = correct_section(uncorrected, 0.0, table=TABLE)
    assert corrected.ratio_se > 0.1 > uncorrected.ratio_se


@pytest.mark.parametrize(("thickness_um", "ratio"), [(50.0, 1.0), (0.0, 0.3)])
def test_a_section_beyond_the_table_keeps_the_ratio_only(uncorrected, thickness_um, ratio):
    corrected = correct_section(replace(uncorrected, ratio=ratio), thickness_um, table=TABLE)
    assert np.isnan(corrected.methylation.mean)
    assert not corrected.acetylation.valid.any()
    assert "section_not_corrected" in corrected.flags
    assert corrected.ratio == ratio
    assert np.isfinite(corrected.ratio_se)


def test_a_flag_of_the_section_stands_once(truth):
    fields = truth("uniform_1")
    rates = cm.infer_rates(fields.phi_h[:96, :96], fields.phi_e[:96, :96], pixel_size_um=fields.pixel_size_um,
                           method="regression", section_thickness_um=50.0, **SETTINGS)  # fmt: skip
    assert rates.flags.count("section_not_corrected") == 1


def test_without_positive_rates_the_pattern_still_tells_the_error_of_the_ratio(uncorrected):
    corrected = correct_section(scaled(uncorrected, -1.0), 0.0, table=TABLE)
    assert "section_not_corrected" in corrected.flags
    assert corrected.ratio == uncorrected.ratio
    assert corrected.ratio_se == correct_section(uncorrected, 0.0, table=TABLE).ratio_se


def test_test_functions_of_a_section_are_as_wide_as_l0_on_any_pixels(truth):
    fields = truth("uniform_1")
    for step in (1, 2):
        phi_h, phi_e = (phi[:128:step, :128:step] for phi in (fields.phi_h, fields.phi_e))
        rates = cm.infer_rates(
            phi_h, phi_e, pixel_size_um=fields.pixel_size_um * step, section_thickness_um=0.0, **SETTINGS
        )
        assert 0.8 < rates.mollifier_width_um * np.sqrt(rates.acetylation.mean) < 1.25


def test_blur_that_is_known_asks_for_test_functions_a_little_wider(truth):
    fields, widths = truth("uniform_1"), []
    for blur in (0.0, 0.1, 3.0):
        rates = cm.infer_rates(fields.phi_h[:160, :160], fields.phi_e[:160, :160], apparent_blur_um=blur,
                               pixel_size_um=fields.pixel_size_um, section_thickness_um=0.0, **SETTINGS)  # fmt: skip
        widths.append(rates.mollifier_width_um / unit_length_um(rates.phi_h))
    assert 0.8 < widths[0] < 1.2 < widths[1] <= widths[2] < 1.8


def test_blur_that_nobody_told_does_not_narrow_the_test_functions():
    """Rates of a blurred plane are too large: their length would ask for the narrowest, which makes them larger."""
    stored, found = views(), []
    pixel = float(stored["pixel_size_um"])
    for blur in (0.0, 0.15):
        phi_h, phi_e = (
            ndimage.gaussian_filter(stored[name][3].astype(float), blur / pixel, mode="wrap")
            for name in ("phi_h_0", "phi_e_0")
        )
        found.append(cm.infer_rates(phi_h, phi_e, pixel_size_um=pixel, section_thickness_um=0.0, **SETTINGS))
    assert found[1].mollifier_width_um == found[0].mollifier_width_um
    assert found[1].acetylation.mean < 3.0
    assert found[1].ratio_se == pytest.approx(found[0].ratio_se, rel=0.2)


def test_what_l0_leaves_open_is_part_of_the_error_also_at_the_edge_of_the_table():
    for thickness, width in product((0.0, 0.9, 0.999), (0.155, 0.5, 3.89)):
        _, error = TABLE.at(thickness, width, np.inf)
        assert error > 0.03
    assert np.isnan(TABLE.at(1.1, 0.5, 1.0)).all()


@pytest.mark.parametrize(
    ("shape", "more"),
    [((9, 9), {"section_thickness_um": -1.0}), ((9, 9, 9), {"section_thickness_um": 0.1}),
     ((9, 9), {"section_thickness_um": 0.1, "method": "joint"})],
)  # fmt: skip
def test_a_thickness_without_meaning_is_refused(shape, more):
    with pytest.raises(ParameterError, match="section_thickness_um"):
        cm.infer_rates(np.full(shape, 0.3), np.full(shape, 0.2), pixel_size_um=0.04, **more)


def views():
    """Planes and projections of a 3D pattern that the curve was not made from (see truth/make_sections.py)."""
    with np.load(Path(__file__).parent / "truth" / "sections.npz") as file:
        return {name: file[name] for name in file}


MEANS_WITHIN = {0: 0.15, 1: 0.2, 2: 0.15, 4: 0.15}
"""What is left of the means of six views, measured .11, .16, .11 and .04."""

RATIO_SQUARES = {0: (0.2, 1.6), 1: (0.2, 1.6), 2: (0.2, 1.6), 4: (0.06, 0.6)}
"""Of z of the ratio, measured .56, .76, .48 and .18: six views of one pattern, of which the thickest overlap."""


@pytest.mark.parametrize("radii", RATIO_SQUARES)
def test_sections_and_projections_of_a_3d_pattern_give_its_rates(radii, check_errors):
    stored = views()
    true = np.array([float(stored["methylation"]), float(stored["acetylation"])])
    means, errors, ratios, ratio_errors = [], [], [], []
    for phi_h, phi_e in zip(stored[f"phi_h_{radii}"], stored[f"phi_e_{radii}"], strict=True):
        rates = cm.infer_rates(
            phi_h.astype(float), phi_e.astype(float), pixel_size_um=float(stored["pixel_size_um"]),
            section_thickness_um=float(stored[f"thickness_um_{radii}"]), **SETTINGS,
        )  # fmt: skip
        means.append([rates.methylation.mean, rates.acetylation.mean])
        errors.append([rates.methylation.mean_se, rates.acetylation.mean_se])
        ratios.append(rates.ratio)
        ratio_errors.append(rates.ratio_se)
    means, errors = np.array(means), np.array(errors)
    np.testing.assert_allclose(np.nanmean(means, axis=0), true, rtol=MEANS_WITHIN[radii])
    off = np.array(ratios) - true[0] / true[1]
    assert abs(np.mean(off)) < 0.03 * true[0] / true[1]
    check_errors(off, ratio_errors, mean_square=RATIO_SQUARES[radii], covered=0.8)
    told = np.isfinite(means)
    # What a section does is a factor.
    check_errors(np.log(means / true)[told], (errors / means)[told], mean_square=(0.4, 2.4), covered=0.8)
