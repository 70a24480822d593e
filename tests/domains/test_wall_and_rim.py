"""The wall of a nucleus and the layers on it, from molecules drawn of a disc whose wall and layers are known."""

import math

import numpy as np
import pytest
from scipy import ndimage

from chromamol.domains.rim import DEPTH_STEP, RimLevels, _alternating, layer_thickness, rewrite, rim_of
from chromamol.domains.wall import fit_wall, wall_along
from chromamol.grid import Grid

RADIUS_UM = 2.0
DOMAIN_UM = 0.1
LOW, HIGH = 1000.0, 3000.0
GRID = Grid((460, 460), (0.01, 0.01), (-2.3, -2.3))


def disc_molecules(rng, *, layer_um=0.0, low=LOW, high=HIGH, sector=math.pi):
    """Molecules in a disc about the origin: `high` per µm² in a layer on its wall, within an angle, else `low`."""
    count = rng.poisson(high * 4.0 * RADIUS_UM**2)
    y, x, keep = (
        rng.uniform(a, b, count) for a, b in ((-RADIUS_UM, RADIUS_UM), (-RADIUS_UM, RADIUS_UM), (0, 1))
    )
    from_centre = np.hypot(y, x)
    dense = (from_centre > RADIUS_UM - layer_um) & (np.abs(np.arctan2(y, x)) < sector)
    taken = (from_centre < RADIUS_UM) & (keep < np.where(dense, 1.0, low / high))
    return y[taken], x[taken]


def circle(points=1000, radius=RADIUS_UM):
    return wall_along(radius * np.exp(2j * np.pi * np.arange(points) / points))


def levels(**changed):
    given = {"low": LOW, "high": HIGH, "repeats": 1.0, "precision_um": 0.003, "interface_um": 0.0,
             "radius_um": DOMAIN_UM}  # fmt: skip
    return RimLevels(**{**given, **changed})


def rough_disc(rng):
    """The disc as a smoothed density shows it: an edge that is 30 nm off, here in, there out."""
    y, x = (o + h * np.arange(n) for o, h, n in zip(GRID.origin_um, GRID.spacing_um, GRID.shape, strict=True))
    noise = ndimage.gaussian_filter(rng.standard_normal(GRID.shape), 8.0)
    return np.hypot(y[:, None], x[None]) < RADIUS_UM + 0.03 * noise / noise.std()


@pytest.mark.parametrize(("low", "high"), [(300.0, 900.0), (LOW, HIGH)])
def test_the_wall_is_found_ten_times_better_than_the_edge_of_a_density(low, high):
    rng = np.random.default_rng(0)
    y, x = disc_molecules(rng, low=low, high=high, layer_um=0.05, sector=1.5)
    wall = fit_wall(rough_disc(rng), GRID, y, x, low=low, high=high, precision_um=0.003)
    off = np.abs(wall.points) - RADIUS_UM
    assert abs(off.mean()) < 0.005
    assert off.std() < 0.01
    assert (wall.inward * np.conj(-wall.points / np.abs(wall.points))).real.min() > 0.99


def test_a_thin_dense_layer_on_the_wall_does_not_push_it_outwards():
    """5,000 and 15,000 molecules per µm², a layer half as thick as the band that the wall is looked for in."""
    rng = np.random.default_rng(5)
    y, x = disc_molecules(rng, low=5000.0, high=15000.0, layer_um=0.06)
    y, x = y + 0.005 * rng.standard_normal(y.size), x + 0.005 * rng.standard_normal(x.size)
    wall = fit_wall(rough_disc(rng), GRID, y, x, low=5000.0, high=15000.0, precision_um=0.005)
    off = np.abs(wall.points) - RADIUS_UM
    assert abs(off.mean()) < 0.0005
    assert off.std() < 0.002


def test_false_localisations_outside_do_not_hold_the_wall():
    rng = np.random.default_rng(1)
    y, x = disc_molecules(rng)
    stray = rng.uniform(-2.3, 2.3, (2, 40))
    wall = fit_wall(rough_disc(rng), GRID, np.append(y, stray[0]), np.append(x, stray[1]), low=LOW, high=HIGH,
                    precision_um=0.003)  # fmt: skip
    assert np.abs(np.abs(wall.points) - RADIUS_UM).max() < 0.02


