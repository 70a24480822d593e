"""Localisations to a density on pixels.

Kernel estimate: each localisation is a Gaussian of its own precision,

    ρ(r) = Σᵢ g(r - rᵢ; σᵢ)

and the sum is histograms by class of σ, filtered with the kernel.

Voronoi estimate: ρ at a pixel is 1 / area of the cell of the nearest localisation, its relative error is near 1.

References
----------
Levet et al., Nat. Methods 12, 1065 (2015), doi:10.1038/nmeth.3579 (Voronoi density of localisations).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import correlate1d
from scipy.spatial import QhullError, Voronoi, cKDTree

from chromamol.errors import ImageContentError, ParameterError
from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.io import Localizations
from chromamol.io.pixel_size import PIXEL_SIZE_RANGE_UM, require_range
from chromamol.io.source import require_memory

METHODS = ("kernel", "voronoi")

UNKNOWN_PRECISION_UM = 0.02
"""Where a table states no precision: 20 nm, usual for dyes in fixed cells. Its use is noted."""

SIGMA_CLASS_RATIO = 1.25
"""Precisions within this ratio share a class, filtered with its root mean square: within 12 % of each."""

COUNTS_PER_PIXEL = 4.0
"""Localisations in the pixel that is chosen where none is asked for. Counting then errs by half of the density per
pixel; in pixels of 5 nm over sparse localisations by many times the density, which no nonlinear fit survives."""

COARSE_BIN_UM = 0.25

MARGIN_SIGMAS = 4.0

MAX_PIXELS = 16_000_000
"""4000²: beyond, the pixel is made coarser, and that is noted."""


@dataclass(frozen=True, eq=False)
class LocalizationDensity:
    """Density of localisations.

    Parameters
    ----------
    density : localisations per µm², with the grid of the pixels.
    blur_um : standard deviation of the blur in the result: precision of the data, kernel and pixel together, µm.
    notes : what was decided, for the record.
    """

    density: Field
    blur_um: float
    notes: tuple[str, ...]


def localization_density(
    table: Localizations,
    *,
    pixel_size_um: float | None = None,
    method: str = "kernel",
    margin_um: float = 0.0,
) -> LocalizationDensity:
    """Estimate the density of localisations on pixels.

    Parameters
    ----------
    table : localisations of one channel; where they have z, the density is that of the projection.
    pixel_size_um : of the density; when None the median precision, 5 nm, or the side of a square that holds 4
        localisations where they are dense, whichever is largest.
    method : "kernel" or "voronoi".
    margin_um : least width of the empty frame in the plane; that of the kernel, or of 2 pixels, when it is less.

    Raises
    ------
    ImageContentError : fewer than 10 localisations, or all in one place.
    ParameterError : an unknown method.
    PixelSizeError : an absurd pixel.
    """
    if method not in METHODS:
        raise ParameterError(f"method = {method!r}.", expected="'kernel' or 'voronoi'.", do="use 'kernel'.")
    points = np.stack([table.y_um, table.x_um], axis=1)
    if len(points) < 10 or not np.all(np.ptp(points, axis=0) > 0.0):
        raise ImageContentError(f"{table.name}: {len(points)} localisations, or all on one line.",
                                expected="thousands of localisations over a nucleus.",
                                do="check the channel and the columns.")  # fmt: skip
    sigma, notes = _precision(table)
    grid, more = _grid(points, float(np.median(sigma)), pixel_size_um, margin_um)
    require_memory(5 * 8 * math.prod(grid.shape), name=table.name)
    precision = float(np.median(sigma))
    # The taps leave out what binning has blurred already, but no kernel is narrower than the pixel it is binned in.
    kernel = max(precision, grid.spacing_um[-1] / math.sqrt(12.0)) if method == "kernel" else 0.0
    blur = math.hypot(precision, kernel)
    estimate = _kernel if method == "kernel" else _voronoi
    values, valid = estimate(points, sigma, grid)
    return LocalizationDensity(
        Field(values, grid, "um^-2", valid), blur, (*notes, *more, f"density: {method}")
    )


def _precision(table: Localizations) -> tuple[np.ndarray, list[str]]:
    stated = np.full(len(table), np.nan) if table.precision_um is None else table.precision_um
    known = np.isfinite(stated)
    if not known.any():
        note = f"no precision in the table: {1e3 * UNKNOWN_PRECISION_UM:g} nm assumed"
        return np.full(len(table), UNKNOWN_PRECISION_UM), [note]
    median = float(np.median(stated[known]))
    return np.where(known, stated, median), [f"median precision {1e3 * median:.3g} nm"]


def _grid(
    points: np.ndarray, sigma: float, pixel_size_um: float | None, margin_um: float
) -> tuple[Grid, list[str]]:
    notes = []
    pixel = max(sigma, 0.005, _counting_pixel(points)) if pixel_size_um is None else pixel_size_um
    require_range("pixel of the density", pixel, PIXEL_SIZE_RANGE_UM, option="--set density_pixel_um=")
    low, high = points.min(axis=0), points.max(axis=0)
    while True:
        margin = max(MARGIN_SIGMAS * sigma, 2.0 * pixel, margin_um)
        shape = tuple(int(n) for n in np.ceil((high - low + 2.0 * margin) / pixel) + 1)
        if math.prod(shape) <= MAX_PIXELS or pixel >= PIXEL_SIZE_RANGE_UM[1]:
            break
        pixel *= 1.25
    if pixel_size_um is not None and pixel != pixel_size_um:
        notes.append(
            f"pixel of {1e3 * pixel:.3g} nm in place of {1e3 * pixel_size_um:.3g}: the field is too large"
        )
    notes.append(f"pixel of the density {1e3 * pixel:.3g} nm")
    return Grid(shape, (pixel, pixel), tuple(float(v) for v in low - margin)), notes


def _counting_pixel(points: np.ndarray) -> float:
    """Side in µm of a square with `COUNTS_PER_PIXEL` localisations, at the density that the median one sees."""
    bins = np.floor((points - points.min(axis=0)) / COARSE_BIN_UM).astype(np.int64)
    _, which, counts = np.unique(bins[:, 0] * (bins[:, 1].max() + 1) + bins[:, 1], return_inverse=True,
                                 return_counts=True)  # fmt: skip
    return COARSE_BIN_UM * math.sqrt(COUNTS_PER_PIXEL / float(np.median(counts[which])))


def _kernel(points: np.ndarray, sigma: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray | None]:
    index = np.zeros(len(points), dtype=np.int64)
    for axis, (n, h, origin) in enumerate(zip(grid.shape, grid.spacing_um, grid.origin_um, strict=True)):
        index *= n
        index += np.clip(np.rint((points[:, axis] - origin) / h).astype(np.int64), 0, n - 1)
    classes = np.floor(np.log(sigma / sigma.min()) / math.log(SIGMA_CLASS_RATIO)).astype(np.int64)
    values = np.zeros(grid.shape)
    widest = min(grid.shape) * max(grid.spacing_um)
    for number in np.unique(classes):
        chosen = classes == number
        # Root mean square of the class; wider than the field is as good as flat.
        width = min(float(np.sqrt(np.mean(np.square(sigma[chosen])))), widest)
        kernels = [_taps(width, h) for h in grid.spacing_um]
        counts = np.bincount(index[chosen], minlength=values.size).reshape(grid.shape).astype(np.float64)
        values += _filtered(counts, kernels)
    return values / grid.pixel_volume_um, None


def _taps(width: float, spacing: float) -> np.ndarray:
    """Return a Gaussian's taps, of sum 1; binning has blurred by h² / 12 already, which the taps leave out."""
    pixels = math.sqrt(max(width**2 - spacing**2 / 12.0, 0.0)) / spacing
    if pixels < 0.1:
        return np.ones(1)
    offsets = np.arange(-math.ceil(MARGIN_SIGMAS * pixels), math.ceil(MARGIN_SIGMAS * pixels) + 1)
    taps = np.exp(-0.5 * np.square(offsets / pixels))
    return np.asarray(taps / taps.sum())


