"""Domains of counted molecules: a density fine enough for domains, two levels, and the line half-way between them.

Counts are smoothed by a Gaussian that is as narrow as counting permits, inside the nucleus only. The density of
both phases is measured away from their border, and domains begin half-way. Smoothing moves the half-level of a
disc of radius R inwards: at its true border it has fallen by

    s / (2 √(2π) R)        (s the Gaussian's standard deviation, to first order in s / R),

so the level is that much lower. The radius, in turn, is that of the domains found. A piece is a domain if its own
molecules say so: log L = n log(high / low) - (high - low) A, over the repeats of a molecule, must exceed a threshold.
The wall of the nucleus and what lies on it are not read from the smoothed density (`wall`, `rim`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from chromamol.domains.counting import count_on, grid_around, on_grid, value_at
from chromamol.domains.measure import Domains, measure_domains
from chromamol.domains.rim import RimLevels, layer_thickness, rewrite, rim_of
from chromamol.domains.wall import Wall, fit_wall
from chromamol.errors import ImageContentError, ParameterError
from chromamol.field import Field
from chromamol.grid import Grid, equivalent_radius
from chromamol.shapes import Mask

MOLECULES_IN_KERNEL = 9.0
"""Molecules, less their repeats, under the Gaussian (4π s²) where chromatin is thin: counting then errs there by 33 %,
a sixth of the step between the levels. Tried on six simulated nuclei: with 5 noise makes domains, from 12 on small
ones fade."""

LEVELS = (0.61, 1.89)
"""Density of both phases over the mean, in the reference model with half water and 30 % domains: a start."""

CORE_KERNELS = 2.0
"""Levels are taken this many standard deviations away from the phases' border: 2 % of a straight step is left there."""

LEAST_CORE_KERNELS = 20.0
"""Kernel areas s² that the core of a phase must have, or its level stays as it was."""

LEAST_DOMAIN_KERNELS = 3.0 * math.pi
"""Smaller pieces, in s², have no part in the radius that the level is corrected with."""

LEAST_EVIDENCE, LEAST_SHARE = 3.0, 0.15
"""A piece is a domain where log L exceeds both: 3 (e³ : 1), and this share of what the typical piece has (those with
more hold half of all evidence), since with many molecules noise, too, makes pieces of some evidence. On eight simulated
nuclei with 5,000 molecules per µm² a share of 0.1 found a tenth too many domains."""

PIECE_BEGINS = 0.3
"""A piece lies where its layer along the depth reaches this part of its largest: spikes of noise are thinner."""

KERNELS_PER_LAYER = 3.0
"""A LAD thickness below so many kernels is not given: on eight simulated nuclei with 5,000 and 20,000 molecules per µm²
those above it were 27 % off at most, those below up to 49 %."""

NECK_KERNELS = 1.0
"""Half the width, in s, of necks that are cut: the noise of the kernel's own scale makes such bridges."""

EDGE_UM = 0.15
"""How far the outline may be off; the density decides within."""

KERNELS_PER_RADIUS = 6.0
"""Where molecules are so many that the kernel may be narrower than a sixth of a domain radius, it is not: the
half-level moves by 1 % of R, and the number of places at which noise could make a domain stays small."""

WORTH_WIDENING = 1.3

_ROUNDS = 5


@dataclass(frozen=True, eq=False)
class LocalizedDomains:
    """Domains of a nucleus of counted molecules.

    Parameters
    ----------
    domains : as of any map, but for the LAD thickness where that can't be told.
    phase : 0 in the thin, 1 in the dense phase, smoothed; on the pixels that the domains were measured on.
    dense : what was taken for domain material.
    mask : the nucleus on them, its edge set by the molecules.
    level : of `phase` where domains begin.
    kernel_um : s.
    contrast : density of the dense over that of the thin phase.
    lads_unresolved : whether there are LADs whose thickness the molecules can't tell; it is NaN then.
    """

    domains: Domains
    phase: Field
    dense: Mask
    mask: Mask
    level: float
    kernel_um: float
    contrast: float
    lads_unresolved: bool


@dataclass(frozen=True, eq=False)
class _Phases:
    """Counts on pixels, the nucleus there, and both phases in the smoothed density."""

    counts: np.ndarray
    grid: Grid
    kernel: float
    mask: Mask
    values: np.ndarray
    level: float
    low: float
    high: float
    mean: float

    @property
    def pixels(self) -> float:
        return self.kernel / self.grid.spacing_um[0]

    @property
    def dense(self) -> Mask:
        return self.mask & (self.values > self.level)