def test_a_nucleus_too_ragged_for_a_smooth_wall_has_none():
    y, x = (o + h * np.arange(n) for o, h, n in zip(GRID.origin_um, GRID.spacing_um, GRID.shape, strict=True))
    angle = np.arctan2(y[:, None], x[None])
    star = np.hypot(y[:, None], x[None]) < 1.5 + 0.5 * np.sin(25.0 * angle)
    some = np.random.default_rng(2).uniform(-1.0, 1.0, (2, 1000))
    assert fit_wall(star, GRID, some[0], some[1], low=LOW, high=HIGH, precision_um=0.003) is None


def test_places_have_depths_and_none_beyond_reach():
    wall = circle()
    nearest, depth = wall.place(np.array([0.0, 0.0, 0.0]), np.array([1.9, 2.1, 0.0]), within_um=0.5)
    assert depth[:2] == pytest.approx([0.1, -0.1], abs=1e-4)
    assert math.isinf(depth[2])
    assert abs(wall.points[nearest[0]] - RADIUS_UM) < 0.01
    inside = wall.mask(GRID)
    assert np.count_nonzero(inside) * GRID.pixel_volume_um == pytest.approx(math.pi * RADIUS_UM**2, rel=0.002)


@pytest.mark.parametrize("layer_um", [0.04, 0.08, 0.15])
def test_a_layer_has_its_thickness(layer_um):
    y, x = disc_molecules(np.random.default_rng(3), layer_um=layer_um)
    rim = rim_of(circle(), y, x, radius_um=DOMAIN_UM, precision_um=0.003)
    assert rim.areas.sum() == pytest.approx(
        math.pi * ((RADIUS_UM + 0.01) ** 2 - (RADIUS_UM - 0.42) ** 2), rel=0.01
    )
    thickness = layer_thickness(rim, levels())
    assert thickness.mean() == pytest.approx(layer_um, rel=0.1)
    assert np.mean(thickness > 0.0) > 0.97


def test_a_layer_on_part_of_the_wall_keeps_thickness_and_share():
    y, x = disc_molecules(np.random.default_rng(4), layer_um=0.08, sector=1.0)
    rim = rim_of(circle(), y, x, radius_um=DOMAIN_UM, precision_um=0.003)
    thickness = layer_thickness(rim, levels())
    assert np.mean(thickness > 0.0) == pytest.approx(1.0 / math.pi, abs=0.03)
    assert thickness[thickness > 0.0].mean() == pytest.approx(0.08, rel=0.1)


def test_domains_near_the_wall_are_no_layer():
    """Sixteen domains 80 nm below the wall: what columns read from the wall stops before them."""
    rng = np.random.default_rng(5)
    y, x = disc_molecules(rng)
    disc = DOMAIN_UM * np.sqrt(rng.random(16 * 60)) * np.exp(2j * np.pi * rng.random(16 * 60))
    middle = (RADIUS_UM - 0.08 - DOMAIN_UM) * np.exp(2j * np.pi * np.repeat(np.arange(16), 60) / 16)
    more = disc + middle
    rim = rim_of(circle(), np.append(y, more.imag), np.append(x, more.real), radius_um=DOMAIN_UM,
                 precision_um=0.003)  # fmt: skip
    assert np.mean(layer_thickness(rim, levels()) > 0.0) < 0.05


def test_layers_take_the_place_of_what_smoothing_made_of_them():
    inside = circle().mask(GRID)
    depth = ndimage.distance_transform_edt(inside) * 0.01
    smeared = inside & (depth < 0.06)
    y, x = disc_molecules(np.random.default_rng(6), layer_um=0.04)
    rim = rim_of(circle(), y, x, radius_um=DOMAIN_UM, precision_um=0.003)
    thickness = np.full(len(rim.counts), 0.04)
    dense, layers = rewrite(smeared, inside, GRID, rim, thickness, radius_um=DOMAIN_UM)
    assert np.array_equal(dense, layers)
    assert depth[dense].max() == pytest.approx(0.04, abs=0.011)


def test_the_sum_over_where_domains_lie_is_that_over_all_paths():
    """Two cells: four paths, each with its likelihood and its chance, by hand."""
    low, high = np.array([[-1.0, -2.0]]), np.array([[-0.5, -0.3]])
    leave_low = DEPTH_STEP / 3.5
    by_hand = math.exp(-1.0) * (  # the first cell lies between domains
        (1 - leave_low) * math.exp(-2.0) + leave_low * math.exp(-0.3)
    )
    assert _alternating(low, high)[0, 0] == pytest.approx(math.log(by_hand))
