"""From a rough nucleus to its outline: half-height edge, filled, smooth; debris dropped."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy import ndimage

from chromamol.shapes import Labels, Mask

Image = Float32[np.ndarray, "..."]


def _padded(box: tuple[slice, ...], margin: tuple[int, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(
        slice(max(0, s.start - m), min(n, s.stop + m)) for s, m, n in zip(box, margin, shape, strict=True)
    )


def refine(
    labels: Labels,
    contrast: Image,
    *,
    spacing: tuple[float, ...],
    radius: float,
    fraction: float,
    smooth_radii: float,
    min_contrast: float,
) -> Labels:
    """Put each outline at `fraction` of the nucleus's own height above its own surroundings.

    A threshold for the whole field draws bright nuclei too wide and dim ones too narrow; the half-height of
    a blurred edge doesn't move with brightness. Nuclei that stand less than `min_contrast` above their
    surroundings go.
    """
    result = np.zeros_like(labels)
    margin = tuple(int(np.ceil(0.4 * radius / s)) + 1 for s in spacing)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        crop = _padded(box, margin, labels.shape)
        here = labels[crop]
        own = here == label
        shape = _edge(own, here == 0, contrast[crop], margin, fraction, min_contrast)
        if shape is None:
            continue
        shape = _smooth(shape, [smooth_radii * radius / s for s in spacing])
        # Neighbours keep what they have: only background and own pixels may be taken.
        shape &= own | (here == 0)
        target = result[crop]
        target[shape & (target == 0)] = label
    return result


def _edge(
    own: Mask, free: Mask, contrast: Image, margin: tuple[int, ...], fraction: float, min_contrast: float
) -> Mask | None:
    ring = ndimage.binary_dilation(own, iterations=max(margin)) & free
    floor = float(np.median(contrast[ring])) if ring.any() else 0.0
    height = float(np.percentile(contrast[own], 60)) - floor
    if height < min_contrast:
        return None
    near = ndimage.binary_dilation(own, iterations=max(1, max(margin) // 2)) & (own | free)
    return near & (contrast > floor + fraction * height)


def _smooth(shape: Mask, sigma: list[float]) -> Mask:
    """Fill holes, keep the largest part, and round off what is finer than `sigma`."""
    filled = ndimage.binary_fill_holes(shape)
    # Repeating the edge keeps a nucleus cut by the image border cut straight.
    filled = ndimage.gaussian_filter(filled.astype(np.float32), sigma, mode="nearest") > 0.5
    parts, n = ndimage.label(filled)
    if n > 1:
        filled = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return filled


def drop_faint(labels: Labels, smooth: Image, *, level: float, least: float) -> Labels:
    """Drop nuclei that stand less than `least` above the dark level at their brighter end, as noise does."""
    names = np.arange(1, int(labels.max()) + 1)
    if not names.size:
        return labels
    bright = ndimage.labeled_comprehension(smooth, labels, names, _bright_end, float, -np.inf)
    keep = np.concatenate([[False], bright >= level + least])
    return np.where(keep[labels], labels, 0).astype(np.int32)


def _bright_end(values: np.ndarray) -> float:
    return float(np.percentile(values, 90))


def drop_debris(
    labels: Labels,
    smooth: Image,
    *,
    level: float,
    spacing: tuple[float, ...],
    min_relative_light: float,
    min_relative_area: float,
    min_diameter: float,
) -> Labels:
    """Drop what holds far less stain or area than the other nuclei, and number the rest 1..n.

    The stain in a nucleus follows its DNA, which changes by two between cell divisions, however large and dense the
    nucleus is: small and bright may be a nucleus, small and dim or faint haze is not.

    Parameters
    ----------
    labels : integer labels, 0 = background.
    smooth : denoised image.
    level : its dark level.
    min_relative_light, min_relative_area : smallest part of a typical nucleus's stain and area to keep.
    min_diameter : smallest diameter to keep, in the unit of `spacing`.
    """
    flat = labels.ravel()
    areas = np.bincount(flat)[1:].astype(float)
    if not areas.any():
        return np.zeros_like(labels)
    light = np.bincount(flat, weights=np.maximum(smooth.ravel() - level, 0))[1:]
    ball = np.pi / 4 if labels.ndim == 2 else np.pi / 6
    least = ball * min_diameter**labels.ndim / float(np.prod(spacing))
    keep = (areas >= max(min_relative_area * _typical(areas), least, 4.0)) & (
        light >= min_relative_light * _typical(light)
    )
    return _in_order(labels, keep)


def _typical(amounts: Float[np.ndarray, " nuclei"]) -> float:
    """Amount of the nucleus that holds the median of the total: many specks of debris can't drag it down."""
    ranked = np.sort(amounts)
    share = np.cumsum(ranked)
    return float(ranked[np.searchsorted(share, share[-1] / 2)])


def _in_order(labels: Labels, keep: Bool[np.ndarray, " nuclei"]) -> Labels:
    names, first = np.unique(labels, return_index=True)
    order = [n for _, n in sorted(zip(first, names, strict=True)) if n > 0 and keep[n - 1]]
    table = np.zeros(len(keep) + 1, dtype=np.int32)
    table[order] = np.arange(1, len(order) + 1)
    return table[labels]
