"""From labels to nuclei: where each one is, how large, and what may be doubtful about it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from chromamol.errors import FieldError
from chromamol.nucleus.flags import ordered
from chromamol.shapes import FloatField, Labels, Mask

MIN_DIAMETER_UM = 3.0  # yeast nuclei measure 2 um, the smallest of mammals 5
MAX_DIAMETER_UM = 40.0  # beyond polyploid hepatocytes and spread fibroblast nuclei
MIN_RELATIVE_SIZE = 0.3  # of the field's median area; a G1 nucleus is half a G2 one
MAX_RELATIVE_SIZE = 3.0
MIN_FIELD = 4  # fewer nuclei make no median to compare with
SATURATED_FRACTION = 1e-3  # one hot pixel is no saturation
OUT_OF_FOCUS_RATIO = 2.0  # edge width against the field's median
FULL_SCALES = tuple(2**bits - 1 for bits in (8, 10, 11, 12, 14, 16))


@dataclass(frozen=True, eq=False)
class Nucleus:
    """One nucleus of an image.

    Parameters
    ----------
    label : its number in the label image.
    slices : crop of the image that holds it, with a margin.
    mask : True inside the nucleus, on that crop.
    centroid_um : (y, x) or (z, y, x) from the centre of the image's first pixel, in µm.
    area_um2 : area in µm²; in 3D that of the shadow along z, what a 2D image would show.
    volume_um3 : volume in µm³; NaN in 2D.
    equivalent_diameter_um : diameter of the disc (2D) or ball (3D) of the same size, in µm.
    edge_width_um : width of the blurred edge, nuclear brightness over edge slope, in µm; NaN where no edge
        is free.
    flags : names from `chromamol.nucleus.flags`.
    """

    label: int
    slices: tuple[slice, ...]
    mask: Mask
    centroid_um: tuple[float, ...]
    area_um2: float
    volume_um3: float
    equivalent_diameter_um: float
    edge_width_um: float
    flags: tuple[str, ...]


def find_nuclei(
    labels: Labels,
    image: np.ndarray,
    *,
    spacing_um: tuple[float, ...],
    saturation_level: float | int | None = None,
    margin_um: float = 1.0,
) -> list[Nucleus]:
    """Measure and flag every nucleus of a label image.

    Parameters
    ----------
    labels : integer (y, x) or (z, y, x); 0 = background. Labels may have gaps.
    image : intensities of the same shape, as read (integer types show their full scale).
    spacing_um : pixel spacing along each axis, in µm.
    saturation_level : intensity at which the detector saturates. When omitted, an integer image whose
        maximum is exactly the full scale of 8, 10, 11, 12, 14 or 16 bits saturates there; other images don't
        saturate.
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
    level = _full_scale(image) if saturation_level is None else float(saturation_level)
    nuclei = []
    for index, box in enumerate(ndimage.find_objects(labels)):
        if box is not None:
            nuclei.append(_measure(index + 1, box, labels, image, spacing_um, level, margin_um))
    return _compare(nuclei)


def _full_scale(image: np.ndarray) -> float:
    top = float(image.max()) if image.size else 0.0
    return top if np.issubdtype(image.dtype, np.integer) and top in FULL_SCALES else math.inf


def _measure(
    label: int,
    box: tuple[slice, ...],
    labels: Labels,
    image: np.ndarray,
    spacing: tuple[float, ...],
    saturation_level: float,
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
    if np.count_nonzero(image[crop][mask] >= saturation_level) > SATURATED_FRACTION * np.count_nonzero(mask):
        flags.append("saturated")
    flat = mask if mask.ndim == 2 else mask.any(axis=0)
    diameter = 2 * (math.sqrt(size / math.pi) if mask.ndim == 2 else (3 * size / (4 * math.pi)) ** (1 / 3))
    return Nucleus(
        label=label,
        slices=crop,
        mask=mask,
        centroid_um=tuple(centre),
        area_um2=float(np.count_nonzero(flat)) * spacing[-1] * spacing[-2],
        volume_um3=size if mask.ndim == 3 else math.nan,
        equivalent_diameter_um=diameter,
        edge_width_um=_edge_width(mask, labels[crop], image[crop].astype(float), spacing),
        flags=tuple(flags),
    )


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


def _compare(nuclei: list[Nucleus]) -> list[Nucleus]:
    """Add the flags that need the other nuclei of the field: size and focus."""
    whole = [n for n in nuclei if "touches_border" not in n.flags]
    sizes = [n.area_um2 for n in whole]
    widths = [n.edge_width_um for n in nuclei if math.isfinite(n.edge_width_um)]
    size = float(np.median(sizes)) if len(sizes) >= MIN_FIELD else math.nan
    width = float(np.median(widths)) if len(widths) >= MIN_FIELD else math.nan
    result = []
    for nucleus in nuclei:
        flags = list(nucleus.flags)
        # Comparisons with NaN (too small a field) are False.
        small = nucleus.area_um2 < MIN_RELATIVE_SIZE * size and "touches_border" not in flags
        if small or nucleus.equivalent_diameter_um < MIN_DIAMETER_UM:
            flags.append("too_small")
        if nucleus.area_um2 > MAX_RELATIVE_SIZE * size or nucleus.equivalent_diameter_um > MAX_DIAMETER_UM:
            flags.append("too_large")
        if nucleus.edge_width_um > OUT_OF_FOCUS_RATIO * width:
            flags.append("out_of_focus")
        result.append(replace(nucleus, flags=ordered(flags)))
    return result
