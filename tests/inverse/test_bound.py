"""The Cramér-Rao bound: against a dense matrix, against what more and better data do, and what is refused."""

import numpy as np
import pytest

import chromamol as cm
from chromamol.errors import FieldError, ParameterError
from chromamol.grid import Grid
from chromamol.inverse.calibration import CalibrationPrior
from chromamol.inverse.log_rate_modes import smooth_modes

CROP = slice(60, 108)
EXPERIMENT = {"noise_sd": 0.035, "correlation_um": 1.6, "log_sd": 0.3}


@pytest.fixture
def bound(truth):
    """The bound on a crop of a simulated pattern, with what differs from the default experiment."""
    state = truth("both_0")
    cut = {
        "methylation_per_um2": state.methylation[CROP, CROP],
        "acetylation_per_um2": state.acetylation[CROP, CROP],
    }
    fields = state.phi_h[CROP, CROP], state.phi_e[CROP, CROP]
    return lambda **other: cm.cramer_rao_bound(*fields, **(cut | state.settings | EXPERIMENT | other))


def rms(values):
    return float(np.sqrt(np.nanmean(np.square(values))))


def test_it_is_the_inverse_of_the_information_by_dense_spectral_matrices():
    """S = -J⁻¹ ∂R/∂θ and (SᵀS / σ² + P⁻¹)⁻¹ written out, with spectral derivatives in a periodic box."""
    n, side, ell, sd = 24, 1.2, 0.05, 0.02
    h = side / n
    x = h * np.arange(n)
    wave = 2.0 * np.pi / side
    phi_h = 0.35 + 0.25 * np.cos(wave * x)[:, None] * np.cos(wave * x)[None]
    phi_e = 0.15 + 0.02 * np.sin(wave * x)[:, None] * np.ones(n)
    parameters = cm.ChromatinParameters(interface_length_um=ell)
    found = cm.cramer_rao_bound(
        phi_h, phi_e, methylation_per_um2=0.8, acetylation_per_um2=1.0, pixel_size_um=h, noise_sd=sd,
        parameters=parameters, correlation_um=0.6, log_sd=0.5, border="periodic",
    )  # fmt: skip
    k = 2.0 * np.pi * np.fft.fftfreq(n, h)
    line = np.real(np.fft.ifft(-(k**2)[:, None] * np.fft.fft(np.eye(n), axis=0), axis=0))
    lap, one, zero = (
        np.kron(line, np.eye(n)) + np.kron(np.eye(n), line),
        np.eye(n * n),
        np.zeros((n * n,) * 2),
    )
    h_, e_ = phi_h.ravel(), phi_e.ravel()
    stiff = np.diag(0.7**2 - 6 * 0.7 * h_ + 6 * h_**2)
    jacobian = np.block(
        [[stiff - ell**2 * lap, zero, -one], [-1.0 * one, 0.8 * one, lap], [zero, one - ell**2 * lap, one]]
    )
    modes, mode_sd = smooth_modes(Grid((n, n), (h, h)), correlation_um=0.6, log_sd=0.5)
    theta = np.concatenate([np.ones((1, n * n)), modes.reshape(len(modes), -1)]).T
    flat = np.zeros((n * n, 1))
    slopes = np.block([[0 * theta, 0 * theta, flat], [(0.8 * e_)[:, None] * theta, -h_[:, None] * theta, flat],
                       [0 * theta, 0 * theta, flat - 1.0]])  # fmt: skip
    sensitivity = -np.linalg.solve(jacobian, slopes)[: 2 * n * n]
    prior = np.concatenate([np.tile(np.concatenate([[2.0], mode_sd]), 2) ** -2.0, [0.0]])
    covariance = np.linalg.inv(sensitivity.T @ sensitivity / sd**2 + np.diag(prior))
    size = theta.shape[1]
    for i, (rate, values) in enumerate(((0.8, found.methylation), (1.0, found.acetylation))):
        block = covariance[i * size : (i + 1) * size, i * size : (i + 1) * size]
        expected = rate * np.sqrt(np.einsum("pk,kl,pl->p", theta, block, theta))
        # The compact stencil errs by (k h)⁴ / 240, 2e-4 at the second harmonic of the pattern.
        np.testing.assert_allclose(values.ravel(), expected, rtol=0.01)


def test_known_figures_of_a_crop(truth):
    """5 % noise, 80 x 80 pixels, Γ_ac known: 25 Fourier coefficients without prior have .0139 (published figure)."""
    state, part = truth("known_0"), slice(56, 136)
    bound = cm.cramer_rao_bound(
        state.phi_h[part, part], state.phi_e[part, part], methylation_per_um2=state.methylation[part, part],
        acetylation_per_um2=1.0, acetylation_known=True, **state.settings, **EXPERIMENT,
    )  # fmt: skip
    inner = slice(8, -8)
    relative = rms(bound.methylation[inner, inner]) / rms(state.methylation[part, part][inner, inner])
    assert 0.007 < relative < 0.016
    assert np.all(bound.acetylation == 0.0)
    assert bound.acetylation_mean == 0.0


