"""The smoothness of the joint fit's rates: a change of basis keeps the maps, and a step is that of the evidence."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from chromamol.inverse import joint_smoothness
from chromamol.inverse.joint_calibrated import NormalSolver
from chromamol.inverse.joint_linear import Linearisation
from chromamol.inverse.joint_setup import Guess, build_model, log_rate_basis, start
from chromamol.inverse.joint_smoothness import evidence_step, in_basis
from chromamol.inverse.joint_together import run_alone
from chromamol.inverse.log_rate_basis import LogRateBasis

TAU = 2e-3


def basis(length):
    return LogRateBasis((60, 48), (0.05, 0.05), length)


def test_slopes_are_the_derivatives_of_the_logarithms_of_the_prior_variances():
    def variances(log_sd, length):
        cosines = basis(0.6)
        share = np.exp(-0.5 * cosines.square_wavenumbers() * length**2).ravel()[1:]
        return np.log(log_sd**2 * share / share.sum())

    by_sd = (variances(0.3 * np.exp(1e-5), 0.6) - variances(0.3 * np.exp(-1e-5), 0.6)) / 2e-5
    by_length = (variances(0.3, 0.6 * np.exp(1e-5)) - variances(0.3, 0.6 * np.exp(-1e-5))) / 2e-5
    slopes = basis(0.6).slopes().reshape(2, -1)
    np.testing.assert_allclose(slopes[:, 1:], [by_sd, by_length], atol=1e-8)
    assert (slopes[:, 0] == 0.0).all()


@pytest.mark.parametrize("length", [0.4, 0.62])
def test_another_basis_holds_the_same_map(length):
    old, new = basis(0.6), basis(length)
    rng = np.random.default_rng(0)
    coefficients = old.root(0.3) * rng.standard_normal(old.root(0.3).shape)

    def synthesised(cosines, values):
        first, second = cosines.tables((60, 48))
        return first.T @ values @ second

    before, after = synthesised(old, coefficients), synthesised(new, old.projected(coefficients, new))
    # What a longer length leaves out are waves of which the old one held little.
    assert np.std(after - before) < 0.1 * np.std(before)


@pytest.fixture(scope="module")
def begun(small_problem):
    problem, guess = small_problem().crop((slice(20, 52),) * 2), Guess(0.8, 1.0, 1.0, 0.3)
    model = build_model(problem, guess, device=torch.device("cpu"))
    return problem, guess, model, start(problem, model)


def random_modes(model, point, deviations):
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(point.modes.shape, generator=generator, dtype=torch.float64)
    return replace(point, modes=drawn * deviations * (model.root > 0.0))


def test_a_change_of_smoothness_keeps_the_rates(begun):
    problem, guess, model, point = begun
    point = random_modes(model, point, 1.0)
    old = log_rate_basis(problem, guess)
    shorter = log_rate_basis(problem, Guess(0.8, 1.0, 0.8, 0.4))
    changed, moved = in_basis(model, point, old, shorter, 0.4)
    inside = model.inside[0] > 0.0
    for before, after in zip(model.rates(point), changed.rates(moved), strict=True):
        change = torch.log(after / before)[0][inside]
        assert float(change.std()) < 0.1 * float(torch.log(before)[0][inside].std())
    assert float(changed.root.square().sum()) == pytest.approx(2 * 0.4**2)


def test_the_step_is_that_of_the_dense_evidence(begun, monkeypatch):
    """Slope and Fisher information from random signs, against those of the whole posterior covariance."""
    problem, guess, model, point = begun
    point = random_modes(model, point, 0.15)
    slopes = log_rate_basis(problem, guess).slopes()
    at = Linearisation.at(model, point, TAU)
    solver = NormalSolver.of(at, at, iterations=600, tolerance=1e-4, calibrate=True)
    waves = (model.root > 0.0).flatten().nonzero()[:, 0]
    units = torch.zeros((len(waves), model.root.numel()), dtype=torch.float64)
    units[torch.arange(len(waves)), waves] = 1.0
    right = replace(model.nothing(len(waves)), modes=units.reshape(-1, *model.root.shape[1:]))
    determined = np.eye(len(waves)) - solver(right).modes.flatten(1)[:, waves].numpy()
    modes = point.modes.flatten()[waves].numpy()
    bend = [np.tile(d.ravel(), 2)[waves] for d in slopes]
    signs = torch.randint(0, 2, (4, *model.root.shape[1:]), generator=torch.Generator().manual_seed(2))
    signs = 2.0 * signs.flatten(1)[:, waves].numpy() - 1.0

    def trace(matrix):
        return np.mean([n @ matrix @ n for n in signs])

    behind = np.array([0.2, -0.1])
    slope = [0.5 * (d @ modes**2 - trace(d[:, None] * determined)) for d in bend] - behind
    second = bend[1]
    across = determined @ determined
    information = np.array([
        [2.0 * trace(across), trace(across * second)],
        [trace(across * second), 0.5 * trace(second[:, None] * determined * second @ determined)],
    ])  # fmt: skip
    expected = np.linalg.solve(information + np.eye(2), slope)
    monkeypatch.setattr(joint_smoothness, "PROBES", 4)
    monkeypatch.setattr(joint_smoothness, "PROBE_TOLERANCE", 1e-4)
    monkeypatch.setattr(joint_smoothness, "LARGEST_STEP", 1e3)
    found = run_alone(evidence_step(model, point, TAU, slopes, behind=behind,
                                    generator=torch.Generator().manual_seed(2), inner=torch.float64))  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=5e-3)
    assert np.abs(expected).max() > 0.3
