"""Histogram and spectrum of a texture: the variance, the wave and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from chromamol.errors import FieldError
from chromamol.synthetic.appearance import intensity_histogram, radial_spectrum


def disc(pixels: int = 200) -> np.ndarray:
    y, x = np.mgrid[:pixels, :pixels] - pixels / 2
    return np.hypot(y, x) < 0.45 * pixels


def test_the_spectrum_of_a_wave_peaks_at_its_frequency_and_holds_its_variance() -> None:
    x = 0.05 * np.arange(200)
    image = np.broadcast_to(100.0 * (1.0 + 0.2 * np.cos(2.0 * np.pi * 3.0 * x)), (200, 200))
    spectrum = radial_spectrum(image, disc(), pixel_size_um=0.05, bins=40)
    assert spectrum.cycles_per_um[np.nanargmax(spectrum.power)] == pytest.approx(3.0, abs=0.25)
    ring = np.diff(np.linspace(0.0, 10.0, 41) ** 2) * np.pi
    assert np.nansum(spectrum.power * ring) == pytest.approx(0.5 * 0.2**2, rel=0.05)


def test_brightness_does_not_matter() -> None:
    image = np.random.default_rng(0).uniform(1.0, 2.0, (200, 200))
    one, ten = (radial_spectrum(f * image, disc(), pixel_size_um=0.1).power for f in (1.0, 10.0))
    np.testing.assert_allclose(one, ten, rtol=1e-9)


def test_an_even_nucleus_has_no_texture() -> None:
    spectrum = radial_spectrum(np.full((200, 200), 7.0), disc(), pixel_size_um=0.1)
    assert np.nanmax(spectrum.power) < 1e-20


def test_the_histogram_is_a_density_around_the_mean() -> None:
    image = np.random.default_rng(0).normal(50.0, 5.0, (200, 200))
    middle, density = intensity_histogram(image, disc())
    step = middle[1] - middle[0]
    assert density.sum() * step == pytest.approx(1.0)
    assert (middle * density).sum() * step == pytest.approx(1.0, abs=0.01)


def test_no_light_is_refused() -> None:
    with pytest.raises(FieldError, match="light inside the mask"):
        radial_spectrum(np.zeros((200, 200)), disc(), pixel_size_um=0.1)
    with pytest.raises(FieldError, match="one shape"):
        intensity_histogram(np.ones((20, 20)), disc())
