import itertools
import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from chromamol.domains import measure_domains
from chromamol.domains.measure import mean_spacing
from chromamol.errors import FieldError, ParameterError
from chromamol.field import Field
from chromamol.grid import Grid

PHI_MAX = 0.7


def level(distance, interface):
    """Phase profile of an interface: phi_max inside (negative distance), 0 outside."""
    return PHI_MAX / 2 * (1 - np.tanh(distance / interface))


def coordinates(shape, spacing):
    return np.meshgrid(
        *((np.arange(n) - (n - 1) / 2) * h for n, h in zip(shape, spacing, strict=True)), indexing="ij"
    )


def nucleus(spacing, radius, *, balls=(), ball_radius=0.0, ring=0.0, sector=None, interface=0.01, ndim=2):
    """A round nucleus with round domains and a layer of thickness `ring` at its border, in µm."""
    spacing = (spacing,) * ndim if np.isscalar(spacing) else spacing
    shape = tuple(2 * int(np.ceil((radius + 3 * h) / h)) + 1 for h in spacing)
    x = coordinates(shape, spacing)
    from_centre = np.sqrt(sum(c**2 for c in x))
    mask = from_centre <= radius
    values = np.zeros(shape)
    for centre in balls:
        distance = np.sqrt(sum((c - p) ** 2 for c, p in zip(x, centre, strict=True)))
        values = np.maximum(values, level(distance - ball_radius, interface))
    if ring:
        layer = level(radius - ring - from_centre, interface)
        if sector is not None:
            layer = np.where(np.abs(np.arctan2(x[-2], x[-1])) < sector, layer, 0)
        values = np.maximum(values, layer)
    return Field(values, Grid(shape, spacing), "1"), mask


def lattice(pitch, n, ndim=2):
    half = (n - 1) / 2
    return [tuple(pitch * (i - half) for i in index) for index in itertools.product(range(n), repeat=ndim)]


def test_discs_on_a_lattice():
    pitch, n, radius = 0.4, 6, 0.09
    phi, mask = nucleus(0.01, 2.2, balls=lattice(pitch, n), ball_radius=radius)
    found = measure_domains(phi, mask, phi_max=PHI_MAX)
    assert found.count == n * n
    assert found.radius_um == pytest.approx(radius, rel=0.03)
    # By hand: the 5 nearest are 4 + 1 diagonal inside, 3 + 2 on an edge, 2 + 1 + 2 at 2 pitches in a corner.
    diagonal = math.sqrt(2)
    inner, edge, corner = (n - 2) ** 2, 4 * (n - 2), 4
    by_hand = inner * (4 + diagonal) + edge * (3 + 2 * diagonal) + corner * (2 + diagonal + 4)
    assert found.spacing_um == pytest.approx(pitch * by_hand / 5 / n**2, rel=1e-3)
    assert found.lad_thickness_um == 0.0
    assert found.lad_coverage == 0.0
    assert not found.lamina.any()
    assert found.domain_fraction == pytest.approx(n * n * radius**2 / 2.2**2, rel=0.03)


def test_balls_in_anisotropic_pixels():
    phi, mask = nucleus((0.04, 0.03, 0.03), 1.5, balls=lattice(0.7, 3, 3), ball_radius=0.2, ndim=3)
    found = measure_domains(phi, mask, phi_max=PHI_MAX)
    assert found.count == 27
    assert found.radius_um == pytest.approx(0.2, rel=0.03)
    centres = np.array(lattice(0.7, 3, 3))
    assert found.spacing_um == pytest.approx(mean_spacing(centres), rel=1e-3)


@pytest.mark.parametrize("thickness", [0.1, 0.2, 0.3])
def test_ring_thickness(thickness):
    phi, mask = nucleus(0.02, 5.0, ring=thickness)
    found = measure_domains(phi, mask, phi_max=PHI_MAX)
    assert found.lad_thickness_um == pytest.approx(thickness, rel=0.1)
    assert found.lad_coverage == pytest.approx(1.0, abs=0.02)
    assert found.count == 0


