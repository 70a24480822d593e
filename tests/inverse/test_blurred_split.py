"""One channel is split after the microscope has blurred it, which lowers the ratio; two channels keep theirs."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import chromamol as cm
from chromamol.field import Field
from chromamol.inverse import blurred_split
from chromamol.physics.parameters import ChromatinParameters

RADIUS_PX = {"both_0": 8.5, "uniform_0.5": 8.6, "uniform_1": 10.7}
"""Median of √(area / π) of the domains."""


def blurred(truth, name, share, *, noise=0.03):
    """φ_h and φ_e of a pattern behind a point spread function of `share` of a domain radius, and σ in um."""
    state, sigma = truth(name), share * RADIUS_PX[name]
    rng = np.random.default_rng(0)
    fields = [
        gaussian_filter(phi, sigma, mode="nearest") if sigma else phi for phi in (state.phi_h, state.phi_e)
    ]
    noisy = [phi + noise * 0.7 * rng.standard_normal(phi.shape) for phi in fields]
    return state, noisy, sigma * state.pixel_size_um


def ratio_of(fields, state, **settings):
    return cm.infer_rates(total=sum(fields), method="domains", **state.settings, **settings)


@pytest.mark.parametrize("name", list(RADIUS_PX))
@pytest.mark.parametrize("share", [0.17, 0.25, 0.34])
def test_the_ratio_of_a_blurred_channel_is_taken_back(truth, name, share):
    state, fields, sigma = blurred(truth, name, share)
    true = state.phi_h.mean() / state.phi_e.mean()
    taken, left = ratio_of(fields, state, psf_sigma_um=sigma), ratio_of(fields, state)
    assert abs(taken.ratio / true - 1.0) < 0.06
    assert abs(taken.ratio - true) < 2.0 * taken.ratio_se
    assert taken.ratio > 0.99 * left.ratio
    assert taken.ratio_se > left.ratio_se
    assert taken.ratio - left.ratio == pytest.approx(taken.diagnostics["ratio_lost_to_blur"])
    assert "ratio_blurred" not in taken.flags


@pytest.mark.parametrize("name", list(RADIUS_PX))
@pytest.mark.parametrize("share", [0.76, 1.0])
def test_a_channel_blurred_beyond_its_domains_has_no_ratio(truth, name, share):
    state, fields, sigma = blurred(truth, name, share)
    true = state.phi_h.mean() / state.phi_e.mean()
    rates = ratio_of(fields, state, psf_sigma_um=sigma)
    if np.isfinite(rates.ratio):  # the largest domains can be seen for longer
        assert abs(rates.ratio - true) < 2.0 * rates.ratio_se
    else:
        assert "ratio_blurred" in rates.flags
        assert np.isnan(rates.ratio_se)


def test_a_correction_that_leaves_less_than_nothing_gives_no_ratio(truth, monkeypatch):
    """As of an outline with much of the background in it, where light chromatin goes to 0: it gave -2.0."""
    state, fields, sigma = blurred(truth, "uniform_1", 0.25)
    left = ratio_of(fields, state)
    total = Field(sum(fields), left.phi_h.grid, "1", state.mask)
    for factor, told in ((1.9, True), (2.1, False)):
        found = iter((left.ratio, factor * left.ratio))
        monkeypatch.setattr(blurred_split, "_ratio", lambda _, found=found: next(found))
        rates = blurred_split.with_ratio_before_blur(left, total, ChromatinParameters(), noise_sd=0.03,
                                                     blurs_um=(sigma,) * 2, constant=None)  # fmt: skip
        assert np.isfinite(rates.ratio) == np.isfinite(rates.ratio_se) == told
        assert ("ratio_blurred" in rates.flags) != told


def test_blur_that_the_image_shows_counts_where_the_optics_are_not_told(truth):
    state, fields, sigma = blurred(truth, "uniform_1", 0.25)
    told, seen = ratio_of(fields, state, psf_sigma_um=sigma), ratio_of(fields, state, apparent_blur_um=sigma)
    assert (seen.ratio, seen.ratio_se) == (told.ratio, told.ratio_se)


def test_two_channels_keep_their_ratio(truth):
    state, fields, sigma = blurred(truth, "uniform_1", 1.0)
    true = state.phi_h.mean() / state.phi_e.mean()
    rates = cm.infer_rates(*fields, method="domains", psf_sigma_um=sigma, **state.settings)
    assert rates.ratio == pytest.approx(true, rel=0.01)
    assert "ratio_blurred" not in rates.flags


def test_a_sharp_channel_is_as_it_was(truth):
    state, fields, _ = blurred(truth, "both_0", 0.0)
    assert "ratio_lost_to_blur" not in ratio_of(fields, state).diagnostics
