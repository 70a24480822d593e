"""Errors of the joint fit: samples of its posterior, pooled, and the exact errors of means."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from chromamol.inverse import joint_maps, joint_posterior
from chromamol.inverse.joint_fit import JointFit, cut
from chromamol.inverse.joint_linear import Linearisation
from chromamol.inverse.joint_posterior import posterior_of
from chromamol.inverse.joint_setup import Guess, build_model, start
from chromamol.inverse.joint_together import run_alone
from chromamol.inverse.pooled_variance import pooled_variance


def posterior(fit, count, *, seed=1, valid=None, inner=torch.float32, **settings):
    valid = fit.problem.mask if valid is None else valid
    return run_alone(posterior_of(fit.model, fit.point, fit.tau, valid=valid, count=count, inner=inner,
                                  generator=torch.Generator().manual_seed(seed), **settings))  # fmt: skip


def log_rate_samples(fit, count, **settings):
    return joint_maps._log_rate_deviations(fit, posterior(fit, count, **settings).own)


def not_begun(problem):
    """A fit that has not begun: enough for a posterior, which is linear."""
    guess = Guess(0.8, 1.0, 0.5, 0.3)
    model = build_model(problem, guess, device=torch.device("cpu"))
    return JointFit(problem, guess, model, start(problem, model), 2e-3, True, 0, torch.float32)


@pytest.fixture(scope="module")
def unbegun(small_problem):
    return not_begun(small_problem())


def test_few_samples_pooled_tell_the_errors_of_many(unbegun):
    fit = unbegun
    many = log_rate_samples(fit, 80)
    expected = np.sqrt(np.mean(many**2, axis=0))
    inside = fit.problem.mask
    width = [joint_maps.POOLING * fit.guess.correlation_um / h for h in fit.problem.grid.spacing_um]
    away = {False: [], True: []}
    for few in np.split(many, 10):
        for which, variance in enumerate(np.mean(few**2, axis=0)):
            for pooled in (False, True):
                error = np.sqrt(pooled_variance(variance, inside, width, 8) if pooled else variance)
                away[pooled].append((error / expected[which])[inside])
    scatter = {pooled: np.std(each, axis=0).mean() for pooled, each in away.items()}
    assert 0.2 < scatter[False] < 0.3  # one over the root of twice eight
    assert scatter[True] < 0.9 * scatter[False]  # the neighbourhood is half a correlation length wide
    assert np.mean(away[True]) == pytest.approx(1.0, abs=0.1)


def test_a_balance_that_holds_better_than_it_is_weighed_adds_less_to_the_errors(unbegun):
    fit = replace(unbegun, tau=0.02)
    loose, same, tight = (
        log_rate_samples(fit, 8, **settings)
        for settings in ({}, {"balance_error": 0.04}, {"balance_error": 0.002})
    )
    np.testing.assert_array_equal(loose, same)
    inside = fit.problem.mask
    assert np.mean(tight[..., inside] ** 2) < 0.9 * np.mean(loose[..., inside] ** 2)


def mean_deviations(fit, found, where):
    """(2, samples), relative, of the mean rates over `where`."""
    values = [cut(fit.problem, rate[0]) for rate in fit.model.rates(fit.point)]
    return joint_maps._of_means(values, joint_maps._log_rate_deviations(fit, found), [where, where])


@pytest.mark.parametrize("settings", [{}, {"balance_error": 3e-4}], ids=["as-weighed", "better-balance"])
def test_errors_of_means_are_exact_where_samples_scatter(small_problem, settings, monkeypatch):
    fit = not_begun(small_problem().crop((slice(14, 54),) * 2))
    valid = fit.problem.mask & (np.indices(fit.problem.grid.shape)[0] > 10)
    few = [posterior(fit, 8, seed=seed, valid=valid, **settings).own for seed in (2, 3)]
    first, second = (each @ each.T / 8 for each in (mean_deviations(fit, own, valid) for own in few))
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-3 * first.max())
    monkeypatch.setattr(joint_posterior, "_with_covariance", lambda samples, *_: samples)
    many = mean_deviations(fit, posterior(fit, 160, valid=valid, **settings).own, valid)
    covariance = many @ many.T / 160
    # The variance of 160 normal numbers scatters by 11 %, of eight by half.
    np.testing.assert_allclose(np.diag(covariance), np.diag(first), rtol=0.3)
    assert covariance[0, 1] == pytest.approx(first[0, 1], abs=0.3 * np.sqrt(first[0, 0] * first[1, 1]))
    plain = [np.mean(m**2, axis=1) for m in np.split(many, 20, axis=1)]
    assert np.std(np.log(plain), axis=0).min() > 0.3


def test_forms_of_approximate_solutions_err_by_the_product_of_their_errors(small_problem):
    fit = not_begun(small_problem().crop((slice(14, 54),) * 2))
    at = Linearisation.at(fit.model, fit.point, 0.05)
    generator = torch.Generator().manual_seed(0)

    def drawn(count, size):
        return fit.model.nothing(count).map(lambda a: size * torch.randn(a.shape, generator=generator).to(a))

    v, u, error_v, error_u = drawn(2, 1.0), drawn(3, 1.0), drawn(2, 0.02), drawn(3, 0.03)
    g, b = at.normal(v), at.normal(u)
    exact, product = (
        torch.stack([torch.cat([x.dot(y) for y in at.normal(right).split(1)]) for x in left.split(1)])
        for left, right in ((v, u), (error_v, error_u))
    )
    found = joint_posterior._form(at, v.map(torch.add, error_v), g, u.map(torch.add, error_u), b)
    torch.testing.assert_close(found - exact, -product, rtol=1e-6, atol=1e-9 * float(exact.abs().max()))
    assert float(product.abs().max()) < 2e-3 * float(exact.abs().max())


def test_samples_take_a_covariance_of_errors_that_are_nearly_the_same(small_problem):
    fit = not_begun(small_problem().crop((slice(14, 54),) * 2))
    slopes = joint_posterior._gradients(fit.model, fit.point, fit.problem.mask)
    generator = torch.Generator().manual_seed(0)
    samples = fit.model.nothing(8).map(lambda a: torch.randn(a.shape, generator=generator).to(a))
    same = torch.tensor([[1.0, 1.0], [1.0, 1.0 + 1e-9]], dtype=torch.float64)
    shifted = joint_posterior._with_covariance(samples, slopes, same)
    means = joint_posterior._flat(shifted) @ joint_posterior._flat(slopes).T
    torch.testing.assert_close(means.T @ means / 8, same, rtol=1e-6, atol=1e-6)
    # Nothing but the level of the rates has moved.
    assert torch.equal(shifted.modes, samples.modes)
    torch.testing.assert_close(shifted.scalars[:, 2:], samples.scalars[:, 2:])
    assert joint_posterior._with_covariance(samples, slopes, torch.nan * same) is samples


def test_a_rate_without_a_pixel_has_no_error_and_leaves_the_other_alone():
    deviations = np.ones((8, 2, 3)) * np.arange(8)[:, None, None]
    nowhere, here = np.zeros(3, bool), np.array([True, False, True])
    found = joint_maps._of_means([np.ones(3), np.array([1.0, 5.0, 2.0])], deviations, [nowhere, here])
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1], np.arange(8))
