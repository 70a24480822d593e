"""Rates come back from fields that another discretisation made; what cannot be told is said."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import chromamol as cm
from chromamol.errors import ChromamolError, DeviceError, FieldError, ParameterError
from chromamol.field import Field
from chromamol.given import as_mask
from chromamol.grid import Grid
from chromamol.inverse.inference import choose_method
from chromamol.inverse.marks import marks_alike
from chromamol.inverse.problem import NoiseSource, RateProblem
from chromamol.inverse.rates import Outcome, RateMap, Rates
from chromamol.inverse.width import fit_best_width


def regression(*fields, **settings):
    return cm.infer_rates(*fields, **({"method": "regression"} | settings))


def correlation(rate, truth):
    return np.corrcoef(rate.values[rate.valid], truth[rate.valid])[0, 1]


def relative_error(rate, truth):
    return np.linalg.norm((rate.values - truth)[rate.valid]) / np.linalg.norm(truth[rate.valid])


@pytest.mark.parametrize("rate", ["0.5", "1", "1.5"])
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_uniform_methylation_is_recovered_within_two_percent(truth, rate, noise):
    field = truth(f"uniform_{rate}")
    found = regression(*field.noisy(noise, seed=1), known_acetylation_per_um2=1.0, **field.settings)
    values = found.methylation.values[found.methylation.valid] / float(rate)
    assert found.outcome is Outcome.METHYLATION_GIVEN_ACETYLATION
    assert abs(np.median(values) - 1.0) < 0.02
    assert np.std(values) < 0.03


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_methylation_map_is_recovered_from_five_percent_noise(truth, seed):
    field = truth("known_0")
    found = regression(*field.noisy(0.05, seed), known_acetylation_per_um2=1.0, **field.settings)
    assert correlation(found.methylation, field.methylation) > 0.997
    assert relative_error(found.methylation, field.methylation) < 0.025
    assert np.all(found.acetylation.standard_error == 0.0), "a given rate has no error"


def test_rates_are_described_in_a_line_without_their_maps():
    grid = Grid((2, 2), (0.1, 0.1))
    valid = np.array([[True, False], [False, False]])
    known = RateMap(np.full((2, 2), 9.0), np.full((2, 2), 0.5), valid, 9.0123, 0.2189)
    fields = (Field(np.full((2, 2), 0.4), grid, "1"),) * 2
    rates = Rates(known, RateMap.unknown((2, 2)), 0.65123, 0.0181, Outcome.ACETYLATION_NOT_IDENTIFIABLE,
                  ("unsteady", "negative_rate"), "regression", *fields, (0.01, 0.01), 0.5)  # fmt: skip
    assert repr(known) == "RateMap(9.01 ± 0.22, 1 of (2, 2) pixels valid)"
    assert repr(rates) == (
        "Rates(ACETYLATION_NOT_IDENTIFIABLE, ratio 0.651 ± 0.018, methylation 9.01 ± 0.22 um^-2, "
        "acetylation nan ± nan um^-2, regression, flags: unsteady, negative_rate)"
    )


def test_both_maps_are_recovered_from_two_channels(truth):
    field = truth("both_0")
    found = regression(*field.noisy(0.05, seed=1), **field.settings)
    assert found.outcome is Outcome.BOTH_RATES
    for rate, true in ((found.methylation, field.methylation), (found.acetylation, field.acetylation)):
        assert correlation(rate, true) > 0.97
        assert relative_error(rate, true) < 0.07


def test_standard_errors_cover_the_truth(truth, check_errors):
    """Over three noises: one map is a few dozen independent patches."""
    field, off, error = truth("known_0"), [], []
    for seed in range(3):
        rate = regression(
            *field.noisy(0.05, seed), known_acetylation_per_um2=1.0, **field.settings
        ).methylation
        off.append((rate.values - field.methylation)[rate.valid])
        error.append(rate.standard_error[rate.valid])
    check_errors(np.concatenate(off), np.concatenate(error), mean_square=(0.5, 2.0), covered=0.85)


def test_one_channel_gives_both_maps_and_carries_the_error_of_the_split(truth):
    field = truth("both_0")
    total = sum(field.noisy(0.0, seed=0)) + 0.005 * np.random.default_rng(1).standard_normal(
        field.phi_h.shape
    )
    found = regression(total=total, **field.settings)
    assert found.outcome is Outcome.BOTH_RATES
    assert "split_constant_assumed" in found.flags
    for rate, true in ((found.methylation, field.methylation), (found.acetylation, field.acetylation)):
        assert correlation(rate, true) > 0.95
        assert abs(rate.mean - true[rate.valid].mean()) < 2.0 * rate.mean_se
    known = regression(total=total, split_constant_sd=0.0, **field.settings)
    assert known.methylation.mean_se < 0.5 * found.methylation.mean_se
    assert known.ratio_se < found.ratio_se


def test_heterochromatin_and_total_give_both_maps(truth):
    """A DNA stain and a heterochromatin mark, each with its own noise."""
    field = truth("both_0")
    phi_h, _ = field.noisy(0.01, seed=1)
    total = sum(field.noisy(0.0, seed=0)) + 0.007 * np.random.default_rng(2).standard_normal(phi_h.shape)
    found = regression(phi_h, total=total, **field.settings)
    assert found.outcome is Outcome.BOTH_RATES
    for rate, true in ((found.methylation, field.methylation), (found.acetylation, field.acetylation)):
        assert correlation(rate, true) > 0.98
        assert rate.mean == pytest.approx(true[rate.valid].mean(), rel=0.03)


def test_lengths_set_the_unit(truth):
    """The same pattern, ten times smaller, has rates a hundred times larger."""
    field = truth("uniform_1")
    found = regression(
        field.phi_h, field.phi_e, pixel_size_um=field.pixel_size_um / 10,
        parameters=cm.ChromatinParameters(interface_length_um=0.003),
    )  # fmt: skip
    assert found.methylation.mean == pytest.approx(100.0, rel=0.01)
    assert found.acetylation.mean == pytest.approx(100.0, rel=0.01)


def test_transposed_fields_give_transposed_maps(truth):
    field = truth("known_0")
    kwargs = {"known_acetylation_per_um2": 1.0, **field.settings}
    crop = (slice(0, 96), slice(20, 130))
    a = regression(field.phi_h[crop], field.phi_e[crop], **kwargs).methylation
    b = regression(field.phi_h[crop].T, field.phi_e[crop].T, **kwargs).methylation
    np.testing.assert_allclose(a.values, b.values.T, rtol=1e-5)


@pytest.mark.parametrize(
    ("channels", "window"),
    [(2, np.s_[0:76, 20:103]), (2, np.s_[0:77, 30:118]), (1, np.s_[0:76, 20:103])],
    ids=["two, even and odd", "two, odd and even", "one, even and odd"],
)
def test_mirrored_fields_give_mirrored_maps(truth, channels, window):
    """To single precision, in which noise is propagated; smoothed noise sees more of it."""
    field = truth("both_0")
    phi_h, phi_e = (phi[window] for phi in field.noisy(0.05, 3))
    y, x = (2.0 * i / n - 1.0 for i, n in zip(np.indices(phi_h.shape), phi_h.shape, strict=True))
    mask = (x**2 + y**2 < 1.3) & ((x < 0.2) | (y < 0.3)) if channels == 2 else np.ones(phi_h.shape, bool)

    def rates(mirrored):
        h, e, inside = (mirrored(each) for each in (phi_h, phi_e, mask))
        images = {"phi_h": h, "phi_e": e} if channels == 2 else {"total": h + e}
        return regression(**images, mask=inside, **field.settings)

    there = rates(lambda values: values)
    assert there.outcome is Outcome.BOTH_RATES
    for mirrored in (np.flipud, np.fliplr):
        found = rates(mirrored)
        assert found.mollifier_width_um == there.mollifier_width_um
        for one, other in ((found.methylation, there.methylation), (found.acetylation, there.acetylation)):
            tolerance = 1e-5 if channels == 2 else 1e-3
            np.testing.assert_allclose(mirrored(one.values), other.values, rtol=tolerance)
            np.testing.assert_allclose(mirrored(one.standard_error), other.standard_error, rtol=tolerance)


def test_errors_hold_how_far_the_next_width_is(truth):
    field = truth("both_0")
    window = np.s_[0:80, 20:96]
    phi_h, phi_e = (Field(phi[window], Grid((80, 76), (0.04,) * 2), "1") for phi in field.noisy(0.05, 3))
    noise = (NoiseSource(0.035, 1.0, 0.0), NoiseSource(0.035, 0.0, 1.0))
    problem = RateProblem(phi_h, phi_e, noise, field.settings["parameters"])
    (fit,) = fit_best_width(problem, device=torch.device("cpu"))
    alone = replace(fit, beside=None)
    for which, (of_mean, of_pixels) in enumerate(fit.beside):
        assert 0.0 < of_mean < of_pixels
        told, own = fit.rate_map(which), alone.rate_map(which)
        assert told.mean_se == pytest.approx(np.hypot(own.mean_se, of_mean))
        np.testing.assert_allclose(told.standard_error, np.hypot(own.standard_error, of_pixels))


def test_valid_shrinks_by_the_support_at_the_nuclear_border(truth):
    field = truth("known_0")
    y, x = np.mgrid[-1:1:192j, -1:1:192j]
    mask = y**2 + (x / 0.85) ** 2 < 0.9
    found = regression(*field.noisy(0.05, 1), mask=mask, known_acetylation_per_um2=1.0, **field.settings)
    valid = found.methylation.valid
    reach = round(found.mollifier_width_um / field.pixel_size_um) - 1
    for axis in (0, 1):
        for shift in (-reach, reach):
            assert np.all(np.roll(mask, shift, axis)[valid])
    assert valid.any()
    assert correlation(found.methylation, field.methylation) > 0.99
    assert np.isnan(found.methylation.values[~mask]).all()
    assert np.isfinite(found.methylation.standard_error[mask]).all()
    outside = np.where(mask, field.phi_h, np.nan)
    again = regression(
        outside, field.phi_e, mask=mask, known_acetylation_per_um2=1.0, noise_sd=0.035, **field.settings
    )
    assert np.isfinite(again.methylation.mean)


def test_the_ratio_is_the_integral_balance(truth):
    field = truth("both_0")
    found = regression(field.phi_h, field.phi_e, **field.settings)
    assert found.ratio == pytest.approx(field.phi_h.mean() / field.phi_e.mean(), rel=1e-12)


def test_a_nucleus_smaller_than_the_kernel_has_a_ratio_and_no_map(truth):
    field = truth("uniform_1")
    mask = np.zeros(field.phi_h.shape, dtype=bool)
    mask[90:104, 90:104] = True
    found = regression(*field.noisy(0.05, 0), mask=mask, **field.settings)
    assert found.outcome is Outcome.NO_VALID_PIXEL
    assert "kernel_exceeds_nucleus" in found.flags
    assert np.isnan(found.methylation.values).all()
    assert np.isfinite(found.ratio)


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_structureless_fields_are_not_identifiable(seed):
    """Their equations hold noise alone, and what is left of that is little more than rounding."""
    rng = np.random.default_rng(seed)
    noise = lambda: 0.02 * rng.standard_normal((120, 120))  # noqa: E731 - two draws of one distribution
    found = regression(0.25 + noise(), 0.25 + noise(), pixel_size_um=0.04,
                           parameters=cm.ChromatinParameters(interface_length_um=0.03))  # fmt: skip
    assert "acetylation_not_identifiable" in found.flags
    assert np.isnan(found.acetylation.mean)
    assert found.ratio == pytest.approx(1.0, abs=0.05)


def test_blur_beyond_the_interface_is_flagged(truth):
    field = truth("uniform_1")
    fields = field.phi_h[:96, :96], field.phi_e[:96, :96]
    kwargs = {"known_acetylation_per_um2": 1.0, **field.settings}
    assert "unresolved_domains" not in regression(*fields, **kwargs).flags
    assert "unresolved_domains" in regression(*fields, psf_sigma_um=0.08, **kwargs).flags
    assert "unresolved_domains" in regression(*fields, apparent_blur_um=0.08, **kwargs).flags
    assert "unresolved_domains" not in regression(*fields, apparent_blur_um=0.02, **kwargs).flags


def test_torch_and_numpy_give_the_same(truth):
    field = truth("uniform_1")
    phi_h, phi_e = (np.ascontiguousarray(phi[:96, :96]) for phi in (field.phi_h, field.phi_e))
    kwargs = {"known_acetylation_per_um2": 1.0, **field.settings}
    a = regression(phi_h, phi_e, **kwargs)
    b = regression(torch.tensor(phi_h), torch.tensor(phi_e), **kwargs)
    np.testing.assert_array_equal(a.methylation.values, b.methylation.values)


def test_inputs_are_not_changed(truth):
    field = truth("uniform_1")
    phi_h, phi_e = field.phi_h[:96, :96].copy(), field.phi_e[:96, :96].copy()
    regression(phi_h, phi_e, known_acetylation_per_um2=1.0, **field.settings)
    np.testing.assert_array_equal(phi_h, field.phi_h[:96, :96])
    np.testing.assert_array_equal(phi_e, field.phi_e[:96, :96])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_cuda_device_that_is_not_there_is_an_error(truth):
    field = truth("uniform_1")
    with pytest.raises(DeviceError, match=r"Expected: .* Do: "):
        regression(field.phi_h, field.phi_e, device="cuda", **field.settings)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_and_cpu_agree(truth):
    field = truth("known_0")
    kwargs = {"known_acetylation_per_um2": 1.0, **field.settings}
    a = regression(field.phi_h, field.phi_e, device="cpu", **kwargs)
    b = regression(field.phi_h, field.phi_e, device="cuda", **kwargs)
    np.testing.assert_allclose(a.methylation.values, b.methylation.values, rtol=1e-6)


GOOD = np.full((40, 40), 0.25)
NOWHERE = np.zeros((40, 40), dtype=bool)


@pytest.mark.parametrize(
    ("arguments", "settings", "error"),
    [
        ((GOOD,), {}, FieldError),
        ((GOOD, GOOD[:20]), {}, FieldError),
        ((GOOD, np.where(np.eye(40) > 0, np.nan, GOOD)), {}, FieldError),
        ((0.0 * GOOD, GOOD), {}, FieldError),
        ((4.0 * GOOD, GOOD), {}, FieldError),
        ((2.4 * GOOD, 2.4 * GOOD), {}, FieldError),
        ((GOOD, GOOD), {"mask": NOWHERE}, FieldError),
        ((GOOD, GOOD), {"mask": NOWHERE, "known_acetylation_per_um2": 1.0}, FieldError),
        ((GOOD, GOOD), {"mask": NOWHERE, "noise_sd": 0.02, "method": "joint"}, FieldError),
        ((GOOD, GOOD), {"mask": NOWHERE, "method": "network"}, FieldError),
        ((GOOD, GOOD), {"known_acetylation_per_um2": []}, FieldError),
        ((GOOD, GOOD), {"pixel_size_um": 0.0}, FieldError),
        ((GOOD.astype(str), GOOD), {}, FieldError),
        ((GOOD, GOOD), {"method": "magic"}, ParameterError),
        ((GOOD, GOOD), {"noise_sd": 2.8}, FieldError),
        ((GOOD, GOOD), {"noise_sd": -1.0}, ParameterError),
        ((GOOD, GOOD), {"psf_sigma_um": -0.1}, ParameterError),
        ((GOOD, GOOD), {"known_acetylation_per_um2": -1.0}, FieldError),
        ((GOOD, GOOD), {"device": "abacus"}, DeviceError),
    ],
)
def test_bad_input_says_what_was_given_expected_and_what_to_do(arguments, settings, error):
    with pytest.raises(error, match=r"Expected: .* Do: ") as caught:
        regression(*arguments, **{"pixel_size_um": 0.04, **settings})
    assert isinstance(caught.value, ChromamolError)


@pytest.mark.parametrize(("spacing", "side", "expected", "word"),
                         [(0.04, 200, "joint", "resolve"), (0.04, 500, "regression", "250000 pixels"),
                          (0.2, 200, "regression", "too coarse")])  # fmt: skip
def test_auto_takes_the_joint_fit_where_pixels_resolve_interfaces(spacing, side, expected, word):
    grid = Grid((side, side), (spacing, spacing))
    chosen, reason = choose_method("auto", grid, cm.ChromatinParameters(interface_length_um=0.03))
    assert chosen == expected
    assert word in reason


def test_a_map_of_the_noise_is_used_where_it_is_low(truth):
    field = truth("known_0")
    rng = np.random.default_rng(5)
    sd = np.where(np.arange(192)[:, None] % 96 < 48, 0.01, 0.15) * np.ones((192, 192))
    fields = [phi + sd * rng.standard_normal(phi.shape) for phi in (field.phi_h, field.phi_e)]
    settings = field.settings | {"known_acetylation_per_um2": 1.0}
    rms = float(np.sqrt(np.mean(sd**2)))
    by_map, by_number = (regression(*fields, noise_sd=noise, **settings).methylation for noise in (sd, rms))
    assert relative_error(by_map, field.methylation) < 0.8 * relative_error(by_number, field.methylation)


def test_a_map_of_the_noise_of_another_shape_is_refused(truth):
    field = truth("known_0")
    with pytest.raises(ParameterError, match="shape"):
        regression(field.phi_h, field.phi_e, noise_sd=np.full((3, 3), 0.01), **field.settings)


def test_a_pattern_without_noise_is_not_believed_beyond_its_pixels(truth, check_errors):
    """At a seventh of the least noise assumed, widths disagreed, and intervals held a quarter of the pixels.

    Mean squares are .4 and .5: what is left is the grid's error, and of the noise that is assumed there is none.
    """
    state = truth("both_0")
    centre = (slice(60, 180),) * 2
    rates = cm.infer_rates(state.phi_h[centre], state.phi_e[centre], **state.settings, method="regression")
    assert rates.noise_sd == pytest.approx((0.0049, 0.0049))
    for found, true in ((rates.methylation, state.methylation), (rates.acetylation, state.acetylation)):
        off = (found.values - true[centre])[found.valid]
        check_errors(off, found.standard_error[found.valid], mean_square=(0.2, 2.0), covered=0.9)
        assert found.valid.mean() > 0.4


@pytest.mark.parametrize("dtype", [int, np.uint8, torch.int32])
def test_labels_of_two_nuclei_are_no_mask(dtype):
    labels = np.zeros((40, 40), np.int64)
    labels[5:15, 5:15], labels[20:35, 20:35] = 1, 2
    given = torch.as_tensor(labels).to(dtype) if isinstance(dtype, torch.dtype) else labels.astype(dtype)
    with pytest.raises(FieldError, match=r"mask=labels == 1 .*mask=labels > 0"):
        regression(GOOD, GOOD, pixel_size_um=0.04, mask=given)
    np.testing.assert_array_equal(as_mask(given == 2), labels == 2)
    np.testing.assert_array_equal(as_mask(255 * (given == 2)), labels == 2)
    np.testing.assert_array_equal(as_mask(0.3 * labels), labels > 0)


@pytest.mark.parametrize("fields", [{"phi_h": 2000.0, "phi_e": 900.0}, {"total": 2000.0}])
def test_intensities_are_told_from_noisy_volume_fractions(fields):
    rng = np.random.default_rng(0)
    images = {name: mean + 30.0 * rng.standard_normal((40, 40)) for name, mean in fields.items()}
    with pytest.raises(FieldError, match=r"averages .*calibrate intensities to volume fractions"):
        cm.infer_rates(**images, pixel_size_um=0.04)


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.1])
@pytest.mark.parametrize("name", ["both_0", "known_0", "uniform_0.5", "uniform_1.5", "walled_1"])
def test_marks_that_show_one_pattern_are_told_from_two_marks(truth, name, noise):
    state = truth(name)
    grid = Grid(state.phi_h.shape, (state.pixel_size_um,) * 2)
    phi_h, phi_e = (Field(v, grid, "1", state.mask) for v in state.noisy(noise, 0))
    (again,) = state.noisy(noise, 1)[:1]
    total = phi_e.like(again + state.phi_e)
    leaking = phi_h.like(phi_h.values + 0.3 * phi_e.values), phi_e.like(phi_e.values + 0.3 * phi_h.values)
    assert not marks_alike(phi_h, phi_e)
    assert not marks_alike(leaking[0], phi_e)
    assert not marks_alike(phi_h, leaking[1])
    assert not marks_alike(total, phi_e)
    assert marks_alike(phi_h, phi_h)
    assert marks_alike(phi_h, phi_h.like(again))
    assert marks_alike(total, phi_h)


def test_a_flag_says_that_two_marks_are_one(truth):
    state = truth("both_0")
    part = (slice(0, 96), slice(0, 96))
    phi_h, phi_e = (values[part] for values in state.noisy(0.05, 0))
    flags = [
        "marks_alike" in regression(*marks, **state.settings).flags
        for marks in ((phi_h, phi_e), (0.4 * phi_h, 0.4 * phi_h), (phi_h + phi_e, phi_h))
    ]
    assert flags == [False, True, True]
    assert "marks_alike" not in regression(phi_h, total=phi_h + phi_e, **state.settings).flags