def test_shell_thickness_in_three_dimensions():
    phi, mask = nucleus(0.05, 2.0, ring=0.25, interface=0.02, ndim=3)
    found = measure_domains(phi, mask, phi_max=PHI_MAX)
    assert found.lad_thickness_um == pytest.approx(0.25, rel=0.1)
    assert found.lad_coverage == pytest.approx(1.0, abs=0.05)


def test_partial_lad_keeps_its_thickness_and_shows_its_coverage():
    phi, mask = nucleus(0.02, 5.0, ring=0.2, sector=1.0)
    found = measure_domains(phi, mask, phi_max=PHI_MAX)
    assert found.lad_thickness_um == pytest.approx(0.2, rel=0.1)
    assert found.lad_coverage == pytest.approx(1.0 / math.pi, abs=0.02)


def test_mask_drawn_a_little_too_wide_changes_little():
    phi, mask = nucleus(0.02, 5.0, ring=0.2)
    x = coordinates(phi.grid.shape, phi.grid.spacing_um)
    from_centre = np.hypot(*x)
    phi = phi.like(np.where(from_centre > 4.9, 0, phi.values))
    found = measure_domains(phi, mask, phi_max=PHI_MAX)
    assert found.lad_thickness_um == pytest.approx(0.1, rel=0.1)
    assert found.lad_coverage > 0.95


def test_ring_and_interior_are_told_apart():
    phi, mask = nucleus(0.02, 5.0, ring=0.2, balls=lattice(0.8, 4), ball_radius=0.15)
    found = measure_domains(phi, mask, phi_max=PHI_MAX)
    assert found.count == 16
    assert found.radius_um == pytest.approx(0.15, rel=0.03)
    assert found.lad_thickness_um == pytest.approx(0.2, rel=0.1)
    assert not (found.lamina & (found.labels > 0)).any()
    centre = (np.array(phi.grid.shape) - 1) / 2 * 0.02
    for domain in found.domains:
        expected = 5.0 - math.dist(domain.centroid_um, centre)
        assert domain.depth_um == pytest.approx(expected, abs=0.04)


def test_a_strand_from_the_border_inwards_is_lad_only_near_the_border():
    phi, mask = nucleus(0.02, 5.0)
    y, x = coordinates(phi.grid.shape, phi.grid.spacing_um)
    strand = (np.abs(y) < 0.2) & (x > 0)
    found = measure_domains(phi.like(np.where(strand, PHI_MAX, 0)), mask, phi_max=PHI_MAX)
    assert found.count == 1
    assert found.domains[0].size_um == pytest.approx(0.38 * 4.0, rel=0.02)  # 19 rows, to 0.2 R deep


@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_lengths_scale_with_the_pixel_size(scale):
    phi, mask = nucleus(0.02, 3.0, ring=0.14, balls=lattice(0.5, 4), ball_radius=0.1)
    grid = Grid(phi.grid.shape, tuple(scale * h for h in phi.grid.spacing_um))
    one = measure_domains(phi, mask, phi_max=PHI_MAX)
    other = measure_domains(Field(phi.values, grid, "1"), mask, phi_max=PHI_MAX)
    for name in ("radius_um", "spacing_um", "lad_thickness_um"):
        assert getattr(other, name) == pytest.approx(scale * getattr(one, name))
    assert (other.count, other.lad_coverage) == (one.count, pytest.approx(one.lad_coverage))


def test_finer_pixels_give_the_same_lengths():
    coarse, fine = (
        measure_domains(*nucleus(h, 3.0, ring=0.14, balls=lattice(0.5, 4), ball_radius=0.1), phi_max=PHI_MAX)
        for h in (0.03, 0.01)
    )
    assert coarse.radius_um == pytest.approx(fine.radius_um, rel=0.03)
    assert coarse.spacing_um == pytest.approx(fine.spacing_um, rel=0.005)
    assert coarse.lad_thickness_um == pytest.approx(fine.lad_thickness_um, rel=0.1)


