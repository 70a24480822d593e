"""Domains of counted molecules: a density fine enough for domains, two levels, and the line half-way between them.

Counts are smoothed by a Gaussian that is as narrow as counting permits, inside the nucleus only. The density of
both phases is measured away from their border, and domains begin half-way. Smoothing moves the half-level of a
disc of radius R inwards: at its true border it has fallen by

    s / (2 √(2π) R)        (s the Gaussian's standard deviation, to first order in s / R),

so the level is that much lower. The radius, in turn, is that of the domains found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from chromamol.domains.measure import LAD_FRACTION, Domains, measure_domains
from chromamol.errors import ImageContentError, ParameterError
from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.shapes import Mask

MOLECULES_IN_KERNEL = 9.0
"""Molecules, less their repeats, under the Gaussian (4π s²) where chromatin is thin: counting then errs there by 33 %,
a sixth of the step between the levels. Tried on six simulated nuclei: with 5 noise makes domains, from 12 on small
ones fade."""

LEVELS = (0.61, 1.89)
"""Density of both phases over the mean, in the reference model with half water and 30 % domains: a start."""

PIXELS_PER_KERNEL = 4.0
MAX_PIXELS = 16_000_000
CORE_KERNELS = 2.0
"""Levels are taken this many standard deviations away from the phases' border: 2 % of a straight step is left there."""

LEAST_CORE_KERNELS = 20.0
"""Kernel areas s² that the core of a phase must have, or its level stays as it was."""

