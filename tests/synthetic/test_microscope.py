"""The synthetic microscope: light is conserved, noise has its statistics, geometry is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, label

from chromamol.errors import FieldError, ParameterError
from chromamol.synthetic.microscope import Microscope, bin_pixels, blur, illumination, nearest_cell, resample
from chromamol.synthetic.rates import log_normal_rate
from chromamol.synthetic.scene import PlacedNucleus, place, scatter, touch
from chromamol.synthetic.shapes import nucleus_mask, outline, thickness
from chromamol.synthetic.timelapse import film


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


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"density": np.full((20, 20), np.nan)}, FieldError, "NaN or infinite"),
        ({"density": np.full(20, 0.5)}, ParameterError, "one cell size per axis"),
        ({"pixel_size_um": (0.1,)}, ParameterError, "one cell size per axis"),
        ({"pixel_size_um": (0.0, 0.1)}, ParameterError, "one cell size per axis"),
        ({"psf_sigma_um": (0.3, 0.1, 0.1)}, ParameterError, "one number, or 2"),
        ({"binning": 50}, ParameterError, "from 1 pixel to the whole array"),
        ({"counts_per_fraction": 1e30}, FieldError, "at most 65535"),
    ],
)
def test_what_no_camera_could_take_is_refused(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = {"density": np.full((20, 20), 0.5), "pixel_size_um": (0.1, 0.1)} | change
    microscope = Microscope(**{n: v for n, v in given.items() if n not in ("density", "pixel_size_um")})
    with pytest.raises(error, match=message):
        microscope.image(given["density"], given["pixel_size_um"], rng=np.random.default_rng(0))


def test_means_that_are_no_counts_are_refused() -> None:
    for mean in (np.nan, np.inf, -1.0):
        with pytest.raises(FieldError, match="Mean counts"):
            Microscope().exposed(np.full((4, 4), mean), rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    "bad",
    [
        {"psf_sigma_um": -0.1},
        {"counts_per_fraction": 0.0},
        {"counts_per_fraction": float("inf")},
        {"unevenness": 1.0},
    ],
)
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


def test_a_pixel_collects_what_falls_on_its_area() -> None:
    """Pixels of 2.5 cells: two whole cells and half of the next, or of the one before."""
    density = np.broadcast_to(np.arange(10.0), (4, 10))
    out = resample(density, (0.1, 0.1), (0.1, 0.25))
    expected = [(0 + 1 + 0.5 * 2), (0.5 * 2 + 3 + 4), (5 + 6 + 0.5 * 7), (0.5 * 7 + 8 + 9)]
    np.testing.assert_allclose(out, np.broadcast_to(np.array(expected) / 2.5, (4, 4)))


@pytest.mark.parametrize("pixel", [0.03, 0.07, 0.4])
def test_resampling_stays_in_the_range_of_the_density(pixel: float) -> None:
    density = np.zeros((6, 40))
    density[:, 17:19] = 1.0
    out = resample(density, (0.1, 0.1), (0.1, pixel))
    assert out.min() >= 0.0
    assert out.max() <= 1.0
    assert nearest_cell(density, (0.1, 0.1), (0.1, pixel)).shape == out.shape


def test_a_hole_holds_nothing_after_resampling() -> None:
    """Sums over .7 and back left -4e-15 in a nucleolus, and no microscope takes less than nothing."""
    density = 0.7 * np.random.default_rng(0).random((60, 60))
    density[20:40, 20:40] = 0.0
    out = resample(density, (0.0245, 0.0245), (0.03, 0.03))
    assert out.min() == 0.0
    assert out.max() <= density.max()


def test_binning_is_the_camera_and_keeps_the_light() -> None:
    fine = blur(spot(), (0.05, 0.05), 0.1)
    binned = Microscope(psf_sigma_um=0.0, binning=2).expected(fine[:40, :40], (0.05, 0.05))
    assert binned.shape == (20, 20)
    whole = Microscope(psf_sigma_um=0.0).expected(fine[:40, :40], (0.05, 0.05))
    assert 4.0 * binned.sum() == pytest.approx(whole.sum())


def test_planes_of_a_stack_are_exposures_of_their_own() -> None:
    stack = np.zeros((3, 8, 8))
    stack[1] = 0.5
    counts = Microscope(psf_sigma_um=(0.0, 0.1, 0.1), binning=2).image(
        stack, (0.3, 0.1, 0.1), rng=np.random.default_rng(0)
    )
    assert counts.shape == (3, 4, 4)
    assert counts[1].mean() > counts[0].mean() + 400.0


def test_two_stains_have_their_gains_and_their_crosstalk() -> None:
    dense, light = np.full((40, 40), 0.4), np.full((40, 40), 0.1)
    microscope = Microscope(psf_sigma_um=0.0, counts_per_fraction=1000.0, offset=0.0, read_noise=0.0)
    seen = microscope.channels(
        [dense, light], (0.1, 0.1), rng=np.random.default_rng(0), gains=(1.0, 2.0), crosstalk=0.1
    )
    assert seen[0].mean() == pytest.approx(400.0 + 0.1 * 200.0, abs=2.0)
    assert seen[1].mean() == pytest.approx(200.0 + 0.1 * 400.0, abs=2.0)
    with pytest.raises(ParameterError, match="one positive gain per stain"):
        microscope.channels([dense], (0.1, 0.1), rng=np.random.default_rng(0), gains=(1.0, 1.0))


def test_a_film_bleaches() -> None:
    frames = film(
        np.full((4, 30, 30), 0.5), Microscope(offset=0.0), pixel_size_um=(0.1, 0.1), bleaching=0.2,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    brightness = frames[:, 10:20, 10:20].mean((1, 2))
    np.testing.assert_allclose(brightness[1:] / brightness[:-1], 0.8, rtol=0.01)
    with pytest.raises(FieldError, match="put time first"):
        film(np.ones((5, 5)), Microscope(), pixel_size_um=(0.1, 0.1), rng=np.random.default_rng(0))
    with pytest.raises(ParameterError):
        film(np.ones((2, 5, 5)), Microscope(), pixel_size_um=(0.1, 0.1), bleaching=1.0,
             rng=np.random.default_rng(0))  # fmt: skip


@pytest.mark.parametrize("ndim", [2, 3])
def test_nucleoli_are_holes_inside_the_outline(ndim: int) -> None:
    spacing = (0.2, 0.2, 0.2)[3 - ndim :]
    mask = nucleus_mask(8.0, spacing, nucleoli=2, rng=np.random.default_rng(0))
    whole = outline(mask)
    holes, count = label(whole & ~mask)
    assert count == 2
    touching_the_wall = binary_dilation(holes > 0) & ~whole
    assert not touching_the_wall.any()


def test_nucleoli_that_find_no_room_are_refused() -> None:
    with pytest.raises(ParameterError, match="60 nucleoli"):
        nucleus_mask(8.0, (0.2, 0.2), nucleoli=60, rng=np.random.default_rng(0))


def test_scattered_nuclei_touch_in_pairs_and_lie_across_the_border() -> None:
    masks = [nucleus_mask(3.0, (0.1, 0.1), rng=np.random.default_rng(s)) for s in range(6)]
    corners = scatter(masks, (140, 140), touching=1, cut=1, rng=np.random.default_rng(0))
    scene = place([PlacedNucleus(1.0 * m, m, c) for m, c in zip(masks, corners, strict=True)], (140, 140))
    sizes = np.bincount(scene.labels.ravel(), minlength=7)[1:]
    assert [s == m.sum() for s, m in zip(sizes, masks, strict=True)] == [True] * 5 + [False]
    pieces, _ = label(scene.labels > 0)
    assert pieces[scene.labels == 1].max() == pieces[scene.labels == 2].max()
    others = [set(np.unique(pieces[scene.labels == n])) for n in (1, 3, 4, 5, 6)]
    assert all(not a & b for i, a in enumerate(others) for b in others[i + 1 :])


def test_a_field_without_room_is_refused() -> None:
    masks = [nucleus_mask(3.0, (0.1, 0.1), rng=np.random.default_rng(s)) for s in range(4)]
    with pytest.raises(FieldError, match="No free place"):
        scatter(masks, (45, 45), rng=np.random.default_rng(0))
    with pytest.raises(FieldError, match="3 touching pairs"):
        scatter(masks, (145, 145), touching=3, rng=np.random.default_rng(0))


def test_a_flat_nucleus_is_thick_in_the_middle_and_thin_at_the_wall() -> None:
    mask = nucleus_mask(6.0, (0.1, 0.1), rng=np.random.default_rng(0))
    height = thickness(mask, (0.1, 0.1), rim_um=1.0)
    assert height[mask].max() == 1.0
    assert height[~mask].max() == 0.0
    edge = mask & ~binary_erosion(mask)
    # one pixel from the wall of a quarter circle: √(1 - 0.9²)
    assert height[edge].max() == pytest.approx(np.sqrt(1.0 - 0.9**2), abs=0.15)
