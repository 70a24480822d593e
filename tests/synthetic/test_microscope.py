"""The synthetic microscope: light is conserved, noise has its statistics, geometry is kept."""

from __future__ import annotations

import numpy as np
import pytest

from chromamol.errors import FieldError, ParameterError
from chromamol.synthetic.microscope import Microscope, bin_pixels, blur, illumination, resample
from chromamol.synthetic.rates import log_normal_rate
from chromamol.synthetic.scene import PlacedNucleus, place, touch
from chromamol.synthetic.shapes import nucleus_mask


def spot() -> np.ndarray:
    image = np.zeros((41, 41))
    image[20, 20] = 1.0
    return image


def test_blur_keeps_light_and_has_the_stated_width() -> None:
    out = blur(spot(), (0.05, 0.05), 0.15)
    x = 0.05 * (np.arange(41) - 20)
    assert out.sum() == pytest.approx(1.0)
    assert np.sqrt((out.sum(0) * x**2).sum()) == pytest.approx(0.15, rel=0.01)


def test_blur_is_anisotropic_along_z() -> None:
    volume = np.zeros((21, 21, 21))
    volume[10, 10, 10] = 1.0
    out = blur(volume, (0.1, 0.1, 0.1), (0.2, 0.1, 0.1))
    z = 0.1 * (np.arange(21) - 10)
    assert np.sqrt((out.sum((1, 2)) * z**2).sum()) == pytest.approx(0.2, rel=0.02)
    assert np.sqrt((out.sum((0, 1)) * z**2).sum()) == pytest.approx(0.1, rel=0.02)


def test_counts_have_the_mean_and_variance_of_poisson_and_read_noise() -> None:
    microscope = Microscope(psf_sigma_um=0.0, counts_per_fraction=400.0, offset=100.0, read_noise=5.0)
    counts = microscope.image(np.full((200, 200), 0.5), (0.1, 0.1), rng=np.random.default_rng(0)).astype(
        float
    )
    assert counts.mean() == pytest.approx(300.0, abs=0.5)
    assert counts.var() == pytest.approx(200.0 + 25.0 + 1.0 / 12.0, rel=0.03)


def test_same_generator_same_image() -> None:
    images = [Microscope().image(spot(), (0.1, 0.1), rng=np.random.default_rng(4)) for _ in range(2)]
    assert np.array_equal(*images)


def test_overexposure_is_refused() -> None:
    with pytest.raises(FieldError, match="at most 65535"):
        Microscope(counts_per_fraction=1e6).image(
            np.full((20, 20), 0.5), (0.1, 0.1), rng=np.random.default_rng(0)
        )


def test_negative_density_is_refused() -> None:
    with pytest.raises(FieldError, match="goes down to -1"):
        blur(-spot(), (0.1, 0.1), 0.1)


@pytest.mark.parametrize("bad", [{"psf_sigma_um": -0.1}, {"counts_per_fraction": 0.0}, {"unevenness": 1.0}])
def test_impossible_microscopes_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ParameterError):
        Microscope(**bad)


def test_illumination_is_one_in_the_middle_and_falls_to_the_corners() -> None:
    field = illumination((11, 21), 0.3)
    assert field[5, 10] == 1.0
    assert field[0, 0] == pytest.approx(0.7)


def test_binning_averages_blocks() -> None:
    np.testing.assert_array_equal(bin_pixels(np.arange(20.0).reshape(4, 5), 2), [[3.0, 5.0], [13.0, 15.0]])


@pytest.mark.parametrize("pixel", [0.04, 0.1, 0.25])
def test_resampling_keeps_the_amount(pixel: float) -> None:
    density = blur(spot(), (0.1, 0.1), 0.3)
    out = resample(density, (0.1, 0.1), (pixel, pixel))
    assert out.sum() * pixel**2 == pytest.approx(density.sum() * 0.1**2)


def test_touching_nuclei_touch_and_do_not_overlap() -> None:
    left, right = (nucleus_mask(3.0, (0.1, 0.1), rng=np.random.default_rng(s)) for s in (0, 1))
    corner = touch(left, right, (5, 5))
    scene = place(
        [PlacedNucleus(1.0 * left, left, (5, 5)), PlacedNucleus(1.0 * right, right, corner)], (60, 100)
    )
    first, second = scene.labels == 1, scene.labels == 2
    assert first.sum() == left.sum()
    assert second.sum() == right.sum()
    assert (first[:, :-1] & second[:, 1:]).any()


def test_nucleus_is_cut_at_the_border_and_refused_beyond_it() -> None:
    mask = nucleus_mask(2.0, (0.1, 0.1), rng=np.random.default_rng(0))
    cut = place([PlacedNucleus(1.0 * mask, mask, (-10, 5))], (50, 50))
    assert 0 < (cut.labels == 1).sum() < mask.sum()
    with pytest.raises(FieldError, match="outside the field"):
        place([PlacedNucleus(1.0 * mask, mask, (60, 5))], (50, 50))


def test_overlap_is_refused() -> None:
    mask = nucleus_mask(2.0, (0.1, 0.1), rng=np.random.default_rng(0))
    with pytest.raises(FieldError, match="overlaps"):
        place([PlacedNucleus(1.0 * mask, mask, (5, 5)), PlacedNucleus(1.0 * mask, mask, (7, 7))], (50, 50))


@pytest.mark.parametrize("ndim", [2, 3])
def test_nucleus_has_the_stated_size_and_a_margin(ndim: int) -> None:
    mask = nucleus_mask(4.0, (0.1,) * ndim, roughness=0.0, rng=np.random.default_rng(0))
    expected = np.pi * 4.0 if ndim == 2 else 4.0 / 3.0 * np.pi * 2.0 * 2.0 * 1.0
    assert mask.sum() * 0.1**ndim == pytest.approx(expected, rel=0.02)
    assert not any(np.take(mask, i, axis=a).any() for a in range(ndim) for i in (0, 1, 2, -1, -2, -3))


def test_log_normal_rates_have_their_moments_and_correlation() -> None:
    rate = log_normal_rate(
        (256, 256), (0.1, 0.1), mean=0.8, log_sd=0.3, correlation_um=0.5, rng=np.random.default_rng(0)
    )
    z = np.log(rate / 0.8)
    assert z.mean() == pytest.approx(0.0, abs=1e-12)
    assert z.std() == pytest.approx(0.3)
    assert (z * np.roll(z, 5, 0)).mean() / z.var() == pytest.approx(np.exp(-0.5), abs=0.05)