def test_blur_does_not_move_the_mid_level():
    sharp, soft = (
        measure_domains(
            *nucleus(0.01, 1.5, balls=lattice(0.6, 3), ball_radius=0.12, interface=w), phi_max=PHI_MAX
        )
        for w in (0.005, 0.04)
    )
    assert soft.radius_um == pytest.approx(sharp.radius_um, rel=0.03)


def blurred(phi, blur_um):
    """The map as an image shows it: beyond the border of the nucleus lies nothing."""
    return phi.like(gaussian_filter(phi.values, [blur_um / h for h in phi.grid.spacing_um]))


def within(phi, mask):
    return phi.like(np.where(mask, phi.values, 0.0))


@pytest.mark.parametrize("blur_um", [0.05, 0.1, 0.12])
def test_lads_keep_thickness_and_coverage_under_a_known_blur(blur_um):
    phi, mask = nucleus(0.03, 5.0, ring=0.2, sector=1.0)
    phi = blurred(within(phi, mask), blur_um)
    found = measure_domains(phi, mask, phi_max=PHI_MAX, blur_um=blur_um)
    assert found.lad_thickness_um == pytest.approx(0.2, rel=0.1)
    assert found.lad_coverage == pytest.approx(1.0 / math.pi, abs=0.03)
    assert not found.lads_unresolved


def test_lads_keep_their_thickness_under_blur_in_three_dimensions():
    phi, mask = nucleus((0.1, 0.05, 0.05), 2.0, ring=0.25, interface=0.02, ndim=3)
    phi = blurred(within(phi, mask), 0.08)
    found = measure_domains(phi, mask, phi_max=PHI_MAX, blur_um=0.08)
    assert found.lad_thickness_um == pytest.approx(0.25, rel=0.15)
    assert found.lad_coverage == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(("ring", "blur_um"), [(0.1, 0.12), (0.2, 0.3), (0.0, 0.3)])
def test_lads_that_blur_hides_are_nan_not_zero(ring, blur_um):
    phi, mask = nucleus(0.03, 5.0, ring=ring, balls=lattice(2.4, 2), ball_radius=0.8)
    found = measure_domains(blurred(within(phi, mask), blur_um), mask, phi_max=PHI_MAX, blur_um=blur_um)
    assert found.lads_unresolved
    assert math.isnan(found.lad_thickness_um)
    assert math.isnan(found.lad_coverage)
    assert found.count == 4


def test_a_border_without_lads_is_zero_where_blur_lets_it_be_told():
    phi, mask = nucleus(0.03, 5.0, balls=lattice(1.5, 2), ball_radius=0.5)
    found = measure_domains(blurred(within(phi, mask), 0.1), mask, phi_max=PHI_MAX, blur_um=0.1)
    assert (found.lad_thickness_um, found.lad_coverage, found.lads_unresolved) == (0.0, 0.0, False)


def test_pixels_wider_than_where_lads_begin_tell_none():
    phi, mask = nucleus((0.3, 0.05, 0.05), 1.5, balls=[(0.0, 0.0, 0.0)], ball_radius=0.6, ndim=3)
    found = measure_domains(phi, mask, phi_max=PHI_MAX)
    assert found.lads_unresolved
    assert math.isnan(found.lad_coverage)


def test_light_of_a_touching_nucleus_is_not_taken_for_a_lad():
    y, x = coordinates((200, 200), (0.03, 0.03))
    mask = (np.hypot(y, x) <= 2.9) & (x < 0.0)
    other = (np.hypot(y, x) <= 2.9) & (x >= 0.0)
    phi = Field(np.where(mask | other, 0.9 * PHI_MAX / 2, 0.0), Grid((200, 200), (0.03, 0.03)), "1")
    phi = blurred(phi, 0.08)
    assert measure_domains(phi, mask, phi_max=PHI_MAX, blur_um=0.08).lamina.any()
    found = measure_domains(phi, mask, phi_max=PHI_MAX, blur_um=0.08, chromatin=mask | other)
    assert not found.lamina.any()
    assert found.lad_coverage == 0.0


