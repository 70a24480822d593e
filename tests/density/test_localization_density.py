"""Density of localisations: normalised, right in mean, blinks joined, by a second method too."""

import numpy as np
import pytest

from chromamol.density import drop_duplicates, localization_density, merge_blinks
from chromamol.errors import ImageContentError, ParameterError
from chromamol.io import Localizations
from chromamol.nucleus import outlines_on_grid
from chromamol.pipeline import outline_localized_nuclei
from chromamol.settings import Settings

PRECISION_UM = 0.02


def scattered(count, *, seed=0, side_um=4.0, **columns):
    rng = np.random.default_rng(seed)
    x, y = side_um * rng.random((2, count))
    return Localizations(x, y, precision_um=np.full(count, PRECISION_UM), **columns)


def test_every_localisation_counts_once():
    table = scattered(500, z_um=np.random.default_rng(1).random(500))
    density = localization_density(table, pixel_size_um=0.02).density
    total = density.values.sum() * density.grid.pixel_volume_um
    assert total == pytest.approx(500, rel=2e-3), "the kernel is cut at 4 sigma"
    assert density.unit == "um^-2"


def test_one_localisation_is_a_gaussian_of_its_precision():
    x = np.concatenate([[2.0], np.tile([0.0, 4.0], 6)])
    y = np.concatenate([[2.0], np.repeat([0.0, 4.0], 6)])
    table = Localizations(x, y, precision_um=np.full(13, 0.1))
    counted = localization_density(table, pixel_size_um=0.01)
    rows, columns = (o + h * np.arange(n) for o, h, n in zip(counted.density.grid.origin_um, (0.01, 0.01),
                                                            counted.density.grid.shape, strict=True))  # fmt: skip
    r2 = (rows[:, None] - 2.0) ** 2 + (columns[None] - 2.0) ** 2
    near = r2 < 0.3**2
    exact = np.exp(-r2 / (2 * 0.1**2)) / (2 * np.pi * 0.1**2)
    # Cut at 4 sigma per axis, and placed to half a pixel.
    np.testing.assert_allclose(counted.density.values[near], exact[near], atol=0.04 * exact.max())


def test_kernel_and_voronoi_agree_on_a_flat_density_and_open_cells_are_not_valid():
    table = scattered(20_000)
    voronoi = localization_density(table, pixel_size_um=0.05, method="voronoi").density
    grid = voronoi.grid
    rows, columns = (
        o + h * np.arange(n) for o, h, n in zip(grid.origin_um, grid.spacing_um, grid.shape, strict=True)
    )
    inside = ((rows > 0.2) & (rows < 3.8))[:, None] & ((columns > 0.2) & (columns < 3.8))[None]
    assert voronoi.mask[inside].all()
    assert not voronoi.mask[0].any(), "beyond the localisations there is no cell with an end"
    # Each cell holds one localisation: over the area the mean is the count, the harmonic mean lies below.
    assert voronoi.values[inside].mean() == pytest.approx(20_000 / 16, rel=0.03)
    assert 1.0 / np.mean(1.0 / voronoi.values[inside]) < 0.9 * 20_000 / 16
    kernel = localization_density(table, pixel_size_um=0.05).density
    assert kernel.values[inside].mean() == pytest.approx(20_000 / 16, rel=0.02)


def test_blinks_are_joined_and_neighbours_are_not():
    x = np.array([1.0, 1.01, 1.02, 3.0, 3.0, 1.0])
    frame = np.array([5, 6, 8, 5, 20, 9000])
    table = Localizations(x, np.ones(6), frame=frame, precision_um=np.full(6, 0.01), intensity=np.arange(6.0))
    merged = merge_blinks(table, distance_um=0.03, dark_frames=1)
    assert sorted(merged.x_um.tolist()) == pytest.approx([1.0, 1.01, 3.0, 3.0])
    chain = int(np.argmin(np.abs(merged.x_um - 1.01)))
    assert merged.frame[chain] == 5
    assert merged.intensity[chain] == pytest.approx(0 + 1 + 2)
    assert merged.precision_um[chain] == pytest.approx(0.01 / np.sqrt(3))
    assert len(merge_blinks(table, distance_um=0.03, dark_frames=0)) == 5, "frame 7 is dark"
    assert len(merge_blinks(table, distance_um=0.0)) == 6


def test_two_molecules_of_one_frame_are_never_one():
    table = Localizations(
        np.array([1.0, 1.001]), np.ones(2), frame=np.array([3, 3]), precision_um=np.full(2, 0.01)
    )
    assert len(merge_blinks(table)) == 2


def test_merging_finds_the_number_of_molecules_of_a_simulation():
    rng = np.random.default_rng(4)
    place = 8.0 * rng.random((2, 3000))
    start, lasts = rng.integers(1, 20_000, 3000), rng.integers(1, 6, 3000)
    molecule = np.repeat(np.arange(3000), lasts)
    frame = np.concatenate([s + np.arange(n) for s, n in zip(start, lasts, strict=True)])
    seen = place[:, molecule] + PRECISION_UM * rng.standard_normal((2, molecule.size))
    order = rng.permutation(molecule.size)
    table = Localizations(seen[0][order], seen[1][order], frame=frame[order],
                          precision_um=np.full(molecule.size, PRECISION_UM))  # fmt: skip
    merged = merge_blinks(table)
    assert len(merged) == pytest.approx(3000, rel=0.06)
    assert len(merged) < 0.4 * len(table)


