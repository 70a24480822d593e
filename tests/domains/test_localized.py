"""Domains of simulated STORM nuclei are those of the truth, from tables whose counting noise hides most single ones."""

import math
from pathlib import Path

import numpy as np
import pytest

import chromamol as cm
from chromamol.density import drop_duplicates, find_molecules, merge_blinks, sightings
from chromamol.density.molecules import repeats_per_molecule
from chromamol.domains import localized_domains, measure_domains
from chromamol.domains.table import domain_rows
from chromamol.errors import ImageContentError, ParameterError
from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.io import Localizations
from chromamol.nucleus import outline_localizations
from chromamol.synthetic.localizations import Labelling, localize

SAMPLES = Path(__file__).parents[2] / "data_samples"
PIXEL_UM = 0.02


def measure(table):
    """Outline, count molecules and measure, as the pipeline does."""
    unique = drop_duplicates(table)
    joined = merge_blinks(unique)
    outlines = outline_localizations(joined.x_um, joined.y_um)
    area = np.count_nonzero(outlines.labels) * outlines.pixel_size_um**2
    density = np.count_nonzero(outlines.nucleus) / area
    molecules = find_molecules(unique, density_per_um2=density, default_precision_um=0.02)
    grid = Grid(outlines.labels.shape, (outlines.pixel_size_um,) * 2, outlines.origin_um)
    return localized_domains(molecules.y_um, molecules.x_um, outlines.labels == 1, grid, repeats=molecules.repeats,
                             precision_um=molecules.precision_um,
                             interface_um=cm.Settings().interface_blur_um)  # fmt: skip


@pytest.fixture(scope="module")
def truth():
    """The nucleus of the STORM sample, simulated with adhesion to the lamina."""
    maps = cm.read_image(SAMPLES / "truth" / "nucleus_storm_truth.ome.tif")
    inside = cm.read_image(SAMPLES / "truth" / "nucleus_storm_labels.tif").channel() > 0
    phi_h = maps.channel("phi_h").astype(np.float64)
    known = measure_domains(Field(phi_h, Grid(phi_h.shape, (PIXEL_UM, PIXEL_UM)), "1"), inside, phi_max=0.7)
    return phi_h + maps.channel("phi_e"), known


def test_lengths_are_within_a_tenth_of_the_truth(truth):
    """10,000 molecules per µm² where chromatin fills all; each that is labelled is found some five times.

    Counted three times: the LAD thickness of a single count scatters by 7 to 11 % (two nuclei, eight counts each).
    """
    total, known = truth
    found = []
    for seed in range(3):
        drawn = localize(total, (PIXEL_UM, PIXEL_UM), Labelling(), rng=np.random.default_rng(seed))
        table = Localizations(drawn.x_um, drawn.y_um, precision_um=drawn.precision_um, frame=drawn.frame)
        found.append(measure(table).domains)
    for name, each in (
        ("radius_um", 0.05),
        ("spacing_um", 0.1),
        ("lad_thickness_um", 0.3),
        ("domain_fraction", 0.1),
    ):
        ratios = np.array([getattr(domains, name) for domains in found]) / getattr(known, name)
        assert ratios == pytest.approx(np.ones(3), abs=each), name
        assert ratios.mean() == pytest.approx(1.0, abs=0.05), name
    assert [domains.count for domains in found] == pytest.approx([known.count] * 3, rel=0.15)


def test_the_sparse_sample_shows_its_domains(truth):
    """2,000 molecules per µm²: some fifty in a domain, sixteen in as much space between."""
    known = truth[1]
    found = measure(cm.read_localizations(SAMPLES / "storm" / "nucleus_storm.csv"))
    assert found.domains.count == pytest.approx(known.count, rel=0.15)
    assert found.domains.radius_um == pytest.approx(known.radius_um, rel=0.1)
    assert found.domains.spacing_um == pytest.approx(known.spacing_um, rel=0.1)
    assert found.contrast == pytest.approx(3.1, rel=0.15), "0.67 + 0.26 over 0.04 + 0.26, by the model"
    assert found.lads_unresolved
    assert math.isnan(found.domains.lad_thickness_um)
    assert found.domains.lad_coverage > 0.0


def test_random_molecules_have_no_repeats_and_repeated_ones_do():
    rng = np.random.default_rng(0)
    points = 10.0 * rng.random((20_000, 2))
    once = repeats_per_molecule(points, precision_um=0.005, rng=rng)
    seen = np.concatenate([points, points, points]) + 0.005 * rng.standard_normal((60_000, 2))
    thrice = repeats_per_molecule(seen, precision_um=0.005, rng=rng)
    assert once == pytest.approx(1.0, abs=0.05)
    assert thrice == pytest.approx(3.0, abs=0.15), "two further sightings of each"


def test_dark_times_are_bridged_where_neighbours_are_rare():
    """A label that returns after a thousand frames is one molecule where the next one is a micrometre away."""
    rng = np.random.default_rng(1)
    centres = 10.0 * rng.random((400, 2))
    places = np.repeat(centres, 2, axis=0) + 0.003 * rng.standard_normal((800, 2))
    frames = np.repeat(rng.integers(0, 18_000, 400), 2) + np.tile([0, 1000], 400)
    table = Localizations(places[:, 1], places[:, 0], precision_um=np.full(800, 0.003), frame=frames)
    found = find_molecules(table, density_per_um2=4.0, default_precision_um=0.02)
    assert len(found.x_um) == pytest.approx(400, abs=8)
    assert found.repeats == pytest.approx(1.0, abs=0.05)