def test_error_follows_noise_until_the_prior_speaks(bound):
    weak, strong = (rms(bound(noise_sd=sd, log_sd=10.0, border="wall").methylation) for sd in (1e-4, 2e-4))
    assert strong / weak == pytest.approx(2.0, rel=0.1)
    # exp(θ) spreads as θ: with endless noise the relative error is the prior's.
    blind = bound(noise_sd=1e3)
    assert rms(blind.methylation) / rms(bound(noise_sd=1e4).methylation) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("worse", [{"psf_sigma_um": 0.15}, {"total_only": True, "psf_sigma_um": 0.08},
                                   {"calibration": CalibrationPrior(0.1, 0.01, 0.1, 0.1)}])  # fmt: skip
def test_poorer_data_raise_every_error(bound, worse):
    good, bad = bound(), bound(**worse)
    assert rms(bad.methylation) > rms(good.methylation)
    assert rms(bad.acetylation) > rms(good.acetylation)
    assert bad.methylation_mean > good.methylation_mean


def test_knowing_more_lowers_it(bound):
    assert rms(bound(acetylation_known=True).methylation) < rms(bound().methylation)
    assert rms(bound(border="wall").methylation) < rms(bound().methylation)


def test_ratio_is_better_known_than_the_rates_when_the_scale_is_not(bound):
    """One stain whose gain is unknown: the size of both rates goes with it, their ratio hardly."""
    vague = bound(total_only=True, calibration=CalibrationPrior(gain_sd=0.1))
    assert vague.relative_ratio < 0.7 * vague.methylation_mean / 0.84


def test_a_mask_bounds_it_and_stacks_work():
    rng = np.random.default_rng(0)
    fields = 0.3 + 0.05 * rng.standard_normal((2, 10, 12, 12))
    mask = np.ones((10, 12, 12), bool)
    mask[:, :3, :3] = False
    bound = cm.cramer_rao_bound(
        *fields, methylation_per_um2=0.8, acetylation_per_um2=1.0, pixel_size_um=(0.05, 0.04, 0.04), mask=mask,
        parameters=cm.ChromatinParameters(interface_length_um=0.03), **EXPERIMENT,
    )  # fmt: skip
    assert np.array_equal(np.isfinite(bound.methylation), mask)
    assert (bound.methylation[mask] > 0.0).all()


@pytest.mark.parametrize("change", [
    {"psf_sigma_um": -0.1}, {"psf_sigma_um": np.nan}, {"psf_sigma_um": "a"}, {"noise_sd": np.nan}, {"noise_sd": np.inf},
    {"noise_sd": (0.03, 0.03, 0.03)}, {"noise_sd": (0.03, 0.03), "total_only": True}, {"noise_sd": "a"},
    {"noise_sd": np.full((48, 48), 0.03)}, {"correlation_um": np.nan}, {"correlation_um": None}, {"log_sd": np.nan},
    {"correlation_um": 0.0097}, {"border": "periodic", "mask": np.ones((48, 48), bool)},
], ids=str)  # fmt: skip
def test_numbers_that_cannot_be_are_refused_by_name(bound, change):
    """A blur below 0 or NaN gave the bound without blur, half of the true one; a quarter of a pixel took minutes."""
    with pytest.raises(ParameterError, match=f"^{next(iter(change))}.*Expected: .*Do: "):
        bound(**change)


def test_too_many_cosines_are_refused_before_they_are_made():
    fields = np.full((2, 200, 200), 0.3)
    with pytest.raises(ParameterError, match=r"which takes \d+ cosines on 40000 pixels"):
        cm.cramer_rao_bound(*fields, methylation_per_um2=1.0, acetylation_per_um2=1.0, pixel_size_um=0.04,
                            noise_sd=0.03, correlation_um=0.06, log_sd=0.3)  # fmt: skip


@pytest.mark.parametrize(("change", "error"), [({"noise_sd": 0.0}, ParameterError),
                                               ({"border": "soft"}, ParameterError),
                                               ({"methylation_per_um2": -1.0}, FieldError),
                                               ({"mask": np.zeros((48, 48), bool)}, FieldError),
                                               ({"acetylation_per_um2": np.ones((3, 3))}, FieldError)])  # fmt: skip
def test_nonsense_is_refused(bound, change, error):
    with pytest.raises(error):
        bound(**change)


def test_too_large_a_nucleus_is_refused():
    fields = np.full((2, 400, 400), 0.3)
    with pytest.raises(FieldError, match="160000 pixels"):
        cm.cramer_rao_bound(
            *fields, methylation_per_um2=1.0, acetylation_per_um2=1.0, pixel_size_um=0.04, **EXPERIMENT
        )