def localized_domains(
    y_um: np.ndarray,
    x_um: np.ndarray,
    outline: Mask,
    outline_grid: Grid,
    *,
    repeats: float,
    precision_um: float,
    interface_um: float = 0.0,
) -> LocalizedDomains:
    """Measure the domains of one nucleus from its molecules.

    Parameters
    ----------
    y_um, x_um : molecules in and around the nucleus, µm.
    outline : (y, x), True inside the nucleus, on `outline_grid`.
    repeats : variance of a count over its mean.
    precision_um : of a position. The kernel is at least as wide.
    interface_um : standard deviation of the Gaussian that blurs a step as much as the interface between phases does.

    Raises
    ------
    ImageContentError : no molecule in the nucleus.
    ParameterError : repeats below 1.
    """
    if not (repeats >= 1.0 and precision_um > 0.0 and interface_um >= 0.0):
        raise ParameterError(f"repeats = {repeats}, precision_um = {precision_um}, interface_um = {interface_um}.",
                             expected="at least 1, a positive length, and one >= 0.", do="correct them.")  # fmt: skip
    inside = value_at(outline, outline_grid, y_um, x_um)
    count, area = int(np.count_nonzero(inside)), np.count_nonzero(outline) * outline_grid.pixel_volume_um
    if count == 0:
        raise ImageContentError("A nucleus without a localisation.", expected="an outline around localisations.",
                                do="check that outlines and table share their origin.")  # fmt: skip
    mean = count / area
    wanted = math.sqrt(MOLECULES_IN_KERNEL * repeats / (4.0 * math.pi * LEVELS[0] * mean))
    kernel = max(wanted, precision_um)
    # Specks and holes of noise make domains look thin at first, so widening may take several rounds.
    for _ in range(_ROUNDS):
        rough = _by_density(y_um, x_um, outline, outline_grid, kernel, mean)
        wider = _half_thickness(rough) / KERNELS_PER_RADIUS
        if wider <= WORTH_WIDENING * kernel:
            break
        kernel = wider
    wall = fit_wall(rough.mask, rough.grid, y_um, x_um, low=rough.low, high=rough.high,
                    precision_um=precision_um)  # fmt: skip
    phases, dense, found = _measure(rough, wall, y_um, x_um, (repeats, precision_um, interface_um))
    thickness = found.lad_thickness_um
    # Nothing at the border is 0, whatever the kernel.
    thin = thickness > 0.0 and (wall is None or thickness < KERNELS_PER_LAYER * kernel)
    unknown = found.lads_unresolved or thin
    return LocalizedDomains(
        replace(found, lad_thickness_um=math.nan) if unknown else found,
        Field(phases.values, phases.grid, "1", phases.mask), dense, phases.mask, phases.level, kernel,
        phases.high / phases.low, unknown,
    )  # fmt: skip


def _measure(
    rough: _Phases,
    wall: Wall | None,
    y_um: np.ndarray,
    x_um: np.ndarray,
    molecule: tuple[float, float, float],
) -> tuple[_Phases, Mask, Domains]:
    """Phases within the wall, domain material, and the domains measured in it."""
    repeats, precision, interface = molecule
    mask = rough.mask if wall is None else wall.mask(rough.grid)
    phases = _settle(rough.counts, mask, rough.grid, rough.kernel, rough.mean, interface)
    dense = _evident(phases.dense & ~_bridges(phases.dense, mask, phases.pixels), phases, repeats)
    radius = _median_radius(dense, phases.grid, rough.kernel)
    if wall is not None and math.isfinite(radius):
        levels = RimLevels(phases.low, phases.high, repeats, precision, interface, radius)
        depth = ndimage.distance_transform_edt(mask) * phases.grid.spacing_um[0]
        # Most molecules are deeper than the rim, and looking for the nearest point of the wall takes long.
        deep = value_at(depth > 6.0 * radius, phases.grid, y_um, x_um)
        rim = rim_of(wall, y_um[~deep], x_um[~deep], radius_um=radius, precision_um=precision)
        whole, layers = rewrite(dense, mask, phases.grid, rim, layer_thickness(rim, levels), radius_um=radius)
        dense = layers | _evident(whole, phases, repeats)
    material = Field(dense.astype(np.float64), phases.grid, "1", mask)
    return phases, dense, measure_domains(material, mask, phi_max=1.0, piece_begins=PIECE_BEGINS)


def _by_density(
    y_um: np.ndarray, x_um: np.ndarray, outline: Mask, outline_grid: Grid, kernel: float, mean: float
) -> _Phases:
    """Both phases, in an outline that the density corrects."""
    grid = grid_around(outline, outline_grid, kernel_um=kernel, margin_um=EDGE_UM + 4.0 * kernel)
    counts = count_on(grid, y_um, x_um)
    rough = on_grid(outline, outline_grid, grid)
    density = ndimage.gaussian_filter(counts, kernel / grid.spacing_um[0]) / grid.pixel_volume_um
    first = _settle(counts, rough, grid, kernel, mean)
    mask = _edge_by_density(density, first.dense, rough, (first.low, first.high), grid, first.pixels)
    return _settle(counts, mask, grid, kernel, mean)


def _settle(
    counts: np.ndarray, mask: Mask, grid: Grid, kernel: float, mean: float, interface: float = 0.0
) -> _Phases:
    """Iterate levels and radius."""
    pixels = kernel / grid.spacing_um[0]
    low, high = LEVELS[0] * mean, LEVELS[1] * mean
    own = _inside_only(counts, mask, pixels, grid)
    radius = math.inf
    for _ in range(_ROUNDS):
        level = max(0.25, 0.5 - kernel / (2.0 * math.sqrt(2.0 * math.pi) * radius))
        dense = mask & (own > low + level * (high - low))
        radius = _median_radius(dense, grid, kernel)
        low, high = _levels(own, dense, mask, (low, high), math.hypot(pixels, interface / grid.spacing_um[0]))
    values = ((own - low) / (high - low)).astype(np.float64)
    return _Phases(counts, grid, kernel, mask, values, level, low, high, mean)


