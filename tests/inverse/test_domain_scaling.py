"""Rates by the size and spacing of domains: the geometry, the scaling, and what is said of it."""

import numpy as np
import pytest

import chromamol as cm
from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse.calibration import CalibrationPrior
from chromamol.inverse.domain_scaling import DomainGeometry
from chromamol.inverse.rates import Outcome

PIXEL, RADIUS_PX, SPACING_PX = 0.02, 6, 24


def lattice_of_discs(count=6, ndim=2):
    """φ_h .69 in discs or balls on a square lattice, .04 between them."""
    n = count * SPACING_PX
    axes = [np.mod(np.arange(n), SPACING_PX) - SPACING_PX / 2 + 0.5] * ndim
    square = sum(a**2 for a in np.meshgrid(*axes, indexing="ij", sparse=True))
    return np.where(square < RADIUS_PX**2, 0.69, 0.04)


def test_geometry_of_a_lattice():
    phi_h = lattice_of_discs()
    geometry = DomainGeometry.of(
        Field(phi_h, Grid(phi_h.shape, (PIXEL,) * 2), "1", np.ones(phi_h.shape, bool)), 0.7
    )
    assert geometry.labels.max() == 36
    np.testing.assert_allclose(geometry.radius_um, RADIUS_PX * PIXEL, rtol=0.05)
    inner = geometry.spacing_um[[14, 15, 20, 21]]
    # Four neighbours at the lattice constant, the fifth on the diagonal.
    np.testing.assert_allclose(inner, SPACING_PX * PIXEL * (4 + np.sqrt(2)) / 5, rtol=1e-6)


def test_balls_are_measured_by_their_volume():
    phi_h = lattice_of_discs(count=2, ndim=3)
    geometry = DomainGeometry.of(
        Field(phi_h, Grid(phi_h.shape, (PIXEL,) * 3), "1", np.ones(phi_h.shape, bool)), 0.7
    )
    assert geometry.labels.max() == 8
    np.testing.assert_allclose(geometry.radius_um, RADIUS_PX * PIXEL, rtol=0.06)


def test_domains_at_the_border_are_left_out_and_specks_are_noise():
    phi_h = np.full((60, 60), 0.04)
    phi_h[20:32, 20:32] = phi_h[0:12, 40:52] = 0.69
    phi_h[50, 50] = 0.69
    mask = np.ones((60, 60), bool)
    geometry = DomainGeometry.of(Field(phi_h, Grid((60, 60), (PIXEL,) * 2), "1", mask), 0.7)
    assert geometry.labels.max() == 1
    assert np.isnan(geometry.spacing_um).all()


@pytest.fixture(scope="module")
def pattern():
    """Discs on a lattice with noise, whose sizes differ, and flat euchromatin."""
    phi_h = lattice_of_discs() + 0.02 * np.random.default_rng(0).standard_normal((144, 144))
    phi_h[30:40, 30:34] = 0.69
    return phi_h, np.full(phi_h.shape, 0.25) + 0.02 * np.random.default_rng(1).standard_normal(phi_h.shape)


def test_rates_follow_the_closed_forms_and_say_that_they_are_scalings(pattern):
    found = cm.infer_rates(*pattern, pixel_size_um=PIXEL, method="domains")
    assert found.method == "domains"
    assert found.outcome is Outcome.BOTH_RATES
    assert "uncalibrated_scaling" in found.flags
    count = found.diagnostics["domains"]
    assert count == 36
    labels = DomainGeometry.of(found.phi_h, 0.7).labels
    for rate in (found.methylation, found.acetylation):
        of_domain = np.array([rate.values[labels == i].mean() for i in range(1, 37)])
        assert rate.mean == pytest.approx(of_domain.mean())
        assert rate.mean_se == pytest.approx(of_domain.std(ddof=1) / 6.0)
        np.testing.assert_allclose(rate.standard_error[rate.valid], of_domain.std(ddof=1))
    assert found.ratio == pytest.approx(pattern[0].mean() / pattern[1].mean()), "of the integral balance"


def test_what_the_calibration_does_to_a_scaling_is_unknown_and_not_zero(pattern):
    prior = CalibrationPrior(gain_sd=(0.1, 0.0))
    found = cm.infer_rates(*pattern, pixel_size_um=PIXEL, method="domains", calibration=prior)
    assert np.isnan([found.methylation.calibration_se, found.acetylation.calibration_se]).all()
    assert np.isfinite([found.methylation.mean_se, found.acetylation.mean_se]).all()
    assert found.ratio_calibration_se == pytest.approx(0.1 * found.ratio, rel=0.01)


def test_rates_go_as_inverse_area(pattern):
    small, large = (cm.infer_rates(*pattern, pixel_size_um=f * PIXEL, method="domains") for f in (1.0, 2.0))
    assert small.acetylation.mean == pytest.approx(4.0 * large.acetylation.mean)


def test_known_acetylation_sets_the_scale(pattern):
    once, twice = (
        cm.infer_rates(*pattern, pixel_size_um=PIXEL, known_acetylation_per_um2=k, method="domains")
        for k in (1.0, 2.0)
    )
    assert once.outcome is Outcome.METHYLATION_GIVEN_ACETYLATION
    assert twice.methylation.mean == pytest.approx(2.0 * once.methylation.mean)


def test_one_stain_is_split_first(pattern):
    found = cm.infer_rates(total=sum(pattern), pixel_size_um=PIXEL, method="domains")
    assert {"split_constant_assumed", "uncalibrated_scaling"} <= set(found.flags)
    assert found.diagnostics["domains"] == 36


def test_too_few_domains_are_not_estimated(pattern):
    found = cm.infer_rates(*(phi[:60, :60] for phi in pattern), pixel_size_um=PIXEL, method="domains")
    assert found.outcome is Outcome.NOT_IDENTIFIABLE
    assert {"no_domains", "methylation_not_identifiable"} <= set(found.flags)
    assert np.isnan(found.methylation.mean)
    assert np.isfinite(found.ratio)
