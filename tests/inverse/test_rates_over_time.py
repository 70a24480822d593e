"""Time-lapse: D and both rates per second from frames, against films of another discretisation."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import chromamol as cm
from chromamol.calculus import estimate_noise_over_time
from chromamol.errors import FieldError, ParameterError
from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse.basis import CosineBasis
from chromamol.inverse.calibration import CalibrationPrior
from chromamol.inverse.lattice import TestLattice
from chromamol.inverse.moving_fit import _renewed, choose_width
from chromamol.inverse.moving_form import MovingProblem, balance_terms, moving_equations, windowed_images
from chromamol.inverse.problem import NoiseSource, RateProblem
from chromamol.inverse.rates import Outcome
from chromamol.inverse.time_windows import TimeWindows
from chromamol.nucleus.flags import FLAGS
from chromamol.physics import ChromatinParameters
from chromamol.synthetic import EvolutionSettings, evolve_chromatin

PARAMETERS = ChromatinParameters(interface_length_um=0.03)
DIFFUSIVITY, INTERVAL = 2.0, 0.05
SETTINGS = {"pixel_size_um": 7.5 / 192, "parameters": PARAMETERS, "frame_interval_s": INTERVAL}


def problem_of(phi, *, sd=0.05 * PARAMETERS.phi_max, grid=None):
    """Return the problem of frames of φ_h and φ_e with white noise."""
    grid = grid or Grid(phi[0].shape[1:], (7.5 / 192,) * 2)
    noise = (NoiseSource(sd, 1.0, 0.0), NoiseSource(sd, 0.0, 1.0))
    return MovingProblem(
        tuple(
            RateProblem(Field(h, grid, "1"), Field(e, grid, "1"), noise, PARAMETERS)
            for h, e in zip(*phi, strict=True)
        ),
        INTERVAL,
    )


@pytest.fixture(scope="module")
def clean(truth):
    """20 frames of a pattern that was steady for other rates and now follows those of `both_0`."""
    start, rates = truth("uniform_1"), truth("both_0")
    movie = evolve_chromatin(
        start.phi_h, start.phi_e, rates.methylation, rates.acetylation, pixel_size_um=7.5 / 192,
        times=np.concatenate([[0.0], 0.01 + INTERVAL * np.arange(20)]), parameters=PARAMETERS,
        diffusivity_um2_per_s=DIFFUSIVITY, settings=EvolutionSettings(tolerance=1e-4),
    )  # fmt: skip
    return movie.heterochromatin[1:], movie.euchromatin[1:], rates


@pytest.fixture(scope="module")
def film(clean):
    """The same with noise."""
    rng = np.random.default_rng(7)
    noise = 0.05 * PARAMETERS.phi_max * rng.standard_normal((2, 20, 192, 192))
    return clean[0] + noise[0], clean[1] + noise[1], clean[2]


@pytest.fixture(scope="module")
def result(film):
    return cm.infer_rates_over_time(film[0], film[1], **SETTINGS)


@pytest.mark.parametrize("frames", [3, 4, 7, 20])
def test_windows_differentiate_polynomials_exactly_and_are_orthonormal(frames):
    windows = TimeWindows.over(frames, 0.3)
    t = 0.3 * np.arange(frames)
    for degree in range(min(6, frames)):
        slope = degree * t ** max(degree - 1, 0)
        np.testing.assert_allclose(windows.slopes @ t**degree, windows.weights @ slope, atol=1e-9)
    np.testing.assert_allclose(windows.weights @ windows.weights.T, np.eye(len(windows.weights)), atol=1e-12)
    # Noise of the slope and of the mean of one window are independent.
    np.testing.assert_allclose(np.diag(windows.weights @ windows.slopes.T), 0.0, atol=1e-9)


def test_a_relaxing_pattern_gives_the_diffusivity(result):
    assert result.outcome is Outcome.BOTH_RATES
    assert result.flags == ()
    assert abs(result.diffusivity_um2_per_s / DIFFUSIVITY - 1.0) < 0.05
    assert abs(result.diffusivity_um2_per_s - DIFFUSIVITY) < 3.0 * result.diffusivity_se


def test_both_rates_per_second_are_recovered_at_five_percent_noise(result, film, check_errors):
    rates = film[2]
    pairs = (
        (result.methylation_per_s, rates.methylation * DIFFUSIVITY),
        (result.acetylation_per_s, rates.acetylation * DIFFUSIVITY),
    )
    for found, true in pairs:
        values, wanted = found.values[found.valid], true[found.valid]
        assert np.corrcoef(values, wanted)[0, 1] > 0.97
        assert np.linalg.norm(values - wanted) < 0.07 * np.linalg.norm(wanted)
        assert abs(found.mean - wanted.mean()) < 3.0 * found.mean_se
        # 2.2 and 2.7 (other draws of the noise: 1.2 to 2.6): the evidence chooses maps a tenth too smooth here.
        check_errors(values - wanted, found.standard_error[found.valid], mean_square=(0.75, 6.0))


def test_errors_of_maps_hold_at_one_percent_noise(clean, check_errors):
    """With modes for a third of the functions of one window, maps were off by twice their errors."""
    part = slice(30, 142)
    noise = 0.01 * PARAMETERS.phi_max * np.random.default_rng(1).standard_normal((2, 20, 112, 112))
    phi_h, phi_e = (phi[:, part, part] + n for phi, n in zip(clean[:2], noise, strict=True))
    found = cm.infer_rates_over_time(phi_h, phi_e, **SETTINGS)
    assert abs(found.diffusivity_um2_per_s - DIFFUSIVITY) < 3.0 * found.diffusivity_se < 0.1
    for rate, true in ((found.methylation, clean[2].methylation), (found.acetylation, clean[2].acetylation)):
        wanted, errors = true[part, part][rate.valid], rate.standard_error[rate.valid]
        assert abs(rate.mean / wanted.mean() - 1.0) < 0.01
        # .7 to 1.2 in four draws of the noise.
        check_errors(rate.values[rate.valid] - wanted, errors, mean_square=(0.4, 2.0), covered=0.85)


def test_a_start_with_rough_weights_needs_not_resolve_the_motion(film):
    """With weights far off the misfit is 50, and D not resolved, where the next fit tells it to a tenth."""
    problem = problem_of([phi[:8, :72, :72] for phi in film[:2]])
    fit = choose_width(problem, device=torch.device("cpu")).fit(problem)
    assert fit.resolves
    rough = replace(fit, slowness_se=fit.slowness)
    assert not rough.resolves

    def renewed(*fits):
        each = iter(fits)
        return _renewed(lambda *, guess: next(each), (0.0, 0.0, 0.0))

    assert renewed(rough, fit, fit) is fit
    assert renewed(fit, fit, rough) is None
    assert renewed(replace(fit, slowness=-1.0)) is None
    assert renewed(fit, replace(fit, slowness=100.0 * fit.slowness)) is None


def test_noise_of_equations_holds_what_pixels_do_on_the_way():
    """Whitened by C it has the variance 1; with f' of the mean frame, which is between the phases, that was 4."""
    grid, sd = Grid((44, 44), (0.04, 0.04)), 0.02
    y, x = np.mgrid[0:44, 0:44]
    passing = np.stack([np.tanh(4.0 * np.sin(0.45 * x + 0.2 * y - 0.5 * t)) for t in range(8)])
    phi_h, phi_e = 0.35 + 0.3 * passing, 0.2 - 0.1 * passing
    lattice = TestLattice.inside_mask(grid, np.ones(grid.shape, dtype=bool), (0.44, 0.44))
    (tile,) = lattice.tiles()
    basis, rates = CosineBasis(grid, np.zeros((1, 2), dtype=int)), np.array([0.8, 1.1, 1.0])

    def residuals(phi_h, phi_e):
        images = windowed_images(problem_of([phi_h, phi_e], sd=sd, grid=grid))
        terms = (balance_terms(window, basis, tile) for window in images)
        return images, np.array([columns @ rates - right_side for columns, right_side in terms])

    images, true = residuals(phi_h, phi_e)
    rng = np.random.default_rng(0)
    draws = [
        residuals(*(phi + sd * rng.standard_normal(phi.shape) for phi in (phi_h, phi_e)))[1] - true
        for _ in range(12)
    ]
    power = []
    for window, off in zip(images, np.moveaxis(draws, 0, -1), strict=True):
        equations = moving_equations(window, basis, tile)
        covariance = equations.grams.residual_covariance(0.8, 1.1) + equations.motion_noise
        white = np.linalg.solve(np.linalg.cholesky(covariance), off)
        power.append(np.mean(white**2))
    assert np.mean(power) == pytest.approx(1.0, abs=0.2)