def _filtered(counts: np.ndarray, kernels: list[np.ndarray]) -> np.ndarray:
    for axis, taps in enumerate(kernels):
        counts = correlate1d(counts, taps, axis=axis, mode="constant")
    return counts


def _voronoi(points: np.ndarray, _: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Cells without an end, or that reach beyond the localisations, have no area: pixels in them are not valid."""
    unique, counts = np.unique(points, axis=0, return_counts=True)
    try:
        cells = Voronoi(unique)
    except QhullError as error:
        raise ImageContentError("Localisations without Voronoi cells.", expected="points spread over an area.",
                                do="use the kernel density.") from error  # fmt: skip
    area = _cell_areas(cells, unique.min(axis=0), unique.max(axis=0))
    centres = [
        o + h * np.arange(n) for o, h, n in zip(grid.origin_um, grid.spacing_um, grid.shape, strict=True)
    ]
    pixels = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1).reshape(-1, grid.ndim)
    nearest = cKDTree(unique).query(pixels)[1].reshape(grid.shape)
    density = np.where(np.isfinite(area), counts / area, 0.0)[nearest]
    return density, np.isfinite(area)[nearest]


def _cell_areas(cells: Voronoi, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the area of each point's cell in 2D, µm²; NaN where it is unbounded or leaves the box of the points."""
    regions = [cells.regions[number] for number in cells.point_region]
    lengths = np.array([len(region) for region in regions])
    corners = np.concatenate([np.asarray(region, dtype=np.int64) for region in regions])
    owner = np.repeat(np.arange(len(regions)), lengths)
    ends = np.cumsum(lengths)
    following = np.arange(corners.size) + 1
    following[ends[lengths > 0] - 1] = (ends - lengths)[lengths > 0]
    vertices = cells.vertices[corners]
    after = vertices[following]
    cross = vertices[:, 0] * after[:, 1] - vertices[:, 1] * after[:, 0]
    area = 0.5 * np.abs(np.bincount(owner, cross, len(regions)))
    outside = (corners < 0) | np.any((vertices < low) | (vertices > high), axis=1)
    bad = (np.bincount(owner, outside, len(regions)) > 0) | (lengths == 0) | (area <= 0.0)
    return np.where(bad, np.nan, area)