def test_duplicates_go_and_the_rest_stays():
    table = scattered(100, frame=np.arange(100))
    twice = table.select(np.concatenate([np.arange(100), [3, 3, 60]]))
    single = drop_duplicates(twice)
    assert len(single) == 100
    assert "3 exact duplicates" in single.notes[-1]
    np.testing.assert_array_equal(np.sort(single.x_um), np.sort(table.x_um))
    assert drop_duplicates(table) is table


def test_the_frame_is_as_wide_as_asked_in_the_plane_and_leaves_the_density_as_it_was():
    table = scattered(500)
    narrow = localization_density(table, pixel_size_um=0.05)
    wide = localization_density(table, pixel_size_um=0.05, margin_um=1.1)
    origin = np.array(wide.density.grid.origin_um)
    np.testing.assert_allclose(origin, [table.y_um.min() - 1.1, table.x_um.min() - 1.1])
    assert all(o > w for o, w in zip(narrow.density.grid.origin_um, origin, strict=True))
    volume = 0.05**2
    assert wide.density.values.sum() * volume == pytest.approx(len(table), rel=1e-3)


def test_a_whole_nucleus_of_sparse_localisations_does_not_touch_the_border():
    rng = np.random.default_rng(4)
    radius, angle = 2.5 * np.sqrt(rng.random(1000)), 2 * np.pi * rng.random(1000)
    x, y = 1.15 * radius * np.cos(angle), radius * np.sin(angle)
    table = Localizations(x, y, precision_um=np.full(x.size, 0.005))
    (row,) = outline_localized_nuclei(table, Settings(density_pixel_um=0.02)).rows
    assert row["flags"] == ""
    assert row["area_um2"] == pytest.approx(1.15 * np.pi * 2.5**2, rel=0.05)


def test_a_nucleus_is_outlined_to_its_size():
    rng = np.random.default_rng(2)
    radius, angle = 4.0 * np.sqrt(rng.random(60_000)), 2 * np.pi * rng.random(60_000)
    stray = 14.0 * rng.random((2, 1500))
    x = np.concatenate([7.0 + radius * np.cos(angle), stray[0]])
    y = np.concatenate([7.0 + radius * np.sin(angle), stray[1]])
    table = Localizations(x, y, precision_um=np.full(x.size, PRECISION_UM))
    grid = localization_density(table, pixel_size_um=0.05).density.grid
    labels = outlines_on_grid(table, grid)
    assert labels.max() == 1
    rows, columns = (
        o + h * np.arange(n) for o, h, n in zip(grid.origin_um, grid.spacing_um, grid.shape, strict=True)
    )
    truth = (rows[:, None] - 7.0) ** 2 + (columns[None] - 7.0) ** 2 < 16.0
    dice = 2 * np.count_nonzero(truth & (labels > 0)) / (np.count_nonzero(truth) + np.count_nonzero(labels))
    assert dice > 0.97
    with pytest.raises(ImageContentError, match="no nucleus"):
        outlines_on_grid(table, grid, min_area_um2=500.0)


def test_few_or_collinear_points_and_wrong_methods_are_refused():
    with pytest.raises(ImageContentError, match="5 localisations"):
        localization_density(scattered(5))
    with pytest.raises(ImageContentError, match="on one line"):
        localization_density(Localizations(np.arange(20.0), np.ones(20)))
    with pytest.raises(ParameterError, match="voronoi"):
        localization_density(scattered(50), method="histogram")


def test_unknown_precision_is_assumed_and_said():
    table = Localizations(*np.random.default_rng(0).random((2, 50)))
    assert "20 nm assumed" in localization_density(table).notes[0]


@pytest.mark.parametrize("pixel_um", [0.01, 0.3])
def test_the_stated_blur_is_that_of_a_place(pixel_um):
    """How far the density lies from where the molecules are, be its pixels finer or coarser than the precision."""
    rng = np.random.default_rng(0)
    spread = []
    for place in 2.0 + pixel_um * np.linspace(0.0, 1.0, 16, endpoint=False):  # anywhere in a pixel
        x = np.append(place + PRECISION_UM * rng.standard_normal(2000), [0.0, 4.0])
        table = Localizations(
            x, np.append(np.full(2000, 2.0), [0.0, 4.0]), precision_um=np.full(x.size, PRECISION_UM)
        )
        counted = localization_density(table, pixel_size_um=pixel_um)
        centres = counted.density.grid.origin_um[1] + pixel_um * np.arange(counted.density.grid.shape[1])
        near = np.abs(centres - place) < 1.5
        profile = counted.density.values.sum(axis=0)[near]
        spread.append(np.average((centres[near] - place) ** 2, weights=profile))
    assert np.sqrt(np.mean(spread)) == pytest.approx(counted.blur_um, rel=0.03)