def test_noise_follows_from_the_differences_of_frames(film):
    true = 0.05 * PARAMETERS.phi_max
    for phi in film[:2]:
        np.testing.assert_allclose(estimate_noise_over_time(phi), true, rtol=0.02)
        assert estimate_noise_over_time(phi[:3]).mean() == pytest.approx(true, rel=0.02)


def test_a_pattern_that_changes_from_frame_to_frame_is_not_taken_for_noise():
    rng = np.random.default_rng(5)
    x = np.linspace(0.0, 4.0 * np.pi, 128)
    frames = 0.2 * np.sin(x + 2.0 * rng.permutation(8)[:, None, None]) * np.ones((128, 1))
    noisy = frames + 0.01 * rng.standard_normal(frames.shape)
    assert estimate_noise_over_time(noisy).mean() == pytest.approx(0.01, rel=0.05)


def test_rates_per_second_are_the_rates_over_diffusivity_times_the_diffusivity(result):
    np.testing.assert_allclose(
        result.methylation_per_s.values, result.methylation.values * result.diffusivity_um2_per_s
    )


def test_the_unit_of_time_changes_nothing_else(film):
    """Frames said to be 10 times farther apart: D and rates 10 times smaller, rates over D the same."""
    phi_h, phi_e = (phi[:, :90, :90] for phi in film[:2])
    result, slower = (
        cm.infer_rates_over_time(phi_h, phi_e, **(SETTINGS | {"frame_interval_s": INTERVAL * factor}))
        for factor in (1.0, 10.0)
    )
    assert slower.diffusivity_um2_per_s == pytest.approx(result.diffusivity_um2_per_s / 10, rel=1e-6)
    assert slower.diffusivity_se == pytest.approx(result.diffusivity_se / 10, rel=1e-6)
    assert slower.methylation.mean == pytest.approx(result.methylation.mean, rel=1e-6)