LEAST_DOMAIN_KERNELS = 3.0 * math.pi
"""Smaller pieces, in s², are noise: with 2π a tenth more domains were found than there are, with 3π as many (±5 %)."""

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
    domains : as of any map.
    phase : 0 in the thin, 1 in the dense phase, smoothed; on the pixels that the domains were measured on.
    mask : the nucleus on them, its edge set by the density.
    level : of `phase` where domains begin.
    kernel_um : s.
    contrast : density of the dense over that of the thin phase.
    """

    domains: Domains
    phase: Field
    mask: Mask
    level: float
    kernel_um: float
    contrast: float


def localized_domains(
    y_um: np.ndarray,
    x_um: np.ndarray,
    outline: Mask,
    outline_grid: Grid,
    *,
    repeats: float,
    precision_um: float,
) -> LocalizedDomains:
    """Measure the domains of one nucleus from its molecules.

    Parameters
    ----------
    y_um, x_um : molecules in and around the nucleus, µm.
    outline : (y, x), True inside the nucleus, on `outline_grid`.
    repeats : variance of a count over its mean.
    precision_um : of a position. The kernel is at least as wide.

    Raises
    ------
    ImageContentError : no molecule in the nucleus.
    ParameterError : repeats below 1.
    """
    if not (repeats >= 1.0 and precision_um > 0.0):
        raise ParameterError(f"repeats = {repeats}, precision_um = {precision_um}.",
                             expected="at least 1, and a positive length.", do="correct them.")  # fmt: skip
    inside = _at(outline, outline_grid, y_um, x_um)
    count, area = int(np.count_nonzero(inside)), np.count_nonzero(outline) * outline_grid.pixel_volume_um
    if count == 0:
        raise ImageContentError("A nucleus without a localisation.", expected="an outline around localisations.",
                                do="check that outlines and table share their origin.")  # fmt: skip
    mean = count / area
    wanted = math.sqrt(MOLECULES_IN_KERNEL * repeats / (4.0 * math.pi * LEVELS[0] * mean))
    kernel = max(wanted, precision_um)
    # Specks and holes of noise make domains look thin at first, so widening may take several rounds.
    for _ in range(_ROUNDS):
        found = _with_kernel(y_um, x_um, outline, outline_grid, kernel, mean)
        wider = _half_thickness(found) / KERNELS_PER_RADIUS
        if wider <= WORTH_WIDENING * kernel:
            break
        kernel = wider
    return found


def _with_kernel(
    y_um: np.ndarray, x_um: np.ndarray, outline: Mask, outline_grid: Grid, kernel: float, mean: float
) -> LocalizedDomains:
    grid = _grid(outline, outline_grid, kernel)
    counts = _counts(y_um, x_um, grid)
    rough = _on_grid(outline, outline_grid, grid)
    density = ndimage.gaussian_filter(counts, kernel / grid.spacing_um[0]) / grid.pixel_volume_um
    return _settle(counts, density, rough, grid, kernel, mean)


def _half_thickness(found: LocalizedDomains) -> float:
    """Radius of discs, 1.5 half-widths of strands, as deep as the domain material is on average; µm.

    A disc is R / 3 deep on average. Specks hold few pixels, so they hardly count.
    """
    dense = found.mask & (found.phase.values > found.level)
    if not dense.any():
        return 0.0
    return 3.0 * float(ndimage.distance_transform_edt(dense)[dense].mean()) * found.phase.grid.spacing_um[0]


def _settle(
    counts: np.ndarray, density: np.ndarray, rough: Mask, grid: Grid, kernel: float, mean: float
) -> LocalizedDomains:
    """Iterate levels, radius and outline, then measure."""
    pixels = kernel / grid.spacing_um[0]
    low, high = LEVELS[0] * mean, LEVELS[1] * mean
    mask, radius = rough, math.inf
    own = _inside_only(counts, mask, pixels, grid)
    level = 0.5
    for turn in range(_ROUNDS):
        level = max(0.25, 0.5 - kernel / (2.0 * math.sqrt(2.0 * math.pi) * radius))
        dense = mask & (own > low + level * (high - low))
        if turn == _ROUNDS // 2:
            mask = _edge_by_density(density, dense, rough, (low, high), grid, pixels)
            own = _inside_only(counts, mask, pixels, grid)
            dense = mask & (own > low + level * (high - low))
        radius = _median_radius(dense, grid, kernel)
        low, high = _levels(own, dense, mask, (low, high), pixels)
    values = ((own - low) / (high - low)).astype(np.float64)
    values[_bridges(mask & (values > level), mask, pixels)] = 0.0
    phase = Field(values, grid, "1", mask)
    nucleus_um = math.sqrt(np.count_nonzero(mask) * grid.pixel_volume_um / math.pi)
    # Noise moves edges by some part of a kernel, and a domain that it moves outwards becomes a LAD, never the reverse.
    begins = max(LAD_FRACTION / 5.0, LAD_FRACTION - kernel / nucleus_um)
    found = measure_domains(phase, mask, phi_max=1.0, threshold=level, lad_fraction=begins,
                            min_size_um=LEAST_DOMAIN_KERNELS * kernel**2)  # fmt: skip
    return LocalizedDomains(found, phase, mask, level, kernel, high / low)


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
    return math.sqrt(float(np.median(areas)) / math.pi) if areas.size else math.inf


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


def _grid(outline: Mask, grid: Grid, kernel: float) -> Grid:
    """Pixels of a quarter kernel around the nucleus."""
    rows, columns = (np.flatnonzero(outline.any(axis=axis)) for axis in (1, 0))
    margin = EDGE_UM + 4.0 * kernel
    axes = list(zip(grid.origin_um, grid.spacing_um, (rows, columns), strict=True))
    low = [o + h * (i[0] - 0.5) - margin for o, h, i in axes]
    high = [o + h * (i[-1] + 0.5) + margin for o, h, i in axes]
    pixel = kernel / PIXELS_PER_KERNEL
    pixel = max(pixel, math.sqrt((high[0] - low[0]) * (high[1] - low[1]) / MAX_PIXELS))
    shape = tuple(math.ceil((b - a) / pixel) + 1 for a, b in zip(low, high, strict=True))
    return Grid(shape, (pixel, pixel), (low[0], low[1]))


def _counts(y_um: np.ndarray, x_um: np.ndarray, grid: Grid) -> np.ndarray:
    rows, columns = (
        np.rint((v - o) / h).astype(np.int64)
        for v, o, h in zip((y_um, x_um), grid.origin_um, grid.spacing_um, strict=True)
    )
    here = (rows >= 0) & (rows < grid.shape[0]) & (columns >= 0) & (columns < grid.shape[1])
    flat = rows[here] * grid.shape[1] + columns[here]
    return np.bincount(flat, minlength=math.prod(grid.shape)).reshape(grid.shape).astype(np.float32)


def _at(mask: Mask, grid: Grid, y_um: np.ndarray, x_um: np.ndarray) -> np.ndarray:
    """The mask at positions; False beyond it."""
    rows, columns = (
        np.rint((v - o) / h).astype(np.int64)
        for v, o, h in zip((y_um, x_um), grid.origin_um, grid.spacing_um, strict=True)
    )
    here = (rows >= 0) & (rows < mask.shape[0]) & (columns >= 0) & (columns < mask.shape[1])
    found = np.zeros(len(rows), dtype=bool)
    found[here] = mask[rows[here], columns[here]]
    return found


def _on_grid(mask: Mask, source: Grid, grid: Grid) -> Mask:
    rows, columns = (
        np.rint((o + h * np.arange(n) - so) / sh).astype(np.int64)
        for o, h, n, so, sh in zip(
            grid.origin_um, grid.spacing_um, grid.shape, source.origin_um, source.spacing_um, strict=True
        )
    )
    padded = np.pad(mask, 1)
    return padded[np.ix_(np.clip(rows + 1, 0, mask.shape[0] + 1), np.clip(columns + 1, 0, mask.shape[1] + 1))]
