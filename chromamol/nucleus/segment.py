"""Which pixels are a nucleus: classical segmentation, no weights, 2D and 3D through one path.

The image becomes contrast above a local background in units of the background's spread; a global and a local
threshold give a mask; the mask is split where nuclei touch; each nucleus's outline is then put where its own
edge is half-way between its brightness and its surroundings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32
from scipy import ndimage
from skimage.filters import threshold_otsu

from chromamol.errors import FieldError, ImageContentError, ParameterError
from chromamol.nucleus import background as bg
from chromamol.nucleus import outline
from chromamol.nucleus.split import nuclear_relief, split_touching
from chromamol.shapes import Labels, Mask

Image = Float32[np.ndarray, "..."]


@dataclass(frozen=True)
class SegmentationSettings:
    """Settings of `segment_nuclei`. Lengths are fractions of the nuclear radius seen in the image."""

    denoise_radii: float = 0.08
    """Gaussian before thresholding: removes pixel noise, an order below the nuclear radius."""
    texture_radii: float = 0.35
    """Gaussian before splitting: smooths over chromatin texture, keeps the seam between two nuclei."""
    background_radii: float = 5.0
    """Reach of the local background: wider than a clump of nuclei, narrower than the illumination."""
    local_radii: float = 2.0
    """Reach of the local threshold: a nucleus and its surroundings."""
    global_fraction: float = 0.5
    """Part of Otsu's threshold (on log contrast) that a pixel needs: below one, so that dim nuclei stay."""
    local_fraction: float = 0.5
    """Part of the local contrast that a pixel needs."""
    outline_fraction: float = 0.5
    """Where the outline lies between surroundings and nucleus: a blurred edge keeps its place at one half."""
    intensity_weight: float = 0.5
    """Weight of brightness against depth when touching nuclei are split."""
    min_fall: float = 0.15
    """Log depth of the valley that separates two nuclei: a neck 14 % narrower than the smaller one."""
    min_contrast: float = 5.0
    """Least contrast of a nucleus in spreads of the background: noise reaches 4 by chance."""
    min_relative_area: float = 0.1
    """Smaller than this part of the median nucleus is debris."""
    min_diameter_um: float = 2.0
    """With a pixel size: smaller is debris whatever the other nuclei are."""
    smooth_radii: float = 0.1
    """Gaussian on each outline: removes pixel steps and spurs."""

    def __post_init__(self) -> None:
        bad = {name: value for name, value in vars(self).items() if not value >= 0}
        if bad:
            raise ParameterError(
                f"Segmentation settings {bad}.", expected="numbers of at least zero.", do="correct them."
            )


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
    radius = nuclear_radius(values, spacing)
    if radius is None:
        return empty
    contrast, spread = _contrast(values, marks, spacing, radius, settings)
    mask = _foreground(contrast, spread, spacing, radius, settings) & ~marks
    if not mask.any():
        return empty
    bright = ndimage.gaussian_filter(contrast, [settings.texture_radii * radius / s for s in spacing])
    relief = nuclear_relief(
        mask, bright, spacing=spacing, radius=radius, intensity_weight=settings.intensity_weight
    )
    labels = split_touching(mask, relief, min_fall=settings.min_fall)
    labels = outline.refine(
        labels, contrast, spacing=spacing, radius=radius, fraction=settings.outline_fraction,
        smooth_radii=settings.smooth_radii, min_contrast=settings.min_contrast * spread,
    )  # fmt: skip
    labels[marks] = 0
    least = 0.0 if unit_um is None else settings.min_diameter_um / unit_um
    return outline.drop_debris(
        labels, spacing=spacing, min_relative_area=settings.min_relative_area, min_diameter=least
    )


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


def nuclear_radius(values: Image, spacing: tuple[float, ...]) -> float | None:
    """Estimate the typical nuclear radius, in units of the finest pixel spacing; None for an empty image.

    A rough Otsu mask's depth (distance to its border) peaks at the radius of each nucleus, also in clumps;
    large peaks count by their area so that debris doesn't.
    """
    rough = ndimage.gaussian_filter(values, [1.0 / s for s in spacing])
    level, spread = bg.level_and_spread(rough)
    light = np.arcsinh(np.maximum(rough - level, 0) / max(4 * spread, 1e-3 * float(np.ptp(rough))))
    if np.ptp(light) == 0:
        return None
    mask = ndimage.binary_fill_holes(light > threshold_otsu(light))
    depth = ndimage.distance_transform_edt(mask, sampling=spacing)
    depth = ndimage.gaussian_filter(depth, [1.0 / s for s in spacing])
    window = tuple(2 * max(1, round(2 / s)) + 1 for s in spacing)
    peaks = depth[(depth == ndimage.maximum_filter(depth, size=window)) & mask]
    if peaks.size == 0:
        return None
    peaks = np.sort(peaks)
    share = np.cumsum(peaks**2)
    return max(2.0, float(peaks[np.searchsorted(share, share[-1] / 2)]))


def _contrast(
    values: Image, marks: Mask, spacing: tuple[float, ...], radius: float, settings: SegmentationSettings
) -> tuple[Image, float]:
    """Return the denoised light above the local background, and the spread of that background."""
    smooth = ndimage.gaussian_filter(values, [settings.denoise_radii * radius / s for s in spacing])
    level, spread = bg.level_and_spread(smooth[~marks])
    light = np.arcsinh(np.maximum(smooth - level, 0) / max(4 * spread, 1e-3 * float(np.ptp(smooth))))
    dark = light < threshold_otsu(light)
    margin = max(1, round(0.3 * radius))
    dark = ~ndimage.binary_dilation(~dark, iterations=margin) & ~marks
    if np.count_nonzero(dark) > 0.02 * dark.size:
        reach = tuple(settings.background_radii * radius / s for s in spacing)
        local = bg.smooth_where(smooth, dark, reach)
    else:
        local = np.full_like(smooth, level)
    contrast = smooth - local
    _, spread = bg.level_and_spread(contrast[~marks])
    return contrast.astype(np.float32), max(spread, 1e-4 * float(np.ptp(contrast)))


def _foreground(
    contrast: Image, spread: float, spacing: tuple[float, ...], radius: float, settings: SegmentationSettings
) -> Mask:
    light = np.arcsinh(np.maximum(contrast, 0) / (4 * spread)).astype(np.float32)
    otsu = 4 * spread * np.sinh(threshold_otsu(light))
    least = max(settings.global_fraction * otsu, 3 * spread)
    loose = contrast > least
    reach = tuple(settings.local_radii * radius / s for s in spacing)
    inside = bg.smooth_where(contrast, loose, reach)
    outside = bg.smooth_where(contrast, ~loose, reach)
    local = outside + settings.local_fraction * (inside - outside)
    # Far from any nucleus `inside` is meaningless; near a bright one the local level may not hide a dim one.
    mask = loose & (contrast > np.minimum(local, otsu))
    return ndimage.binary_fill_holes(mask)