def test_pieces_below_the_resolution_are_no_domains():
    phi, mask = nucleus(0.03, 5.0, balls=[(-1.0, 0.0), (1.0, 0.0)], ball_radius=0.5)
    specks, _ = nucleus(0.03, 5.0, balls=[(0.0, 1.0), (0.0, 2.0), (0.0, -1.0)], ball_radius=0.1)
    phi = phi.like(np.maximum(phi.values, specks.values))
    seen = measure_domains(phi, mask, phi_max=PHI_MAX)
    assert (seen.count, seen.left_out) == (5, 0)
    found = measure_domains(phi, mask, phi_max=PHI_MAX, blur_um=0.1)
    assert (found.count, found.left_out) == (2, 3)
    assert found.radius_um == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize(("begins_um", "interior"), [(0.28, 0), (0.6, 1)])
def test_a_piece_within_the_error_of_a_blurred_outline_is_a_lad(begins_um, interior):
    phi, mask = nucleus(0.02, 5.0, balls=[(0.0, 4.7 - begins_um)], ball_radius=0.3)
    assert measure_domains(phi, mask, phi_max=PHI_MAX).count == 1
    found = measure_domains(phi, mask, phi_max=PHI_MAX, blur_um=0.1)
    assert (found.count, len(found.lads)) == (interior, 1 - interior)


def test_empty_map_is_nan_not_zero():
    phi, mask = nucleus(0.02, 2.0)
    found = measure_domains(phi, mask, phi_max=PHI_MAX)
    assert found.count == 0
    assert math.isnan(found.radius_um)
    assert math.isnan(found.spacing_um)
    assert found.domain_fraction == 0.0


def test_five_domains_have_a_radius_but_no_spacing():
    phi, mask = nucleus(0.01, 2.0, balls=lattice(0.5, 3)[:5], ball_radius=0.1)
    found = measure_domains(phi, mask, phi_max=PHI_MAX)
    assert found.count == 5
    assert found.radius_um == pytest.approx(0.1, rel=0.03)
    assert math.isnan(found.spacing_um)


def test_single_pixels_are_no_domains():
    phi, mask = nucleus(0.02, 2.0)
    values = phi.values.copy()
    values[::7, ::7] = PHI_MAX
    inner = np.hypot(*coordinates(phi.grid.shape, phi.grid.spacing_um)) < 1.5
    assert measure_domains(phi.like(np.where(inner, values, 0)), mask, phi_max=PHI_MAX).count == 0


def test_pixels_that_are_not_valid_do_not_count():
    phi, mask = nucleus(0.02, 2.0, balls=lattice(0.5, 3), ball_radius=0.1)
    x = coordinates(phi.grid.shape, phi.grid.spacing_um)[1]
    values = np.where(x < 0.25, phi.values, np.nan)
    found = measure_domains(phi.like(values, valid=x < 0.25), mask, phi_max=PHI_MAX)
    assert found.count == 6


def test_whole_nucleus_dense():
    phi, mask = nucleus(0.02, 2.0)
    found = measure_domains(phi.like(np.full(phi.grid.shape, PHI_MAX)), mask, phi_max=PHI_MAX)
    assert found.domain_fraction == 1.0
    assert found.lad_coverage == pytest.approx(1.0)


def test_bad_arguments_are_refused():
    phi, mask = nucleus(0.02, 2.0)
    with pytest.raises(FieldError, match="mask"):
        measure_domains(phi, mask[1:], phi_max=PHI_MAX)
    with pytest.raises(FieldError, match="valid"):
        measure_domains(phi, np.zeros_like(mask), phi_max=PHI_MAX)
    with pytest.raises(ParameterError, match="phi_max"):
        measure_domains(phi, mask, phi_max=0.0)
    with pytest.raises(ParameterError, match="blur"):
        measure_domains(phi, mask, phi_max=PHI_MAX, blur_um=math.nan)
