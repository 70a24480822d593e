"""Facts about the taps: exact moments, sizes, errors."""

import itertools
import math

import numpy as np
import pytest

from chromamol.calculus.kernels import KERNELS, PolynomialKernel, get_kernel
from chromamol.calculus.taps import build_taps, smallest_half_width, taps_1d, weak_taps
from chromamol.errors import KernelError

FAMILIES = sorted(KERNELS)


def moment_error(taps):
    """Largest moment error: relative to α! where that is the answer, and to Σ |w| max |x^β| where it is 0."""
    worst = 0.0
    for beta in itertools.product(range(taps.exact_degree + 1), repeat=len(taps.derivative)):
        if sum(beta) > taps.exact_degree:
            continue
        if beta == taps.derivative:
            factorial = math.prod(map(math.factorial, beta))
            worst = max(worst, abs(taps.moment(beta) / factorial - 1.0))
            continue
        reach = [max(n // 2, 1) * h for n, h in zip(taps.values.shape, taps.spacing, strict=True)]
        scale = np.abs(taps.values).sum() * math.prod(r**b for r, b in zip(reach, beta, strict=True))
        worst = max(worst, abs(taps.moment(beta)) / scale)
    return worst


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("derivative", range(7))
def test_monomials_are_exact_in_1d_on_every_support(name, derivative):
    smallest = smallest_half_width(name, (derivative,), spacing=(0.1,))[0]
    for width in (smallest, smallest + 0.07, 1.0, 2.05, 6.3):
        if width >= smallest:
            taps = build_taps(name, (derivative,), half_width=width, spacing=0.1)
            assert moment_error(taps) < 1e-9


@pytest.mark.parametrize("isotropic", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    "derivative", [(0, 0), (1, 0), (1, 1), (2, 2), (0, 4), (3, 3), (2, 4), (2, 0, 0), (2, 2, 2), (1, 2, 3)]
)
def test_monomials_are_exact_in_2d_and_3d(name, derivative, isotropic):
    spacing = (0.3, 0.1, 0.2)[: len(derivative)]
    smallest = smallest_half_width(name, derivative, spacing=spacing, isotropic=isotropic)
    for factor in (1.0, 1.7):
        width = tuple(factor * w for w in smallest)
        taps = build_taps(name, derivative, half_width=width, spacing=spacing, isotropic=isotropic)
        assert moment_error(taps) < 1e-9


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("order", [2, 4, 6])
def test_convergence_order_in_width_is_the_kernels_order(name, order, record_property):
    """The error on exp(x) falls as width^order."""
    errors = []
    for width in (1.6, 0.8):
        taps = taps_1d(name, 2, width, 0.01, order=order)
        n = taps.size // 2
        errors.append(abs(float(taps @ np.exp(np.arange(-n, n + 1) * 0.01)) - 1.0))
    rate = math.log2(errors[0] / errors[1])
    record_property("rate", rate)
    assert rate == pytest.approx(order, abs=0.15)


def test_the_narrowest_fourth_derivative_is_the_classic_stencil():
    np.testing.assert_allclose(taps_1d("polynomial", 4, 2.25, 1.0), [1, -4, 6, -4, 1], atol=1e-12)


def test_the_correction_shrinks_as_the_support_grows_and_is_reported():
    sizes = [build_taps("polynomial", (4,), half_width=w, spacing=1.0).correction for w in (5.5, 10.5, 20.5)]
    assert sizes[0] > 10 * sizes[1] > 100 * sizes[2] > 0


def test_a_naively_sampled_bump_would_be_wrong_at_order_4():
    """What the correction repairs: half of the bump's fourth-derivative taps at 21 pixels are correction."""
    assert build_taps("bump", (4,), half_width=11.0, spacing=1.0).correction > 0.3


@pytest.mark.parametrize("name", FAMILIES)
def test_taps_have_the_parity_of_the_derivative(name):
    for k in range(7):
        taps = taps_1d(name, k, 9.0, 1.0)
        np.testing.assert_allclose(taps, (-1) ** k * taps[::-1], rtol=0, atol=1e-12 * np.abs(taps).max())


def test_taps_scale_with_the_unit_of_length():
    np.testing.assert_allclose(
        taps_1d("polynomial", 4, 8.0, 1.0) * 10.0**4, taps_1d("polynomial", 4, 0.8, 0.1)
    )


def test_a_support_too_narrow_says_the_smallest_that_works():
    with pytest.raises(KernelError, match=r"at least \(0\.225,\)"):
        taps_1d("polynomial", 4, 0.15, 0.1)
    assert taps_1d("polynomial", 4, 0.225, 0.1).size == 5
    with pytest.raises(KernelError, match="at least"):
        build_taps("polynomial", (2, 2), half_width=1.0, spacing=1.0, isotropic=True)


@pytest.mark.parametrize(
    ("derivative", "width", "spacing"),
    [((7,), 9.0, 1.0), ((-1,), 9.0, 1.0), ((4, 4), 9.0, 1.0), ((1, 1, 1, 1), 9.0, 1.0),
     ((2,), -1.0, 1.0), ((2,), math.nan, 1.0), ((2,), 9.0, 0.0), ((2, 0), (9.0, 9.0, 9.0), 1.0)],
)  # fmt: skip
def test_bad_requests_are_kernel_errors(derivative, width, spacing):
    with pytest.raises(KernelError):
        build_taps("polynomial", derivative, half_width=width, spacing=spacing)


def test_unknown_kernels_and_parameters_are_kernel_errors():
    for bad in (
        lambda: get_kernel("box"),
        lambda: get_kernel(None),
        lambda: get_kernel("polynomial", order=4.0),
        lambda: get_kernel("polynomial", order="4"),
        lambda: PolynomialKernel(order=3),
        lambda: PolynomialKernel(power=0),
    ):
        with pytest.raises(KernelError):
            bad()


def test_taps_print_formula_support_moments_and_noise_gain():
    text = str(build_taps("vanishing", (2, 0), half_width=6.0, spacing=1.0))
    for part in ("(1 - r²)^8", "11, 11", "noise gain", "moments", "correction"):
        assert part in text


@pytest.mark.parametrize("between", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_weak_taps_obey_integration_by_parts_on_the_grid(name, between):
    taps = weak_taps(name, (0, 1, 2, 4), half_width=0.9, spacing=0.1, degree=9, between=between)
    assert taps[0].size == 17 + between
    x = (np.arange(taps[0].size) - 0.5 * (taps[0].size - 1)) * 0.1
    for degree in range(10):
        u = np.polynomial.Polynomial.basis(degree)
        for k in (1, 2, 4):
            difference = taps[k] @ u(x) - taps[0] @ u.deriv(k)(x)
            assert abs(difference) < 1e-9 * max(np.abs(taps[k]) @ np.abs(u(x)), 1e-300)


def test_weak_taps_on_too_narrow_a_support_say_so():
    with pytest.raises(KernelError, match="lower `degree`"):
        weak_taps("polynomial", (0, 4), half_width=3.5, spacing=1.0, degree=9)


def test_taps_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        taps_1d("polynomial", 2, 5.0, 1.0)[0] = 1.0
