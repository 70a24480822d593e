"""What an imperfect calibration does to rates and their errors."""

from dataclasses import replace

import numpy as np
import pytest

import chromamol as cm
from chromamol.errors import ParameterError
from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse.calibration import EXACT, CalibrationPrior
from chromamol.inverse.from_images import with_calibration_errors_of
from chromamol.inverse.rates import Outcome, RateMap, Rates
from chromamol.inverse.regression import judge


def images(truth):
    state = truth("both_0")
    phi_h, phi_e = state.noisy(0.05, 0)
    return phi_h, phi_e, state.settings | {"method": "regression"}


def means(rates):
    return np.array([rates.methylation.mean, rates.acetylation.mean])


def calibration_errors(rates):
    return np.array([rates.methylation.calibration_se, rates.acetylation.calibration_se])


def test_the_error_of_a_gain_is_what_a_wrong_gain_does(truth):
    phi_h, phi_e, settings = images(truth)
    rates = cm.infer_rates(phi_h, phi_e, calibration=CalibrationPrior(gain_sd=(0.03, 0.0)), **settings)
    dim, bright = (cm.infer_rates(f * phi_h, phi_e, **settings) for f in np.exp([-0.03, 0.03]))
    expected = 0.5 * np.abs(means(bright) - means(dim))
    assert (expected > 0.1 * means(rates)).all()  # 3 % of gain is more than 10 % of rate
    # The width and the weights of the wrongly calibrated fits are their own.
    assert calibration_errors(rates) == pytest.approx(expected, rel=0.1)
    assert rates.ratio_calibration_se == pytest.approx(0.03 * rates.ratio, rel=1e-3)


def test_where_the_gain_is_uncertain_an_error_of_phi_max_moves_the_fields_along(truth):
    phi_h, phi_e, settings = images(truth)
    exact, tied = (
        cm.infer_rates(phi_h, phi_e, calibration=CalibrationPrior(gain, phi_max_sd=0.01), **settings)
        for gain in (0.0, 1e-9)
    )
    # Γ φ = Δ(f(φ) - ℓ² Δφ): f grows as the cube of the fields and of φ_max, the term with ℓ opposes it and does not.
    relative = calibration_errors(tied) / means(tied)
    assert (relative > 0.02).all()
    assert (relative < 0.05).all()
    assert (calibration_errors(exact) > 1.5 * calibration_errors(tied)).all()


def test_errors_of_all_numbers_add_in_squares_and_are_part_of_the_whole(truth):
    phi_h, phi_e, settings = images(truth)
    priors = [
        CalibrationPrior(gain_sd=0.02),
        CalibrationPrior(offset_sd=0.005),
        CalibrationPrior(interface_sd=0.03),
    ]
    each = [cm.infer_rates(phi_h, phi_e, calibration=p, **settings) for p in priors]
    rates = cm.infer_rates(phi_h, phi_e, calibration=CalibrationPrior(0.02, 0.005, 0.0, 0.03), **settings)
    exact = cm.infer_rates(phi_h, phi_e, **settings)
    assert calibration_errors(rates) == pytest.approx(np.sqrt(sum(calibration_errors(r) ** 2 for r in each)))
    for found, own in ((rates.methylation, exact.methylation), (rates.acetylation, exact.acetylation)):
        assert found.own_se == pytest.approx(own.mean_se)
        assert np.nanmin(found.standard_error - own.standard_error) > 0.0
        assert own.calibration_se == 0.0
        np.testing.assert_array_equal(found.values, own.values)


def test_a_poor_calibration_is_flagged_and_does_not_hide_a_rate(truth):
    phi_h, phi_e, settings = images(truth)
    rates = cm.infer_rates(phi_h, phi_e, calibration=CalibrationPrior(gain_sd=0.2), **settings)
    assert rates.outcome is Outcome.BOTH_RATES
    assert "scale_uncertain" in rates.flags
    assert (calibration_errors(rates) > 0.5 * means(rates)).all()


