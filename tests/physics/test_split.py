"""The one-channel split: exact where its constant is known, unique, and honest about its convention."""

import numpy as np
import pytest
import torch

import chromamol as cm
from chromamol.errors import FieldError
from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.physics.dark_level import noise_in_the_dark, percentile_at_noise
from chromamol.physics.free_energy import bulk_potential
from chromamol.physics.split import SPLIT_CONSTANT_SD, split_total

PARAMETERS = cm.ChromatinParameters(interface_length_um=0.03)
PIXEL = 0.0125


@pytest.fixture(scope="module")
def balanced():
    """φ_h with tanh interfaces, and the φ_e that the water balance then demands for C = 0.28."""
    n = 256
    y, x = np.mgrid[:n, :n] * PIXEL
    length = 2.0 * 0.03 / 0.7
    wave = np.sin(2 * np.pi * x / (n * PIXEL) * 2) * np.sin(2 * np.pi * y / (n * PIXEL) * 2)
    phi_h = 0.36 + 0.32 * np.tanh((wave - 0.4) / (2 * length))
    k = 2 * np.pi * np.fft.fftfreq(n, PIXEL)
    k2 = k[:, None] ** 2 + k[None, :] ** 2
    laplacian = np.fft.ifft2(-k2 * np.fft.fft2(phi_h)).real
    mu_h = bulk_potential(phi_h, 0.7) - 0.03**2 * laplacian
    # μ_e = φ_e - ℓ² Δφ_e = C - μ_h, solved in Fourier space.
    phi_e = np.fft.ifft2(np.fft.fft2(0.28 - mu_h) / (1 + 0.03**2 * k2)).real
    return phi_h, phi_e


def test_the_split_is_exact_when_its_constant_is_known(balanced):
    phi_h, phi_e = balanced
    found_h, found_e = cm.split_chromatin(
        phi_h + phi_e, pixel_size_um=PIXEL, parameters=PARAMETERS, noise_sd=0.0, split_constant=0.28
    )
    inside = (slice(8, -8),) * 2  # the pattern is periodic, the mollifier reflects
    assert np.linalg.norm((found_h - phi_h)[inside]) < 5e-4 * np.linalg.norm(phi_h[inside])
    assert np.linalg.norm((found_e - phi_e)[inside]) < 1e-3 * np.linalg.norm(phi_e[inside])


def test_the_split_conserves_the_total(balanced):
    total = sum(balanced)
    found_h, found_e = cm.split_chromatin(total, pixel_size_um=PIXEL, parameters=PARAMETERS, noise_sd=0.0)
    assert np.linalg.norm(found_h + found_e - total) < 2e-4 * np.linalg.norm(total)


def test_the_convention_puts_background_heterochromatin_at_its_level(balanced):
    split = split_total(Field(sum(balanced), Grid((256, 256), (PIXEL,) * 2), "1"), PARAMETERS, noise_sd=0.0)
    assert np.percentile(split.phi_h.values, 10) == pytest.approx(0.04, abs=0.01), "at the noise of the level"
    assert abs(split.constant - 0.28) < SPLIT_CONSTANT_SD


def test_noise_passes_the_split_as_its_response_says(balanced):
    total = Field(sum(balanced), Grid((256, 256), (PIXEL,) * 2), "1")
    kwargs = {"noise_sd": 0.004, "constant": 0.28}
    clean = split_total(total, PARAMETERS, **kwargs)
    rng = np.random.default_rng(0)
    draws = [
        split_total(total.like(total.values + 0.004 * rng.standard_normal((256, 256))), PARAMETERS, **kwargs)
        for _ in range(12)
    ]
    measured = np.std([d.phi_h.values - clean.phi_h.values for d in draws], axis=0)
    gain = np.prod([np.linalg.norm(taps) for taps in clean.smoothing])
    predicted = 0.004 * gain * clean.response_h
    assert np.median(measured / predicted) == pytest.approx(1.0, abs=0.1)


def test_outside_the_mask_nothing_is_said(balanced):
    mask = np.zeros((256, 256), dtype=bool)
    mask[40:200, 40:200] = True
    found_h, found_e = cm.split_chromatin(
        sum(balanced), pixel_size_um=PIXEL, parameters=PARAMETERS, mask=mask
    )
    assert np.isnan(found_h[~mask]).all()
    assert np.isfinite(found_e[mask]).all()