def test_sightings_keep_the_contrast_that_molecules_lose():
    """Twice as many labels in one half, each found some three times at any time: neighbours are joined there more."""
    rng = np.random.default_rng(4)
    x = np.concatenate([rng.random(20_000), 1.0 + rng.random(40_000)]).repeat(3)
    y = (4.0 * rng.random(60_000)).repeat(3)
    x, y = (each + 0.004 * rng.standard_normal(180_000) for each in (x, y))
    frame = rng.integers(0, 20_000, 180_000)
    table = Localizations(x, y, precision_um=np.full(180_000, 0.004), frame=frame)
    contrasts = []
    for found in (
        sightings(table, default_precision_um=0.02),
        find_molecules(table, density_per_um2=22_500.0, default_precision_um=0.02),
    ):
        contrasts.append(np.count_nonzero(found.x_um > 1.0) / np.count_nonzero(found.x_um < 1.0))
        if len(contrasts) == 1:
            assert found.repeats == pytest.approx(3.0, abs=0.15)
    assert contrasts[0] == pytest.approx(2.0, abs=0.02)
    assert contrasts[1] < 1.95


def test_lengths_follow_the_scale():
    """The same molecules in a nucleus twice as wide have domains twice as wide: no length is built in but EDGE_UM."""
    rng = np.random.default_rng(2)
    pattern = np.kron(np.indices((10, 10)).sum(0) % 2, np.ones((20, 20)))
    y, x = np.indices(pattern.shape)
    inside = (y - 99.5) ** 2 + (x - 99.5) ** 2 < 90.0**2
    counts = rng.poisson(inside * (0.4 + 1.2 * pattern))
    rows, columns = (np.repeat(a.ravel(), counts.ravel()) + rng.random(counts.sum()) - 0.5 for a in (y, x))
    radii = []
    for scale in (0.02, 0.04):
        grid = Grid(inside.shape, (scale, scale))
        found = localized_domains(
            scale * rows, scale * columns, inside, grid, repeats=1.0, precision_um=0.001
        )
        radii.append(found.domains.radius_um)
    assert radii[1] == pytest.approx(2.0 * radii[0], rel=0.03)


def test_many_molecules_do_not_make_specks():
    """A hundred times the molecules that the domains need: the kernel grows with the domains, not with counts."""
    rng = np.random.default_rng(3)
    y, x = np.indices((150, 150))
    inside = (y - 74.5) ** 2 + (x - 74.5) ** 2 < 70.0**2
    discs = np.hypot((y % 30) - 14.5, (x % 30) - 14.5) < 8.0
    counts = rng.poisson(inside * np.where(discs, 12.0, 4.0))
    rows, columns = (np.repeat(a.ravel(), counts.ravel()) + rng.random(counts.sum()) - 0.5 for a in (y, x))
    grid = Grid(inside.shape, (0.05, 0.05))
    found = localized_domains(0.05 * rows, 0.05 * columns, inside, grid, repeats=1.0, precision_um=0.005)
    assert found.kernel_um > 0.05
    assert found.domains.radius_um == pytest.approx(0.4, rel=0.05)
    assert 9 <= found.domains.count <= 21, "nine whole ones, the others cut by the border or taken for LADs"


def test_rows_of_the_table(truth):
    known = truth[1]
    rows = domain_rows(known, offset_um=(10.0, 20.0))
    assert len(rows) == known.count + len(known.lads)
    assert [row["domain"] for row in rows] == list(range(1, len(rows) + 1))
    interior = [row for row in rows if not row["is_lad"]]
    assert all(math.isnan(row["thickness_um"]) for row in interior)
    assert all(row["nearest_um"] > 0.0 for row in interior)
    for row, domain in zip(interior, known.domains, strict=True):
        assert row["centroid_y_um"] == pytest.approx(domain.centroid_um[0] + 10.0)
        assert row["area_um2"] == pytest.approx(math.pi * row["radius_um"] ** 2)
    lads = [row for row in rows if row["is_lad"]]
    assert lads
    mean = np.average([row["thickness_um"] for row in lads], weights=[row["area_um2"] for row in lads])
    assert 0.5 * known.lad_thickness_um < mean < 2.0 * known.lad_thickness_um
    areas = sum(row["area_um2"] for row in lads)
    assert areas == pytest.approx(np.count_nonzero(known.lamina) * PIXEL_UM**2, rel=0.02)


def test_what_makes_no_sense_is_refused():
    grid = Grid((20, 20), (0.1, 0.1))
    with pytest.raises(ImageContentError, match="without a localisation"):
        localized_domains(np.array([9.0]), np.array([9.0]), np.ones((20, 20), dtype=bool), grid, repeats=1.0,
                          precision_um=0.01)  # fmt: skip
    with pytest.raises(ParameterError, match="repeats"):
        localized_domains(np.array([1.0]), np.array([1.0]), np.ones((20, 20), dtype=bool), grid, repeats=0.5,
                          precision_um=0.01)  # fmt: skip