def test_a_pattern_at_rest_tells_nothing_of_the_diffusivity(truth):
    steady, rng = truth("both_0"), np.random.default_rng(3)
    window = (slice(None), slice(0, 96), slice(0, 96))
    noise = 0.05 * PARAMETERS.phi_max * rng.standard_normal((2, 8, 192, 192))
    phi_h, phi_e = ((phi + n)[window] for phi, n in zip((steady.phi_h, steady.phi_e), noise, strict=True))
    result = cm.infer_rates_over_time(phi_h, phi_e, **SETTINGS)
    assert np.isnan(result.diffusivity_um2_per_s)
    assert np.isnan(result.methylation_per_s.values).all()
    assert "diffusivity_not_identifiable" in result.flags
    true = steady.methylation[window[1:]][result.methylation.valid].mean()
    assert abs(result.methylation.mean - true) < 2.0 * result.methylation.mean_se < 0.12 * true


@pytest.fixture(scope="module")
def brief(truth):
    """20 noisy frames over .12 L0² / D after acetylation rose by half: <φ_h> falls by 46 of its errors."""
    start = truth("known_0")
    times = np.linspace(0.0, 0.12, 20)
    movie = evolve_chromatin(
        start.phi_h, start.phi_e, start.methylation, 1.5 * start.acetylation, times=times,
        settings=EvolutionSettings(tolerance=1e-4), **start.settings,
    )  # fmt: skip
    noise = 0.05 * PARAMETERS.phi_max * np.random.default_rng(2).standard_normal((2, *movie.total.shape))
    settings = start.settings | {"frame_interval_s": float(times[1])}
    return movie.heterochromatin + noise[0], movie.euchromatin + noise[1], start, settings


def test_a_brief_film_is_told_from_rest(brief):
    """Plain least squares give 1 / D twenty times too low, and weights from there ran away to 1e9."""
    phi_h, phi_e, truth, settings = brief
    found = cm.infer_rates_over_time(phi_h, phi_e, **settings)
    assert found.outcome is Outcome.BOTH_RATES
    assert found.flags == ()
    assert abs(found.diffusivity_um2_per_s - 1.0) < 2.5 * found.diffusivity_se < 0.5
    for rate, true in ((found.methylation, truth.methylation), (found.acetylation, 1.5 * truth.acetylation)):
        assert abs(rate.mean - true[rate.valid].mean()) < 3.0 * rate.mean_se < 0.05 * rate.mean
    assert abs(found.ratio - truth.methylation.mean() / 1.5) < 2.5 * found.ratio_se < 0.1


@pytest.mark.parametrize("frames", [4, 7])
def test_motion_that_is_seen_and_not_resolved_is_not_taken_for_rest(brief, frames):
    """In 4 frames only the mean over the nucleus shows it."""
    phi_h, phi_e = (phi[:frames, :100, :100] for phi in brief[:2])
    told = CalibrationPrior(gain_sd=(0.02, 0.0))
    found = cm.infer_rates_over_time(phi_h, phi_e, calibration=told, **brief[3])
    assert found.outcome is Outcome.MOTION_NOT_RESOLVED
    assert set(found.flags) == {"unsteady", "diffusivity_not_identifiable"} <= set(FLAGS)
    for each in (found.methylation, found.acetylation, found.methylation_per_s, found.acetylation_per_s):
        assert np.isnan(each.values).all()
        assert np.isnan([each.mean, each.mean_se]).all()
        assert not each.valid.any()
    assert np.isnan([found.ratio, found.ratio_se, found.diffusivity_um2_per_s]).all()
    assert np.isnan(found.over_diffusivity.ratio_calibration_se)