def test_one_channel_has_its_constant_found_again_for_every_scale(truth):
    phi_h, phi_e, settings = images(truth)
    total = phi_h + phi_e
    rates = cm.infer_rates(total=total, calibration=CalibrationPrior(gain_sd=0.01), **settings)
    dim, bright = (cm.infer_rates(total=f * total, **settings) for f in np.exp([-0.01, 0.01]))
    expected = 0.5 * abs(bright.acetylation.mean - dim.acetylation.mean)
    assert rates.acetylation.calibration_se == pytest.approx(expected, rel=0.25)
    assert rates.acetylation.own_se < rates.acetylation.mean_se


def test_a_side_that_is_no_volume_fraction_leaves_the_other(truth):
    phi_h, phi_e, settings = images(truth)
    crowded = phi_e + 0.98 - (phi_h + phi_e).mean()
    rates = cm.infer_rates(phi_h, crowded, calibration=CalibrationPrior(gain_sd=(0.0, 0.05)), **settings)
    wide = np.exp(0.05)
    assert (crowded * wide + phi_h).mean() > 1.0
    dim = cm.infer_rates(phi_h, crowded / wide, **settings)
    assert calibration_errors(rates) == pytest.approx(np.abs(means(dim) - means(rates)), rel=0.1, abs=1e-3)


def test_a_phi_max_above_one_is_a_side_that_is_impossible(truth):
    phi_h, phi_e, settings = images(truth)
    at_most = replace(settings["parameters"], phi_max=0.95)
    settings = settings | {"parameters": at_most}
    prior = CalibrationPrior(phi_max_sd=0.1)
    rates = cm.infer_rates(phi_h, phi_e, calibration=prior, **settings)
    lower = replace(at_most, phi_max=0.95 * np.exp(-0.1))
    low = cm.infer_rates(phi_h, phi_e, **settings | {"parameters": lower})
    # All of the difference to the side that is possible counts; the width of the other fit is its own.
    assert calibration_errors(rates) == pytest.approx(np.abs(means(low) - means(rates)), rel=0.2)


def test_gains_of_another_number_of_images_are_refused(truth):
    phi_h, phi_e, settings = images(truth)
    with pytest.raises(ParameterError, match="2 images"):
        cm.infer_rates(phi_h, phi_e, calibration=CalibrationPrior(gain_sd=(0.1,)), **settings)


def test_what_no_estimate_bounds_is_infinite_and_not_identifiable():
    """The network's maps take their calibration errors from the regression; it may have found nothing."""
    shape = (8, 8)
    told = RateMap(np.full(shape, 2.0), np.full(shape, 0.1), np.ones(shape, bool), 2.0, 0.05)
    field = Field(np.full(shape, 0.3), Grid(shape, (0.1, 0.1)), "1")
    rates = Rates(told, told, 1.0, 0.02, Outcome.NOT_JUDGED, (), "network", field, field, (0.01, 0.01), 0.5)
    silent = replace(rates, methylation=RateMap.unknown(shape), ratio=np.nan, ratio_calibration_se=np.nan)
    prior = CalibrationPrior(gain_sd=0.1)
    found = with_calibration_errors_of(rates, silent, prior)
    assert np.isinf(found.methylation.standard_error).all()
    assert np.isinf([found.methylation.mean_se, found.methylation.calibration_se, found.ratio_se]).all()
    assert found.acetylation.mean_se == told.mean_se, "the regression did tell this one, and without an error"
    judged = judge(found, acetylation_known=False)
    assert judged.outcome is Outcome.METHYLATION_NOT_IDENTIFIABLE
    assert np.isnan(judged.methylation.mean)
    assert with_calibration_errors_of(rates, silent, EXACT) is rates


def test_only_a_fit_with_a_kernel_has_none_that_fits():
    shape = (8, 8)
    told = RateMap(np.full(shape, 2.0), np.full(shape, 0.1), np.ones(shape, bool), 2.0, 0.05)
    field = Field(np.full(shape, 0.3), Grid(shape, (0.1, 0.1)), "1")
    rates = Rates(told, told, 1.0, 0.02, Outcome.NOT_JUDGED, (), "joint", field, field, (0.01, 0.01), np.nan)
    assert judge(rates, acetylation_known=False).outcome is Outcome.BOTH_RATES
    without = judge(replace(rates, method="regression"), acetylation_known=False)
    assert (without.outcome, without.flags) == (Outcome.NO_VALID_PIXEL, ("kernel_exceeds_nucleus",))
