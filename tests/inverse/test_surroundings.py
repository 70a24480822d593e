"""Nothing around a nucleus changes its rates: neither how much of the image there is, nor what it holds."""

from dataclasses import replace

import numpy as np
import pytest

import chromamol as cm
from chromamol.errors import FieldError, ParameterError
from chromamol.inverse.joint_setup import last_tau
from chromamol.inverse.network_settings import NetworkSettings

SIDE = 44


@pytest.fixture(scope="module")
def disc(truth):
    """φ_h, φ_e and the mask of a disc, with one pixel beside it, and the settings of `infer_rates`."""
    state = truth("both_0")
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    mask = np.pad(y**2 + x**2 < 0.97, 1)
    cut = slice(60, 60 + SIDE)
    phi_h, phi_e = (np.pad(phi[cut, cut], 1) for phi in state.noisy(0.05, 0))
    return phi_h, phi_e, mask, state.settings


@pytest.fixture
def quick_network():
    return NetworkSettings(steps=3)


def both_maps(rates):
    return np.stack([rates.methylation.values, rates.acetylation.values])


def padded(values, margin, fill=0.0):
    return np.pad(values, margin, constant_values=fill)


@pytest.fixture
def fitted(monkeypatch):
    """Problems as they came to the joint fit, which takes seconds and hands back where it would start."""
    problems = []

    def joint_rates(problem, first, **_):
        yield from ()
        problems.append(problem)
        return replace(first, method="joint")

    monkeypatch.setattr("chromamol.inverse.inference.joint_rates", joint_rates)
    return problems


@pytest.mark.parametrize("method", ["regression", "auto", "network"])
def test_a_wider_image_gives_the_same_rates(disc, method, quick_network, fitted):
    """The wider one would be too large for `auto` to take the joint fit, if it asked for the size of the image."""
    phi_h, phi_e, mask, settings = disc
    known = 1.0 + np.linspace(-0.2, 0.2, mask.size).reshape(mask.shape)
    settings = settings | {"method": method, "noise_sd": 0.035, "network": quick_network}
    own = cm.infer_rates(phi_h, phi_e, mask=mask, known_acetylation_per_um2=known, **settings)
    margin = ((300, 2), (0, 500))
    wide = cm.infer_rates(
        padded(phi_h, margin, np.nan), padded(phi_e, margin, np.nan), mask=padded(mask, margin, fill=False),
        known_acetylation_per_um2=padded(known, margin, np.nan), **settings,
    )  # fmt: skip
    there = slice(300, -2), slice(0, -500)
    assert own.methylation.valid.any() or (method == "network" and np.isfinite(own.diagnostics["balance"]))
    np.testing.assert_equal(wide.diagnostics, own.diagnostics)
    assert own.method == wide.method == ("joint" if method == "auto" else method)
    if method == "auto":
        one, other = fitted
        for mine, its in zip(one.images, other.images, strict=True):
            np.testing.assert_array_equal(its.filled(), mine.filled())
    np.testing.assert_array_equal(both_maps(wide)[:, *there], both_maps(own))
    np.testing.assert_array_equal(wide.methylation.valid[there], own.methylation.valid)
    assert wide.methylation.valid.sum() == own.methylation.valid.sum()
    assert wide.phi_h.grid.shape == wide.methylation.values.shape == padded(mask, margin).shape
    assert (wide.ratio, wide.ratio_se, wide.outcome) == (own.ratio, own.ratio_se, own.outcome)


@pytest.mark.parametrize("beside", [0.0, np.nan, 3.0])
def test_noise_beside_the_nucleus_counts_for_nothing(disc, beside):
    """One channel takes the mean noise, which is that of the nucleus."""
    phi_h, phi_e, mask, settings = disc
    settings = settings | {"total": phi_h + phi_e, "mask": mask, "method": "regression"}
    level = cm.infer_rates(noise_sd=0.035, **settings)
    mapped = cm.infer_rates(noise_sd=np.where(mask, 0.035, beside), **settings)
    assert mapped.diagnostics["total_noise_sd"] == pytest.approx(0.035)
    np.testing.assert_allclose(both_maps(mapped), both_maps(level), rtol=1e-9)


def test_the_last_weight_of_the_balance_follows_the_noise_of_the_nucleus(small_problem):
    problem = small_problem()
    mapped = replace(problem, noise_sd=(np.where(problem.mask, 0.035, 0.5),) * 2)
    assert last_tau(mapped) == pytest.approx(last_tau(problem))


def test_a_rate_of_zero_everywhere_is_refused(disc):
    phi_h, phi_e, mask, settings = disc
    with pytest.raises(FieldError, match="a number > 0"):
        cm.infer_rates(phi_h, phi_e, mask=mask, known_acetylation_per_um2=0.0, **settings)


def test_a_known_rate_without_a_value_in_the_nucleus_is_refused(disc):
    phi_h, phi_e, mask, settings = disc
    known = np.where(mask, 1.0, np.nan)
    known[SIDE // 2, SIDE // 2] = np.nan
    with pytest.raises(FieldError, match="finite"):
        cm.infer_rates(phi_h, phi_e, mask=mask, known_acetylation_per_um2=known, **settings)


def test_pixel_sizes_of_other_axes_are_refused(disc):
    phi_h, phi_e, mask, settings = disc
    with pytest.raises(ParameterError, match="3 numbers for 2 axes"):
        cm.infer_rates(phi_h, phi_e, mask=mask, **settings | {"pixel_size_um": (0.04, 0.04, 0.1)})