@pytest.mark.parametrize(
    "given",
    [
        lambda total, mask: (total, mask.astype(np.uint8), 0.0125),
        lambda total, mask: (total, mask.astype(float), np.array(0.0125)),
        lambda total, mask: (total.tolist(), mask.tolist(), (0.0125, 0.0125)),
        lambda total, mask: (
            torch.tensor(total, requires_grad=True),
            torch.tensor(mask),
            torch.tensor(0.0125, dtype=torch.float64),
        ),
    ],
    ids=["integers", "floats", "lists", "torch"],
)
def test_arrays_of_any_kind_are_split_alike(balanced, given):
    total, mask = sum(balanced)[:72, :80], np.zeros((72, 80), dtype=bool)
    mask[8:60, 6:70] = True
    wanted = cm.split_chromatin(total, pixel_size_um=PIXEL, mask=mask)
    values, inside, pixel = given(total, mask)
    for found, field in zip(
        cm.split_chromatin(values, pixel_size_um=pixel, mask=inside), wanted, strict=True
    ):
        np.testing.assert_array_equal(found, field)


def test_impossible_totals_are_counted_not_hidden():
    total = np.full((64, 64), 0.3)
    total[20:30, 20:30] = 2.5
    split = split_total(Field(total, Grid((64, 64), (0.04, 0.04)), "1"), PARAMETERS, noise_sd=0.0)
    block = 100 / 4096  # and a rim of two pixels, where the mollifier mixes in the block
    assert block <= split.unsplit_fraction <= 2 * block


@pytest.mark.parametrize("level", [1.4, -0.2])
def test_uncalibrated_totals_are_refused(level):
    with pytest.raises(FieldError, match=r"Expected: .* Do: "):
        cm.split_chromatin(np.full((64, 64), level), pixel_size_um=0.04)


def test_the_constant_does_not_fall_with_the_noise(balanced):
    field, rng = Field(sum(balanced), Grid((256, 256), (PIXEL,) * 2), "1"), np.random.default_rng(0)
    splits = [
        split_total(field.like(field.values + sd * rng.standard_normal((256, 256))), PARAMETERS, noise_sd=sd)
        for sd in (0.0, 0.02, 0.05, 0.1)
    ]
    ratios = [split.phi_h.values.mean() / split.phi_e.values.mean() for split in splits]
    assert max(ratios) < 1.03 * min(ratios), "a dim image has the ratio of a bright one"
    assert max(split.constant for split in splits) - min(split.constant for split in splits) < 0.003
    assert splits[1].constant_sd < splits[2].constant_sd < splits[3].constant_sd, (
        "what was added is uncertain"
    )


def test_a_given_constant_holds_no_error_of_noise(balanced):
    field = Field(sum(balanced), Grid((256, 256), (PIXEL,) * 2), "1")
    assert split_total(field, PARAMETERS, noise_sd=0.1, constant=0.28).constant_sd == 0.0


@pytest.mark.parametrize("noise", [0.0, 0.004, 0.02, 0.04])
def test_a_percentile_is_that_at_the_wanted_noise(noise):
    rng = np.random.default_rng(0)
    true = np.concatenate([rng.normal(0.3, 0.01, 30000), rng.normal(0.9, 0.01, 10000)])
    wanted = np.percentile(true + 0.01 * rng.standard_normal(40000), 10.0)
    noisy = true + noise * rng.standard_normal(40000)
    found = percentile_at_noise(noisy, 10.0, noise_sd=noise, wanted_sd=0.01)
    assert found == pytest.approx(wanted, abs=0.1 * max(noise, 0.01))


def test_a_hot_pixel_does_not_move_a_percentile():
    values = np.random.default_rng(0).choice([0.1, 0.6], 4000) + 0.02 * np.random.default_rng(
        1
    ).standard_normal(4000)
    plain, hot = (
        percentile_at_noise(np.append(values, each), 10.0, noise_sd=0.02, wanted_sd=0.01)
        for each in (0.6, 300.0)
    )
    assert hot == pytest.approx(plain, abs=1e-4)


def test_counted_light_is_less_noisy_in_the_dark():
    light = np.where(np.arange(200) < 120, 0.25, 1.0) * np.ones((200, 200))
    noise = 0.05 * np.random.default_rng(0).standard_normal((200, 200))
    mask = np.ones((200, 200), dtype=bool)
    assert noise_in_the_dark(light + noise, light, mask) == pytest.approx(1.0, abs=0.02)
    assert noise_in_the_dark(light + noise * np.sqrt(light), light, mask) < 0.8
