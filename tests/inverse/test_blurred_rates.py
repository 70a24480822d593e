"""Blur makes the rates of a regression too large; their errors reach down to what they would be without it."""

import itertools

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import chromamol as cm
from chromamol.inverse.blurred_rates import share_of_blur


def blurred(truth, name, sigma_px):
    """φ_h and φ_e of a pattern behind a point spread function, with 3 % noise, and σ in um."""
    state, rng = truth(name), np.random.default_rng(0)
    fields = [
        gaussian_filter(phi, sigma_px, mode="nearest") + 0.021 * rng.standard_normal(phi.shape)
        for phi in (state.phi_h, state.phi_e)
    ]
    return state, fields, sigma_px * state.pixel_size_um


def fitted(state, fields, sigma_um, **settings):
    return cm.infer_rates(*fields, method="regression", psf_sigma_um=sigma_um, **state.settings, **settings)


def relative_errors(state, rates):
    """By how much both means are off where they are valid, and their standard errors, as shares of the means."""
    maps = (rates.methylation, rates.acetylation)
    true = [np.broadcast_to(known, m.valid.shape)[m.valid].mean() for known, m in
            zip((state.methylation, state.acetylation), maps, strict=True)]  # fmt: skip
    off = np.array([1.0 - t / m.mean for m, t in zip(maps, true, strict=True)])
    return off, np.array([m.mean_se / m.mean for m in maps])


def test_what_blur_adds_is_in_the_errors(truth, check_errors):
    off, errors = [], []
    for name, sigma_px in itertools.product(("both_0", "uniform_0.5", "uniform_1"), (2.0, 4.0)):
        state, fields, sigma = blurred(truth, name, sigma_px)
        untold, told = (fitted(state, fields, blur) for blur in (0.0, sigma))
        too_large, without = relative_errors(state, untold)
        assert (too_large > 6.0 * without).all(), "a blur that nobody tells is in no error"
        same, error = relative_errors(state, told)
        np.testing.assert_allclose(same, too_large)
        off.append(too_large)
        errors.append(error)
    check_errors(np.array(off), np.array(errors), mean_square=(0.5, 1.6), covered=0.99)


def test_its_error_is_common_to_all_pixels_and_to_nuclei_imaged_alike(truth):
    state, fields, sigma = blurred(truth, "uniform_1", 2.0)
    untold, told = (fitted(state, fields, blur) for blur in (0.0, sigma))
    share = told.diagnostics["share_of_blur"]
    assert 0.1 < share < 0.4
    for before, after in ((untold.methylation, told.methylation), (untold.acetylation, told.acetylation)):
        np.testing.assert_array_equal(after.values, before.values)
        np.testing.assert_allclose(
            after.standard_error**2, before.standard_error**2 + (share * before.values) ** 2
        )
        assert after.calibration_se == pytest.approx(share * before.mean)
        assert after.own_se == pytest.approx(before.own_se)


def test_a_known_rate_fixes_the_size_of_the_other(truth):
    state, fields, sigma = blurred(truth, "uniform_1", 3.0)
    told = fitted(state, fields, sigma, known_acetylation_per_um2=1.0)
    assert "share_of_blur" not in told.diagnostics
    assert told.methylation.mean == pytest.approx(1.0, abs=0.05)


def test_the_share_grows_with_blur_to_the_whole():
    shares = [share_of_blur(q) for q in (0.0, 1.0, 3.0, 10.0, 100.0)]
    assert shares[0] == 0.0
    assert (np.diff(shares) > 0.0).all()
    assert shares[-1] == pytest.approx(1.0)
