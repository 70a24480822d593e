"""A stack of one channel fades at its upper and lower planes, which are not the space between domains."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import chromamol as cm
from chromamol.calibrate import calibrate_nucleus
from chromamol.channels import choose_channels
from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse import inference
from chromamol.inverse.faded_edge import blurs_um
from chromamol.inverse.regression import balance_alone
from chromamol.io import Micrograph
from chromamol.nucleus import find_nuclei
from chromamol.nucleus_rates import Fractions, infer_nuclei, scale_sensitivity
from chromamol.physics.free_energy import bulk_potential
from chromamol.settings import Settings

CELL, STEP, ELL, CONSTANT = 0.09, 3, 0.036, 0.28


@pytest.fixture(scope="module")
def nucleus():
    """Balls of heterochromatin in an ellipsoid, φ_e by the water balance, on cubes a third as high as planes."""
    n = 64
    z, y, x = (np.arange(n) * CELL for _ in range(3))
    wave = sum(np.cos(2 * np.pi * 3 * u / (n * CELL)) for u in np.meshgrid(z, y, x, indexing="ij"))
    phi_h = 0.36 + 0.32 * np.tanh((wave - 1.1) / 0.6)
    k = 2 * np.pi * np.fft.fftfreq(n, CELL)
    k2 = k[:, None, None] ** 2 + k[None, :, None] ** 2 + k[None, None, :] ** 2
    laplacian = np.fft.ifftn(-k2 * np.fft.fftn(phi_h)).real
    mu_h = bulk_potential(phi_h, 0.7) - ELL**2 * laplacian
    phi_e = np.fft.ifftn(np.fft.fftn(CONSTANT - mu_h) / (1 + ELL**2 * k2)).real
    z, y, x = np.meshgrid(*[(np.arange(n) - 31.5) / s for s in (20, 26, 26)], indexing="ij")
    mask = z**2 + y**2 + x**2 < 1
    return phi_h * mask, phi_e * mask, mask


def seen(nucleus, sigmas_um, *, noise=0.015):
    """The stack through a Gaussian, its mask and its true ratio."""
    phi_h, phi_e, mask = nucleus
    light = gaussian_filter(phi_h + phi_e, np.array(sigmas_um) / CELL, mode="constant")[1::STEP]
    light = light + noise * np.random.default_rng(0).standard_normal(light.shape)
    return light, mask[1::STEP], phi_h.sum() / phi_e.sum()


def ratio_of(total, mask, **settings):
    return cm.infer_rates(
        total=total, mask=mask, pixel_size_um=(STEP * CELL, CELL, CELL), method="domains",
        parameters=cm.ChromatinParameters(interface_length_um=ELL), **settings,
    )  # fmt: skip


@pytest.mark.parametrize(("axial", "across"), [(0.3, 0.1), (0.1, 0.1), (0.0, 0.0)])
def test_the_axial_blur_is_what_the_stack_fades_over(nucleus, axial, across):
    total, mask, _ = seen(nucleus, (axial, across, across))
    found = blurs_um(Field(total, Grid(total.shape, (STEP * CELL, CELL, CELL)), "1", mask), across)
    assert found[1:] == (across, across)
    assert abs(found[0] - axial) < 0.12


def test_in_a_plane_the_blur_is_the_one_that_was_given():
    total = Field(np.full((20, 20), 0.5), Grid((20, 20), (0.1, 0.1)), "1")
    assert blurs_um(total, 0.12) == (0.12, 0.12)


@pytest.mark.parametrize("sigmas", [(0.3, 0.1, 0.1), (0.1, 0.1, 0.1), (0.0, 0.0, 0.0)])
def test_the_ratio_of_a_stack_is_that_of_what_did_not_fade(nucleus, sigmas):
    total, mask, true = seen(nucleus, sigmas)
    rates = ratio_of(total, mask, psf_sigma_um=sigmas[1])
    assert abs(rates.ratio / true - 1.0) < 0.12
    assert abs(rates.ratio - true) < 2.0 * rates.ratio_se


def test_what_a_wrong_scale_does_is_asked_of_the_ratio_in_the_table(nucleus, monkeypatch):
    """Without a doubt about the gain, the fading was divided out otherwise: .625 stood beside .667."""
    monkeypatch.setattr(inference, "regress", balance_alone)
    monkeypatch.setattr("chromamol.nucleus_rates.SCALE_CHANGES", {})
    spacing, settings = (STEP * CELL, CELL, CELL), Settings(psf_sigma_um=0.1, method="regression")
    light, mask, _ = seen(nucleus, (0.3, 0.1, 0.1))
    image, labels = 1000.0 * light + 100.0, mask.astype(np.int32)
    channels = choose_channels(Micrograph(image[None], ("0",), CELL, z_step_um=STEP * CELL), settings)
    (whole,) = find_nuclei(labels, image, spacing_um=spacing, margin_um=1.0)
    found = calibrate_nucleus(channels, labels, whole, spacing, settings)
    (rates,) = infer_nuclei([Fractions.of(whole, found)], spacing, settings)
    rows = scale_sensitivity([(whole, found, rates)], channels, labels, spacing, settings)
    assert rows[0]["change"] == "none"
    assert rows[0]["rate_ratio"] == pytest.approx(rates.ratio, rel=1e-9)