def _evident(dense: Mask, phases: _Phases, repeats: float) -> Mask:
    """The pieces whose molecules say that they are domains."""
    parts, _ = ndimage.label(dense, structure=np.ones((3, 3)))
    molecules = np.bincount(parts.ravel(), weights=phases.counts.ravel())
    areas = np.bincount(parts.ravel()) * phases.grid.pixel_volume_um
    evidence = molecules * math.log(phases.high / phases.low) - (phases.high - phases.low) * areas
    evidence = evidence / repeats
    evidence[0] = 0.0
    ordered = np.sort(evidence[evidence > 0.0])
    typical = ordered[np.searchsorted(np.cumsum(ordered), 0.5 * ordered.sum())] if ordered.size else 0.0
    return np.asarray((evidence > max(LEAST_EVIDENCE, LEAST_SHARE * typical))[parts])


def _half_thickness(phases: _Phases) -> float:
    """Radius of discs, 1.5 half-widths of strands, as deep as the domain material is on average; µm.

    A disc is R / 3 deep on average. Specks hold few pixels, so they hardly count.
    """
    dense = phases.dense
    if not dense.any():
        return 0.0
    return 3.0 * float(ndimage.distance_transform_edt(dense)[dense].mean()) * phases.grid.spacing_um[0]


def _levels(
    own: np.ndarray, dense: Mask, mask: Mask, levels: tuple[float, float], pixels: float
) -> tuple[float, float]:
    """Mean density in the core of each phase; a phase without a core keeps its level."""
    window = 2 * round(CORE_KERNELS * pixels) + 1
    found = []
    for phase, level in ((mask & ~dense, levels[0]), (dense, levels[1])):
        core = ndimage.minimum_filter(phase, size=window)
        enough = np.count_nonzero(core) > LEAST_CORE_KERNELS * pixels**2
        found.append(float(own[core].mean()) if enough else level)
    low, high = found
    return (low, high) if 0.0 < low < high else levels


def _bridges(dense: Mask, mask: Mask, pixels: float) -> Mask:
    """Where two bodies of domain material meet in a neck narrower than the kernel resolves: the line between them."""
    width = 2 * round(NECK_KERNELS * pixels) + 1
    # The wall of the nucleus is no border of a LAD: what lies on it is eroded from the inside only.
    bodies = ndimage.minimum_filter(dense | ~mask, size=width) & dense
    seeds, _ = ndimage.label(bodies, structure=np.ones((3, 3)))
    apart = watershed(-ndimage.distance_transform_edt(dense | ~mask), seeds, mask=dense, watershed_line=True)
    return np.asarray(dense & (apart == 0) & ndimage.binary_dilation(apart > 0, structure=np.ones((3, 3))))


def _median_radius(dense: Mask, grid: Grid, kernel: float) -> float:
    """Of the pieces that are no noise; infinite, so without a correction, when there is none."""
    parts, _ = ndimage.label(dense, structure=np.ones((3, 3)))
    areas = np.bincount(parts.ravel())[1:] * grid.pixel_volume_um
    areas = areas[areas > LEAST_DOMAIN_KERNELS * kernel**2]
    return equivalent_radius(float(np.median(areas)), 2) if areas.size else math.inf


def _edge_by_density(
    density: np.ndarray, dense: Mask, rough: Mask, levels: tuple[float, float], grid: Grid, pixels: float
) -> Mask:
    """The nucleus ends where the density passes half of what it is beside the edge: of domains, or between them."""
    two = 2 * round(2.0 * pixels) + 1
    beside = np.where(ndimage.maximum_filter(dense, size=two), levels[1], levels[0])
    inside = density > 0.5 * beside
    # Holes and spikes thinner than the kernel are noise.
    closed = ndimage.minimum_filter(ndimage.maximum_filter(inside, size=two), size=two)
    opened = ndimage.maximum_filter(ndimage.minimum_filter(closed, size=two), size=two)
    reach = 2 * math.ceil(EDGE_UM / grid.spacing_um[0]) + 1
    sure = ndimage.minimum_filter(rough, size=reach, mode="constant")
    possible = ndimage.maximum_filter(rough, size=reach)
    return np.asarray(ndimage.binary_fill_holes((opened & possible) | sure))


def _inside_only(counts: np.ndarray, mask: Mask, pixels: float, grid: Grid) -> np.ndarray:
    """Smoothed density of the nucleus, in which the outside has no part: molecules per µm²."""
    weight = ndimage.gaussian_filter(mask.astype(np.float32), pixels)
    total = ndimage.gaussian_filter(np.where(mask, counts, np.float32(0.0)), pixels)
    return np.where(mask, total / np.maximum(weight, 1e-6), 0.0) / grid.pixel_volume_um
