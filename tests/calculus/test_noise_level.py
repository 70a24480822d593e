"""The noise level found in an image against the one put in."""

import numpy as np
import pytest
from scipy import ndimage

from chromamol.calculus.noise import estimate_noise_over_time, estimate_noise_sd, estimate_poisson_read
from chromamol.errors import FieldError


def interface_field(shape, width_px, scale_px, rng):
    """Two phases with tanh interfaces that are 1 to 2 pixels wide."""
    pattern = ndimage.gaussian_filter(rng.standard_normal(shape), scale_px, mode="wrap") > 0
    inside = ndimage.distance_transform_edt(pattern) - 0.5
    outside = ndimage.distance_transform_edt(~pattern) - 0.5
    distance = ndimage.gaussian_filter(np.where(pattern, inside, -outside), 0.7)
    return 0.5 + 0.5 * np.tanh(distance / width_px)


@pytest.mark.parametrize("shape", [(192, 192), (48, 48, 48)])
@pytest.mark.parametrize("width_px", [1.0, 2.0])
def test_noise_is_found_beside_sharp_interfaces(shape, width_px):
    rng = np.random.default_rng(1)
    clean = interface_field(shape, width_px, 3.5, rng)
    assert estimate_noise_sd(clean) < 0.01
    for sd in (0.01, 0.05, 0.1):
        noisy = clean + sd * rng.standard_normal(shape)
        assert estimate_noise_sd(noisy) == pytest.approx(sd, rel=0.1)


def test_noise_is_found_in_one_dimension():
    rng = np.random.default_rng(2)
    x = np.linspace(0, 20, 4000)
    assert estimate_noise_sd(np.sin(x) + 0.05 * rng.standard_normal(4000)) == pytest.approx(0.05, rel=0.1)


def test_only_the_mask_counts_and_nan_outside_is_allowed():
    rng = np.random.default_rng(3)
    values = 0.05 * rng.standard_normal((120, 120))
    values[:, 60:] *= 10
    mask = np.zeros((120, 120), dtype=bool)
    mask[10:110, 5:58] = True
    assert estimate_noise_sd(values, mask=mask) == pytest.approx(0.05, rel=0.1)
    values[~mask] = np.nan
    assert estimate_noise_sd(values, mask=mask) == pytest.approx(0.05, rel=0.1)
    assert estimate_noise_sd(values) == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("kind", [np.uint8, float])
def test_a_mask_of_numbers_is_the_same_mask(kind):
    rng = np.random.default_rng(6)
    frames = interface_field((90, 90), 1.5, 6, rng) + 0.05 * rng.standard_normal((5, 90, 90))
    mask = np.zeros((90, 90), dtype=bool)
    mask[20:80, 10:70] = True
    for estimate, values in (
        (estimate_noise_sd, frames[0]),
        (estimate_noise_over_time, frames),
        (estimate_poisson_read, frames[0]),
    ):
        np.testing.assert_array_equal(estimate(values, mask=mask.astype(kind)), estimate(values, mask=mask))


@pytest.mark.parametrize("shape", [(0, 30, 30), (1, 30, 30), (2, 30, 30), (30,)])
def test_noise_over_time_needs_a_second_difference(shape):
    with pytest.raises(FieldError, match="at least 3, time first"):
        estimate_noise_over_time(np.zeros(shape))


def test_gain_and_read_noise_of_a_camera():
    rng = np.random.default_rng(4)
    photons = 20 + 200 * interface_field((256, 256), 1.5, 6, rng)
    image = 2.5 * rng.poisson(photons) + 100 + rng.normal(0, 5, photons.shape)
    gain, b = estimate_poisson_read(image)
    assert gain == pytest.approx(2.5, rel=0.15)
    # variance at the middle of the range
    assert gain * 400 + b == pytest.approx(2.5 * 300 + 25, rel=0.1)


def test_white_noise_alone_has_no_gain_worth_the_name():
    rng = np.random.default_rng(5)
    image = 100 * interface_field((256, 256), 1.5, 6, rng) + rng.normal(0, 5, (256, 256))
    gain, b = estimate_poisson_read(image)
    assert gain * 50 + b == pytest.approx(25.0, rel=0.1)
    assert gain * 100 < 5


def test_too_few_pixels_is_an_error():
    with pytest.raises(FieldError, match="at least 30"):
        estimate_noise_sd(np.zeros((5, 5)))
    with pytest.raises(FieldError, match="one brightness"):
        estimate_poisson_read(np.ones((50, 50)))
