"""Nuclei in a cloud of points: where they were drawn from."""

import numpy as np
import pytest
from scipy import ndimage

from chromamol.errors import FieldError, ImageContentError
from chromamol.nucleus import outline_localizations


def cloud(rng, centre, radius, count):
    """Points of a disc, clustered as chromatin is: each about one of some centres."""

    def disc(n, r):
        angle, reach = rng.uniform(0, 2 * np.pi, n), r * np.sqrt(rng.random(n))
        return np.stack([centre[0] + reach * np.sin(angle), centre[1] + reach * np.cos(angle)])

    seeds = disc(1500, radius)
    clustered = seeds[:, rng.integers(seeds.shape[1], size=count // 2)]
    return np.concatenate(
        [disc(count - count // 2, radius), clustered + rng.normal(0, 0.03, clustered.shape)], 1
    )


def background(rng, count, side):
    return rng.uniform(0, side, (2, count))


def test_a_clustered_disc_has_its_outline():
    rng = np.random.default_rng(0)
    points = np.concatenate([cloud(rng, (12.0, 9.0), 4.0, 60_000), background(rng, 3000, 22.0)], axis=1)
    found = outline_localizations(points[1], points[0])
    assert found.labels.max() == 1
    y, x = (
        np.arange(n) * found.pixel_size_um + o
        for n, o in zip(found.labels.shape, found.origin_um, strict=True)
    )
    truth = (y[:, None] - 12) ** 2 + (x - 9) ** 2 <= 16
    shared = np.count_nonzero(truth & (found.labels == 1))
    assert 2 * shared / (truth.sum() + (found.labels == 1).sum()) > 0.97
    inside = (points[0] - 12) ** 2 + (points[1] - 9) ** 2 <= 16
    assert np.mean((found.nucleus == 1) == inside) > 0.98


def test_two_nuclei_that_touch_and_a_speck():
    rng = np.random.default_rng(1)
    speck = np.array([[20.0], [20.0]]) + rng.normal(0, 0.2, (2, 800))
    points = np.concatenate(
        [cloud(rng, (8.0, 6.0), 4.0, 40_000), cloud(rng, (8.0, 13.8), 4.0, 50_000), speck], 1
    )
    found = outline_localizations(points[1], points[0])
    assert found.labels.max() == 2
    areas = np.bincount(found.labels.ravel())[1:] * found.pixel_size_um**2
    np.testing.assert_allclose(areas, np.pi * 16, rtol=0.06)


def test_shift_moves_the_origin_alone():
    rng = np.random.default_rng(2)
    y, x = cloud(rng, (5.0, 5.0), 3.0, 20_000)
    here, there = outline_localizations(x, y), outline_localizations(x + 100.0, y - 40.0)
    np.testing.assert_allclose(np.subtract(there.origin_um, here.origin_um), (-40.0, 100.0))
    assert np.mean(here.nucleus == there.nucleus) > 0.999


def test_density_counts_every_localisation():
    rng = np.random.default_rng(3)
    y, x = cloud(rng, (5.0, 5.0), 3.0, 20_000)
    found = outline_localizations(x, y)
    assert found.density_per_um2.sum() * found.pixel_size_um**2 == pytest.approx(20_000, rel=1e-3)
    inner = ndimage.binary_erosion(found.labels == 1, iterations=12)
    assert found.density_per_um2[inner].mean() == pytest.approx(20_000 / (np.pi * 9), rel=0.05)


@pytest.mark.parametrize(
    ("x", "y", "error", "says"),
    [
        ([], [], FieldError, "0 x"),
        ([1.0], [1.0, 2.0], FieldError, "as many"),
        ([1.0, np.nan], [1.0, 2.0], FieldError, "finite"),
        ([0.0, 1e6], [0.0, 1e6], FieldError, "unit"),
        ([1.0, 1.01], [1.0, 1.01], ImageContentError, "No nucleus"),
    ],
)
def test_tables_without_nuclei_say_so(x, y, error, says):
    with pytest.raises(error, match=says):
        outline_localizations(np.array(x), np.array(y))
