"""Which pixels are a nucleus: classical segmentation, no weights, 2D and 3D through one path.

The image itself tells how large nuclei are; a threshold between the bright and the dark level around each
pixel gives a mask; the mask is cut into pieces, and pieces of one nucleus are joined again; each nucleus's
outline is then put at a fixed part of the height of its own edge.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

from chromamol.errors import FieldError, ImageContentError
from chromamol.nucleus import background as bg
from chromamol.nucleus import outline
from chromamol.nucleus.foreground import nuclear_pixels, soft_root
from chromamol.nucleus.join import join_pieces
from chromamol.nucleus.scale import SMALLEST_RADIUS, nuclear_radius
from chromamol.nucleus.settings import SegmentationSettings
from chromamol.nucleus.split import nuclear_relief, split_touching
from chromamol.shapes import Labels

Image = Float32[np.ndarray, "..."]


def segment_nuclei(
    image: np.ndarray,
    *,
    pixel_size_um: float | int | tuple[float, ...] | None = None,
    settings: SegmentationSettings | None = None,
) -> Labels:
    """Find the nuclei in an image of a DNA stain.

    Parameters
    ----------
    image : real (y, x) or (z, y, x) intensities of any dtype, nuclei brighter than the rest.
    pixel_size_um : pixel spacing in µm, one number or one per axis. Without it the pixels count as isotropic
        and nuclear size is taken from the image alone.
    settings : `SegmentationSettings`; defaults when omitted.

    Returns
    -------
    int32 labels of the image's shape: 0 = background, 1..n in the order of first pixels. All zero when
    nothing stands out of the background. Nuclei cut by the border are kept.

    Raises
    ------
    FieldError : the image isn't real (y, x) or (z, y, x), or the pixel size doesn't fit its axes.
    ImageContentError : some pixels are NaN or infinite.
    """
    settings = settings or SegmentationSettings()
    values = _checked(image)
    spacing, unit_um = _relative_spacing(pixel_size_um, values.ndim)
    empty = np.zeros(image.shape, dtype=np.int32)
    marks = bg.burned_in(image)
    if marks.all() or values.min() == values.max():
        return empty
    values[marks] = np.median(values[~marks])
    radius = nuclear_radius(soft_root(values), spacing, limits=_radius_limits(unit_um, settings))
    if radius is None:
        return empty
    rough = _find_on_blocks(values, spacing, radius, settings)
    if rough.any():
        seen = _radius_of(rough, spacing)
        if not 1 / settings.rescale_ratio < seen / radius < settings.rescale_ratio:
            radius = max(SMALLEST_RADIUS, seen)
            rough = _find_on_blocks(values, spacing, radius, settings)
    smooth = ndimage.gaussian_filter(values, [settings.denoise_radii * radius / h for h in spacing])
    level, spread = bg.level_and_spread(smooth[~marks])
    labels = outline.refine(
        rough, smooth, spacing=spacing, radius=radius, fraction=settings.outline_fraction,
        smooth_radii=settings.smooth_radii, min_contrast=settings.min_contrast * spread,
    )  # fmt: skip
    labels[marks] = 0
    least = 0.0 if unit_um is None else settings.min_diameter_um / unit_um
    return outline.drop_debris(
        labels, smooth, level=level, spacing=spacing, min_relative_light=settings.min_relative_light,
        min_relative_area=settings.min_relative_area, min_diameter=least,
    )  # fmt: skip


def _checked(image: np.ndarray) -> Image:
    if image.ndim not in (2, 3) or not (np.issubdtype(image.dtype, np.number) or image.dtype == bool):
        raise FieldError(
            f"Image of shape {image.shape} and type {image.dtype}.",
            expected="real (y, x) or (z, y, x).",
            do="choose one channel and one time point.",
        )
    if np.iscomplexobj(image) or 0 in image.shape:
        raise FieldError(
            f"Image of shape {image.shape} and type {image.dtype}.",
            expected="real values and at least one pixel.",
            do="check how the image was read.",
        )
    bad = int(image.size - np.count_nonzero(np.isfinite(image)))
    if bad:
        raise ImageContentError(
            f"Image with {bad} NaN or infinite pixels.",
            expected="finite intensities.",
            do="replace them, or crop the image.",
        )
    # Subtracting in float64 first keeps float32 exact enough for large offsets.
    values = image.astype(np.float64)
    return (values - values.min()).astype(np.float32)


def _relative_spacing(
    pixel_size_um: float | int | tuple[float, ...] | None, ndim: int
) -> tuple[tuple[float, ...], float | None]:
    """Return the spacing in units of the finest axis, and that unit in µm."""
    if pixel_size_um is None:
        return (1.0,) * ndim, None
    sizes = pixel_size_um if isinstance(pixel_size_um, tuple) else (pixel_size_um,) * ndim
    if len(sizes) != ndim or not all(np.isfinite(s) and s > 0 for s in sizes):
        raise FieldError(
            f"Pixel size {pixel_size_um} um for an image with {ndim} axes.",
            expected="one positive number, or one for each axis.",
            do="give (z, y, x) or (y, x) spacings in um.",
        )
    unit = float(min(sizes))
    return tuple(float(s) / unit for s in sizes), unit


def _radius_limits(unit_um: float | None, settings: SegmentationSettings) -> tuple[float, float]:
    """Smallest and largest nuclear radius in units of the finest pixel spacing."""
    low, high = settings.radius_limits_um
    return (0.0, np.inf) if unit_um is None else (low / unit_um, high / unit_um)


def _find_on_blocks(
    values: Image, spacing: tuple[float, ...], radius: float, settings: SegmentationSettings
) -> Labels:
    """Find nuclei on block means, where they are some ten pixels wide; label the pixels of the full image."""
    factors = tuple(max(1, int(radius / (settings.working_radius * h))) for h in spacing)
    coarse = tuple(h * f for h, f in zip(spacing, factors, strict=True))
    return _repeat(_find(bg.block_mean(values, factors), coarse, radius, settings), factors, values.shape)


def _repeat(labels: Labels, factors: tuple[int, ...], shape: tuple[int, ...]) -> Labels:
    for axis, factor in enumerate(factors):
        labels = np.repeat(labels, factor, axis=axis)
    return labels[tuple(slice(n) for n in shape)]


def _find(values: Image, spacing: tuple[float, ...], radius: float, settings: SegmentationSettings) -> Labels:
    """Label the nuclei roughly: adaptive mask, cut into pieces, pieces joined."""
    smooth = ndimage.gaussian_filter(values, [settings.denoise_radii * radius / h for h in spacing])
    light = soft_root(smooth)
    mask = nuclear_pixels(light, spacing=spacing, radius=radius, settings=settings)
    # Noise falls into thousands of pieces, which take minutes to join; no nucleus would come of them.
    level, spread = bg.level_and_spread(smooth)
    if not mask.any() or np.percentile(smooth[mask], 99) < level + settings.min_contrast * spread:
        return np.zeros(mask.shape, dtype=np.int32)
    bright = ndimage.gaussian_filter(light, [settings.texture_radii * radius / h for h in spacing])
    relief = nuclear_relief(
        mask, bright, spacing=spacing, radius=radius, intensity_weight=settings.intensity_weight
    )
    pieces = split_touching(mask, relief, min_fall=settings.min_fall)
    fine = ndimage.gaussian_filter(light, [settings.seam_radii * radius / h for h in spacing])
    return join_pieces(pieces, fine, spacing=spacing, radius=radius, weights=settings.seam)


def _radius_of(labels: Labels, spacing: tuple[float, ...]) -> float:
    """Radius of the nucleus that the median labelled pixel belongs to."""
    sizes = np.sort(np.bincount(labels.ravel())[1:]) * math.prod(spacing)
    share = np.cumsum(sizes)
    size = float(sizes[np.searchsorted(share, share[-1] / 2)])
    return math.sqrt(size / math.pi) if labels.ndim == 2 else (3 * size / (4 * math.pi)) ** (1 / 3)
