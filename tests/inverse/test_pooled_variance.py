"""Variances of few samples, pooled: unbiased, steadier, and right up to the border."""

import numpy as np
import pytest

from chromamol.inverse.pooled_variance import pooled_variance

SAMPLES = 8


@pytest.fixture(params=[(60, 70), (18, 20, 22)], ids=["2d", "3d"])
def disc(request):
    shape = request.param
    centred = np.ix_(*(np.linspace(-1.0, 1.0, n) for n in shape))
    return np.asarray(sum(c**2 for c in centred) < 0.9)


def sampled(variance, seed):
    """Mean squares of independent deviations."""
    deviations = np.random.default_rng(seed).standard_normal((SAMPLES, *variance.shape))
    return variance * np.mean(deviations**2, axis=0)


def test_a_constant_variance_is_found_without_bias(disc):
    pooled = pooled_variance(sampled(np.full(disc.shape, 4.0), 0), disc, (5.0,) * disc.ndim, SAMPLES)
    assert pooled[disc].mean() == pytest.approx(4.0, rel=0.02)
    assert pooled[disc].std() < 0.1 * sampled(np.full(disc.shape, 4.0), 0)[disc].std()
    assert (pooled[~disc] == 0.0).all()


def test_a_slope_of_the_logarithm_is_kept_to_the_border(disc):
    """Doubled within every width, and known exactly: nothing is left to be wrong but the pooling."""
    along = np.arange(disc.shape[0]).reshape(-1, *(1,) * (disc.ndim - 1)) / 5.0
    variance = np.broadcast_to(np.exp2(along), disc.shape)
    bias = np.exp(0.13017)  # ψ(4) - ln 4 = -0.13018, which eight samples have and exact numbers have not
    pooled = pooled_variance(variance, disc, (5.0,) * disc.ndim, SAMPLES)
    np.testing.assert_allclose(pooled[disc], bias * variance[disc], rtol=0.02)


def test_a_nucleus_narrower_than_the_neighbourhood_is_averaged():
    line = np.zeros((9, 40), bool)
    line[4] = True
    pooled = pooled_variance(sampled(np.ones(line.shape), 1), line, (30.0, 30.0), SAMPLES)
    np.testing.assert_allclose(pooled[line], 1.0, rtol=0.3)
