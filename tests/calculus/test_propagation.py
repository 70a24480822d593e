"""Predicted variances and covariances against the scatter of repeated noise; the bias estimate."""

import numpy as np
import pytest
import torch

from chromamol.calculus.layer import MollifierLayer, laplacian, mollified_derivative
from chromamol.calculus.propagation import derivative_covariance, derivative_variance, estimate_bias
from chromamol.calculus.taps import build_taps
from chromamol.errors import FieldError

ORDERS = [(0, 0), laplacian(2), (1, 0)]
OPTIONS = {"spacing": (0.1, 0.2), "width": (0.55, 0.9)}


@pytest.mark.parametrize("isotropic", [False, True])
def test_covariance_is_what_repeated_noise_shows(isotropic):
    rng = np.random.default_rng(0)
    sd = 0.5 + rng.random((24, 20))
    layer = MollifierLayer(orders=ORDERS, border="valid", isotropic=isotropic, **OPTIONS)
    noise = torch.from_numpy(sd * rng.standard_normal((6000, 24, 20)))
    samples = layer(noise).numpy()
    predicted = derivative_covariance(sd**2, ORDERS, border="valid", isotropic=isotropic, **OPTIONS)
    scale = np.sqrt(np.einsum("iiyx->iyx", predicted))
    measured = np.einsum("niyx,njyx->ijyx", samples, samples) / len(samples)
    # 6000 draws give each correlation to 0.013; 0.08 is six of that.
    assert np.abs((measured - predicted) / (scale[:, None] * scale[None, :])).max() < 0.08


def test_uniform_noise_gives_the_noise_gain():
    taps = build_taps("polynomial", (2, 1), half_width=(0.55, 0.9), spacing=(0.1, 0.2))
    variance = derivative_variance(0.04, (2, 1), **OPTIONS)
    assert variance == pytest.approx((0.2 * taps.noise_gain) ** 2, rel=1e-12)
    everywhere = derivative_variance(np.full((30, 30), 0.04), (2, 1), border="periodic", **OPTIONS)
    np.testing.assert_allclose(everywhere, variance, rtol=1e-12)


def test_odd_and_even_derivatives_of_uniform_noise_are_uncorrelated():
    covariance = derivative_covariance(1.0, [(0, 0), (1, 0), (2, 0)], **OPTIONS)
    sd = np.sqrt(np.diag(covariance))
    assert abs(covariance[0, 1]) < 1e-12 * sd[0] * sd[1]
    assert covariance[0, 2] < -0.1 * sd[0] * sd[2]


def test_bias_is_estimated_to_leading_order():
    x = np.arange(256) * (2 * np.pi / 256)
    field = np.sin(3 * x)
    options = {"spacing": 2 * np.pi / 256, "width": 0.25, "border": "periodic"}
    bias = mollified_derivative(field, 2, **options) + 9 * field
    estimate = estimate_bias(field, 2, **options)
    np.testing.assert_allclose(estimate, bias, rtol=0, atol=0.05 * np.abs(bias).max())


def test_bad_variance_and_ratio_are_field_errors():
    for bad in (-1.0, np.nan):
        with pytest.raises(FieldError, match=">= 0"):
            derivative_variance(np.full((30, 30), bad), (2, 0), **OPTIONS)
    with pytest.raises(FieldError, match=">= 0"):
        derivative_variance(np.ma.masked_array(np.ones((30, 30)), np.eye(30)), (2, 0), **OPTIONS)
    with pytest.raises(FieldError, match="narrower"):
        estimate_bias(np.ones((30, 30)), (2, 0), narrower=1.0, **OPTIONS)
