"""Nuclei in a localisation table (STORM, PALM): where localisations are dense."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int32
from scipy import ndimage
from skimage.filters import threshold_otsu

from chromamol.errors import FieldError, ImageContentError
from chromamol.nucleus import outline
from chromamol.nucleus.split import nuclear_relief, split_touching

MAX_PIXELS = 64_000_000
PIXEL_UM, SMOOTHING_UM = 0.05, 0.25

MARGIN_UM = 4 * SMOOTHING_UM + 2 * PIXEL_UM
"""How far beyond the localisations their smoothed density reaches, and so how far an outline could."""

NECK_FALL = 0.3
"""Two touching nuclei have a neck a quarter narrower than themselves: log(4 / 3)."""


@dataclass(frozen=True, eq=False)
class LocalizationNuclei:
    """Nuclei of a localisation table.

    Parameters
    ----------
    labels : (y, x), 0 = background, 1..n.
    origin_um : (y, x) of the centre of the first pixel.
    pixel_size_um : side of a pixel.
    density_per_um2 : smoothed localisations per µm², on the same pixels.
    nucleus : for each localisation the nucleus it lies in, 0 = none.
    """

    labels: Int32[np.ndarray, "y x"]
    origin_um: tuple[float, float]
    pixel_size_um: float
    density_per_um2: Float32[np.ndarray, "y x"]
    nucleus: Int32[np.ndarray, " localizations"]


def outline_localizations(
    x_um: Float[np.ndarray, " x"],
    y_um: Float[np.ndarray, " y"],
    *,
    pixel_size_um: float = PIXEL_UM,
    smoothing_um: float = SMOOTHING_UM,
    min_diameter_um: float = 3.0,
) -> LocalizationNuclei:
    """Outline nuclei in a table of localisations.

    The density is smoothed over the texture of chromatin; the outline lies where it passes half of the nucleus's
    own density, which is where a straight edge was before it was smoothed.

    Parameters
    ----------
    x_um, y_um : positions in µm.
    pixel_size_um : side of the pixels in which localisations are counted.
    smoothing_um : standard deviation of the Gaussian: wider than chromatin domains, narrower than a nucleus.
    min_diameter_um : what is smaller is no nucleus.

    Raises
    ------
    FieldError : positions that differ in number, are not finite, or span a field that is too large.
    ImageContentError : no nucleus.
    """
    _require_positions(x_um, y_um, pixel_size_um, smoothing_um)
    margin = 4 * smoothing_um + 2 * pixel_size_um
    origin = (float(y_um.min()) - margin, float(x_um.min()) - margin)
    shape = tuple(
        math.ceil((float(v.max()) + margin - o) / pixel_size_um) + 1
        for v, o in zip((y_um, x_um), origin, strict=True)
    )
    if math.prod(shape) > MAX_PIXELS:
        raise FieldError(
            f"Localisations over {shape[0] * pixel_size_um:.0f} x {shape[1] * pixel_size_um:.0f} um.",
            expected=f"at most {MAX_PIXELS} pixels of {pixel_size_um} um.",
            do="check the unit of the positions, remove stray ones, or use larger pixels.",
        )
    rows = np.rint((y_um - origin[0]) / pixel_size_um).astype(np.intp)
    columns = np.rint((x_um - origin[1]) / pixel_size_um).astype(np.intp)
    counts = np.bincount(rows * shape[1] + columns, minlength=math.prod(shape)).reshape(shape)
    density = ndimage.gaussian_filter(counts / pixel_size_um**2, smoothing_um / pixel_size_um)
    labels = _label(density.astype(np.float32), pixel_size_um, min_diameter_um)
    if not labels.any():
        raise ImageContentError(
            f"No nucleus among {len(x_um)} localisations.",
            expected=f"a dense region at least {min_diameter_um} um wide.",
            do="check the unit of the positions, or give outlines with --labels.",
        )
    return LocalizationNuclei(
        labels, origin, pixel_size_um, density.astype(np.float32), labels[rows, columns]
    )


def _require_positions(x_um: np.ndarray, y_um: np.ndarray, pixel_size_um: float, smoothing_um: float) -> None:
    finite = bool(np.isfinite(x_um).all() and np.isfinite(y_um).all())
    if len(x_um) != len(y_um) or not len(x_um) or not finite or min(pixel_size_um, smoothing_um) <= 0:
        raise FieldError(
            f"{len(x_um)} x and {len(y_um)} y positions, {'all' if finite else 'not all'} finite; pixels of "
            f"{pixel_size_um} um, smoothing of {smoothing_um} um.",
            expected="as many x as y, at least one, finite; positive lengths.",
            do="check the columns of the table.",
        )


def _label(
    density: Float32[np.ndarray, "y x"], pixel_size_um: float, min_diameter_um: float
) -> Int32[np.ndarray, "y x"]:
    # The square root makes counting noise as wide in dense as in sparse regions, as a threshold wants it.
    root = np.sqrt(np.maximum(density, 0))
    mask = ndimage.binary_fill_holes(root > threshold_otsu(root))
    spacing = (pixel_size_um, pixel_size_um)
    radius = _median_radius(mask, pixel_size_um)
    relief = nuclear_relief(mask, root, spacing=spacing, radius=radius, intensity_weight=0.0)
    rough = split_touching(mask, relief, min_fall=NECK_FALL)
    fine = outline.refine(
        rough, density, spacing=spacing, radius=radius, fraction=0.5, smooth_radii=0.05, min_contrast=0.0
    )
    least = math.pi / 4 * min_diameter_um**2 / pixel_size_um**2
    areas = np.bincount(fine.ravel())
    numbers = np.zeros(len(areas), dtype=np.int32)
    kept = [n for n in range(1, len(areas)) if areas[n] >= least]
    numbers[kept] = np.arange(1, len(kept) + 1)
    return numbers[fine]


def _median_radius(mask: np.ndarray, pixel_size_um: float) -> float:
    """Radius of the part that the median pixel of the mask belongs to."""
    parts, _ = ndimage.label(mask)
    areas = np.sort(np.bincount(parts.ravel())[1:])
    total = np.cumsum(areas)
    area = float(areas[np.searchsorted(total, total[-1] / 2)])
    return math.sqrt(area / math.pi) * pixel_size_um