def test_the_ratio_of_a_nucleus_too_small_for_maps_has_its_calibration_error():
    rng = np.random.default_rng(0)
    phi_h, phi_e = (phi + 0.02 * rng.standard_normal((3, 40, 40)) for phi in (0.3, 0.25))
    y, x = np.mgrid[-20:20, -20:20]
    told = CalibrationPrior(gain_sd=(0.02, 0.0))
    found = cm.infer_rates_over_time(phi_h, phi_e, mask=y**2 + x**2 < 16, noise_sd=0.02, calibration=told,
                                     **SETTINGS)  # fmt: skip
    assert found.outcome is Outcome.NO_VALID_PIXEL
    assert found.over_diffusivity.ratio_calibration_se == pytest.approx(0.02 * found.ratio, rel=0.01)


def test_what_lies_around_the_mask_changes_nothing(film):
    """The cosines of the maps were those of the whole array."""
    phi = [each[:5, :72, :72] for each in film[:2]]
    y, x = np.mgrid[-1:1:72j, -1:1:72j]
    mask = y**2 + x**2 < 0.95
    around = ((50, 50), (50, 50))
    alone = cm.infer_rates_over_time(*phi, mask=mask, noise_sd=0.035, **SETTINGS)
    padded = cm.infer_rates_over_time(
        *(np.pad(each, ((0, 0), *around), constant_values=np.nan) for each in phi),
        mask=np.pad(mask, around), noise_sd=0.035, **SETTINGS,
    )  # fmt: skip
    assert alone.outcome is Outcome.BOTH_RATES
    for name in ("methylation", "acetylation", "methylation_per_s", "acetylation_per_s"):
        small, large = getattr(alone, name), getattr(padded, name)
        assert (small.mean, small.mean_se) == pytest.approx((large.mean, large.mean_se), rel=1e-9)
        wanted = np.pad(small.values, around, constant_values=np.nan)
        np.testing.assert_allclose(large.values, wanted, rtol=1e-9)
        np.testing.assert_array_equal(large.valid, np.pad(small.valid, around))
    fields = (alone.over_diffusivity.phi_h, padded.over_diffusivity.phi_h)
    np.testing.assert_allclose(fields[1].filled(), np.pad(fields[0].filled(), around, constant_values=np.nan))


def test_the_error_of_a_gain_is_what_a_wrong_gain_does(film):
    phi_h, phi_e = (phi[::2, :90, :90] for phi in film[:2])
    settings = SETTINGS | {"frame_interval_s": 2.0 * INTERVAL}
    exact = cm.infer_rates_over_time(phi_h, phi_e, **settings)
    prior = CalibrationPrior(gain_sd=(0.01, 0.0))
    told = cm.infer_rates_over_time(phi_h, phi_e, calibration=prior, **settings)
    dim, bright = (
        cm.infer_rates_over_time(f * phi_h, phi_e, **settings)
        for f in np.exp([-prior.gain_sd[0], prior.gain_sd[0]])
    )

    def numbers(result):
        return np.array(
            [result.diffusivity_um2_per_s, result.methylation.mean, result.acetylation_per_s.mean]
        )

    parts = np.array([told.diffusivity_calibration_se, told.methylation.calibration_se,
                      told.acetylation_per_s.calibration_se])  # fmt: skip
    assert (parts > 0.01 * numbers(told)).all()
    # The width and the weights of the wrongly calibrated films are their own.
    assert parts == pytest.approx(0.5 * np.abs(numbers(bright) - numbers(dim)), rel=0.15)
    assert numbers(told) == pytest.approx(numbers(exact)), "errors move no estimate"
    for found, own in (
        (told.methylation, exact.methylation),
        (told.acetylation_per_s, exact.acetylation_per_s),
    ):
        assert found.own_se == pytest.approx(own.mean_se)
        assert np.nanmin(found.standard_error - own.standard_error) > 0.0
    assert told.diffusivity_se == pytest.approx(np.hypot(exact.diffusivity_se, parts[0]))
    assert exact.diffusivity_calibration_se == 0.0


def test_a_film_that_cannot_be_inverted_is_refused(film):
    with pytest.raises(FieldError, match="at least 3 frames"):
        cm.infer_rates_over_time(film[0][:2], film[1][:2], **SETTINGS)
    with pytest.raises(FieldError, match="without phi_h"):
        cm.infer_rates_over_time(total=film[0], **SETTINGS)
    with pytest.raises(ParameterError, match="frame_interval_s"):
        cm.infer_rates_over_time(film[0], film[1], **(SETTINGS | {"frame_interval_s": 0.0}))


def test_torch_fields_are_taken(film):
    found = cm.infer_rates_over_time(*(torch.as_tensor(phi[:4, :60, :60]) for phi in film[:2]), **SETTINGS)
    assert found.methylation.values.shape == (60, 60)
