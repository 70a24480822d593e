"""From labels to nuclei: where each one is, how large, and what may be doubtful about it."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

from chromamol.errors import FieldError
from chromamol.grid import equivalent_radius
from chromamol.nucleus.boxes import label_boxes
from chromamol.nucleus.compare import Nucleus, compare
from chromamol.shapes import FloatField, Labels, Mask

SATURATED_FRACTION = 1e-3  # one hot pixel is no saturation
FULL_SCALES = tuple(2**bits - 1 for bits in (8, 10, 11, 12, 14, 16))


def find_nuclei(
    labels: Labels,
    image: np.ndarray,
    *,
    spacing_um: tuple[float, ...],
    saturation_level: float | int | np.ndarray | None = None,
    saturated: Mask | None = None,
    margin_um: float = 1.0,
) -> list[Nucleus]:
    """Measure and flag every nucleus of a label image.

    Parameters
    ----------
    labels : integer (y, x) or (z, y, x); 0 = background. Labels may have gaps.
    image : intensities of the same shape, as read (integer types show their full scale).
    spacing_um : pixel spacing along each axis, in µm.
    saturation_level : intensity at which the detector saturates, a number or one per pixel. When omitted, an
        integer image whose maximum is exactly the full scale of 8, 10, 11, 12, 14 or 16 bits saturates there; other
        images don't saturate.
    saturated : which pixels are saturated, in place of a level: `image` may be a mean, or several channels together.
    margin_um : margin of the crop around each nucleus, in µm.

    Returns
    -------
    Nuclei in the order of their labels; empty for an empty label image.

    Raises
    ------
    FieldError : shapes or spacing don't fit.
    """
    if labels.shape != image.shape or len(spacing_um) != labels.ndim or min(spacing_um) <= 0 or margin_um < 0:
        raise FieldError(
            f"Labels of shape {labels.shape}, image of shape {image.shape}, spacing {spacing_um} um, "
            f"margin {margin_um} um.",
            expected="one shape for both, one positive spacing per axis, a margin of at least zero.",
            do="check which channel and which pixel size belong to the labels.",
        )
    if saturated is None:
        saturated = np.asarray(
            image >= (_full_scale(image) if saturation_level is None else saturation_level)
        )
    nuclei = [
        _measure(label, box, labels, image, spacing_um, saturated, margin_um)
        for label, box in label_boxes(labels)
    ]
    return compare(nuclei)


def _full_scale(image: np.ndarray) -> float:
    top = float(image.max()) if image.size else 0.0
    return top if np.issubdtype(image.dtype, np.integer) and top in FULL_SCALES else math.inf


def _measure(
    label: int,
    box: tuple[slice, ...],
    labels: Labels,
    image: np.ndarray,
    spacing: tuple[float, ...],
    saturated: Mask,
    margin_um: float,
) -> Nucleus:
    margin = [math.ceil(margin_um / h) for h in spacing]
    crop = tuple(
        slice(max(0, s.start - m), min(n, s.stop + m))
        for s, m, n in zip(box, margin, labels.shape, strict=True)
    )
    mask = labels[crop] == label
    size = float(np.count_nonzero(mask)) * math.prod(spacing)
    centre = [
        (float(c) + s.start) * h for c, s, h in zip(ndimage.center_of_mass(mask), crop, spacing, strict=True)
    ]
    flags = []
    if any(s.start == 0 or s.stop == n for s, n in zip(box, labels.shape, strict=True)):
        flags.append("touches_border")
    if np.count_nonzero(saturated[crop] & mask) > SATURATED_FRACTION * np.count_nonzero(mask):
        flags.append("saturated")
    flat = mask if mask.ndim == 2 else mask.any(axis=0)
    elongation, solidity = _shape(flat)
    return Nucleus(
        label=label,
        slices=crop,
        mask=mask,
        centroid_um=tuple(centre),
        area_um2=float(np.count_nonzero(flat)) * spacing[-1] * spacing[-2],
        volume_um3=size if mask.ndim == 3 else math.nan,
        equivalent_diameter_um=2 * equivalent_radius(size, mask.ndim),
        contrast=_contrast(mask, labels[crop], image[crop].astype(float)),
        elongation=elongation,
        solidity=solidity,
        edge_width_um=_edge_width(mask, labels[crop], image[crop].astype(float), spacing),
        flags=tuple(flags),
    )


def _contrast(mask: Mask, labels: Labels, image: FloatField) -> float:
    outside = image[(labels == 0) & ~ndimage.binary_dilation(mask, iterations=2)]
    return float(image[mask].mean() - np.median(outside)) if outside.size else math.nan


def _shape(flat: Mask) -> tuple[float, float]:
    """Elongation and solidity of a mask in the plane."""
    places = np.argwhere(flat).astype(float)
    # A pixel is no point: its own second moment keeps single rows finite.
    moments = np.cov(places.T, bias=True) + np.eye(2) / 12 if len(places) > 1 else np.eye(2) / 12
    short, long = np.linalg.eigvalsh(moments)
    corners = (places[:, None] + 0.5 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1]])).reshape(-1, 2)
    return math.sqrt(long / short), min(1.0, len(places) / float(ConvexHull(corners).volume))


def _edge_width(mask: Mask, labels: Labels, image: FloatField, spacing: tuple[float, ...]) -> float:
    """Width over which brightness rises at the free part of the border: rise / median slope, in µm."""
    if min(mask.shape[-2:]) < 3:
        return math.nan
    # In a z-stack the in-plane edge tells focus; the axial one is always blurred.
    in_plane = [0.0] * (mask.ndim - 2) + [1.0, 1.0]
    smooth = ndimage.gaussian_filter(image, in_plane, mode="nearest")
    slope_y, slope_x = np.gradient(smooth, *spacing[-2:], axis=(-2, -1))
    slope = np.hypot(slope_y, slope_x)
    plane = np.zeros((3,) * mask.ndim, dtype=bool)
    plane[(1,) * (mask.ndim - 2)] = True
    rim = ndimage.binary_dilation(mask, plane) & ~ndimage.binary_erosion(mask, plane, border_value=1)
    others = ndimage.binary_dilation((labels > 0) & ~mask, plane, iterations=2)
    rim &= ~others
    outside = (labels == 0) & ~rim
    if not rim.any() or not outside.any():
        return math.nan
    rise = float(np.median(image[mask]) - np.median(image[outside]))
    steepest = float(np.median(slope[rim]))
    return rise / steepest if rise > 0 and steepest > 0 else math.nan
