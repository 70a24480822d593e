"""Every baseline differentiates what it should; network derivatives agree with each other."""

import math

import numpy as np
import pytest
import torch

from chromamol.calculus.baselines import (
    FiniteDifference,
    Mollified,
    NestedAutodiff,
    Samples,
    SavitzkyGolay,
    Spectral,
    TaylorMode,
)
from chromamol.calculus.kernels import VanishingMomentKernel
from chromamol.calculus.layer import bilaplacian, laplacian
from chromamol.calculus.taylor import directions_for
from chromamol.errors import FieldError, KernelError

TERMS = [laplacian(2), bilaplacian(2), {(1, 0): 1.0}, {(2, 2): 1.0, (0, 0): 0.5}, {(1, 3): 2.0, (4, 0): 1.0}]


def polynomial(points):
    y, x = points[:, 0], points[:, 1]
    return y**3 * x**2 + y**4 - x * y


def exact_polynomial(samples, terms):
    y, x = samples.coordinates().T
    table = {
        (2, 0): 6 * y * x**2 + 12 * y**2, (0, 2): 2 * y**3, (4, 0): 24 + 0 * y, (2, 2): 12 * y, (0, 4): 0 * y,
        (1, 0): 3 * y**2 * x**2 + 4 * y**3 - x, (0, 0): polynomial(samples.coordinates()), (1, 3): 0 * y,
    }  # fmt: skip
    return sum(f * table[a] for a, f in terms.items()).reshape(samples.shape)


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = [
        torch.nn.Linear(2, 16),
        torch.nn.Tanh(),
        torch.nn.Linear(16, 16),
        torch.nn.Tanh(),
        torch.nn.Linear(16, 1),
    ]
    return torch.nn.Sequential(*layers).double()


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize(
    "method",
    [
        FiniteDifference(4),
        SavitzkyGolay(4, 6),
        Mollified(0.45, VanishingMomentKernel(order=6)),
        NestedAutodiff(),
    ],
)
def test_polynomials(method, terms):
    samples = Samples((24, 26), (0.1, 0.1), function=polynomial, dtype=torch.float64)
    got, expected = method(samples, terms).detach(), exact_polynomial(samples, terms)
    inner = (slice(6, -6), slice(6, -6))
    np.testing.assert_allclose(got[inner].numpy(), expected[inner].numpy(), rtol=0, atol=2e-7)


@pytest.mark.parametrize("terms", TERMS)
def test_the_spectral_method_is_exact_for_periodic_fields(terms):
    samples = Samples(
        (32, 32), (2 * math.pi / 32,) * 2, function=lambda p: torch.sin(p[:, 0]) * torch.cos(2 * p[:, 1]),
        dtype=torch.float64,
    )  # fmt: skip
    expected = NestedAutodiff()(samples, terms).detach()
    torch.testing.assert_close(Spectral(periodic=True)(samples, terms), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("terms", TERMS)
def test_taylor_mode_agrees_with_nested_autodiff_gradients_included(network, terms):
    samples = Samples((5, 6), (0.2, 0.3), function=network, dtype=torch.float64)
    results, gradients = [], []
    for method in (NestedAutodiff(), TaylorMode()):
        network.zero_grad()
        value = method(samples, terms)
        value.square().sum().backward()
        results.append(value.detach())
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-9)
    for taylor, nested in zip(gradients[1], gradients[0], strict=False):
        torch.testing.assert_close(taylor, nested, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    "terms", [laplacian(3), bilaplacian(3), {(2, 1, 1): 1.0}, {(3, 3): 1.0}, {(6,): 1.0}]
)
def test_directions_reproduce_the_operator(terms):
    directions, weights = directions_for(terms)
    k = torch.randn(directions.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    symbol = sum(
        f * math.prod(float(a) ** p for a, p in zip(k, alpha, strict=True)) for alpha, f in terms.items()
    )
    order = sum(next(iter(terms)))
    assert float(weights @ (directions @ k) ** order) == pytest.approx(symbol, rel=1e-9)


def test_the_plane_bilaplacian_needs_three_directions():
    assert len(directions_for(bilaplacian(2))[0]) == 3


def test_finite_differences_converge_at_their_order():
    errors = []
    for h in (0.1, 0.05):
        samples = Samples((41,), (h,), function=lambda p: torch.sin(p[:, 0]), dtype=torch.float64)
        error = FiniteDifference(4)(samples, {(2,): 1.0}) + samples.values()
        errors.append(float(error[10:-10].abs().max()))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4.0, abs=0.3)


def test_methods_that_lack_what_they_need_say_so():
    measured = Samples((9, 9), (1.0, 1.0), measured=torch.ones(9, 9))
    for method in (NestedAutodiff(), TaylorMode()):
        with pytest.raises(FieldError, match="function"):
            method(measured, laplacian(2))
    formula = Samples((9, 9), (1.0, 1.0), function=polynomial)
    with pytest.raises(FieldError, match="Linear and Tanh"):
        TaylorMode()(formula, laplacian(2))
    with pytest.raises(FieldError, match="Linear and Tanh"):
        TaylorMode()(Samples((9, 9), (1.0, 1.0), function=torch.nn.Sequential(torch.nn.ReLU())), laplacian(2))
    with pytest.raises(KernelError, match="degree"):
        SavitzkyGolay(2, 3)(formula, bilaplacian(2))
