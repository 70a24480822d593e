"""The ratio of the rates from the densities of both phases, in tables whose levels are known."""

import math

import numpy as np
import pytest

from chromamol.domains import Counted, PhaseRatio, phase_ratio
from chromamol.domains.two_phases import CORE_STEP, CORE_STEP_HETEROCHROMATIN, THIN_HETEROCHROMATIN
from chromamol.grid import Grid

PIXEL_UM, RADIUS_UM = 0.02, 0.15
LOW, HIGH = 0.30, 0.30 + CORE_STEP


def drawn(per_um2, times, rng):
    """Return a nucleus of 2.4 µm with discs of known volume fractions, its molecules, and its sightings."""
    y, x = (np.indices((140, 140)) - 69.5) * PIXEL_UM
    mask = np.hypot(y, x) < 1.2
    spacing = 4.0 * RADIUS_UM
    dense = np.hypot(y - spacing * np.rint(y / spacing), x - spacing * np.rint(x / spacing)) < RADIUS_UM
    total = np.where(mask, np.where(dense, HIGH, LOW), 0.0)
    labels = rng.poisson(total * per_um2 * PIXEL_UM**2)
    cells = np.argwhere(labels > 0).repeat(labels[labels > 0], axis=0)
    places = (cells + rng.random(cells.shape) - 0.5) * PIXEL_UM
    seen = places.repeat(rng.geometric(1.0 / times, len(places)), axis=0)
    points = [Counted(p[:, 0], p[:, 1], repeats) for p, repeats in ((places, 1.0), (seen, 2.0 * times - 1.0))]
    phi_h = THIN_HETEROCHROMATIN + CORE_STEP_HETEROCHROMATIN * float(dense[mask].mean())
    true = phi_h / (float(total[mask].mean()) - phi_h)
    return points, mask, Grid(mask.shape, (PIXEL_UM, PIXEL_UM)), true


@pytest.mark.parametrize(("per_um2", "kernel_um"), [(1_000.0, 0.045), (6_000.0, 0.025)])
def test_the_ratio_is_that_of_the_levels_drawn(per_um2, kernel_um):
    """The raw levels are up to 10 % off; their scatter and bias are drawn."""
    logs, errors = [], []
    for seed in range(2):
        (molecules, seen), mask, grid, true = drawn(per_um2, 2.0, np.random.default_rng(seed))
        found = phase_ratio(
            molecules, seen, mask, grid, radius_um=RADIUS_UM, kernel_um=kernel_um, blur_um=0.0
        )
        logs.append(math.log(found.ratio / true))
        errors.append(found.log_se)
    assert np.all(np.abs(logs) < 2.0 * np.array(errors) + 0.03), (logs, errors)
    assert np.mean(errors) < 0.2


def test_neither_gain_nor_efficiency_enters():
    (molecules, seen), mask, grid, true = drawn(6_000.0, 1.0, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    half = rng.random(len(seen.x_um)) < 0.5
    fewer = Counted(seen.y_um[half], seen.x_um[half], 1.0)
    for points in (seen, fewer):
        found = phase_ratio(molecules, points, mask, grid, radius_um=RADIUS_UM, kernel_um=0.025, blur_um=0.0)
        assert found.ratio == pytest.approx(true, rel=0.08)


def test_a_dark_level_is_taken_off_both_phases():
    """With a tenth of the localisations false, the levels are nearer to each other than chromatin is."""
    low, high = 0.6, 1.9
    diluted = PhaseRatio(0.8, 0.1, 0.9 * low + 0.1, 0.9 * high + 0.1).above(0.1)
    assert (diluted.low, diluted.high) == pytest.approx((low, high))
    assert diluted.ratio > 0.8
    same = PhaseRatio(0.8, 0.1, low, high).above(0.0)
    assert (same.ratio, same.low, same.high) == (0.8, low, high)


def test_without_domains_there_is_no_ratio():
    (molecules, seen), mask, grid, _ = drawn(1_000.0, 1.0, np.random.default_rng(0))
    found = phase_ratio(molecules, seen, mask, grid, radius_um=math.nan, kernel_um=0.05, blur_um=0.0)
    assert math.isnan(found.ratio)
    assert math.isnan(found.log_se)
