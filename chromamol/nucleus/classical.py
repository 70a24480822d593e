"""Nuclei without trained weights, 2D and 3D through one path.

The image itself tells how large nuclei are; a threshold between the bright and the dark level around each
pixel gives a mask; the mask is cut into pieces, and pieces of one nucleus are joined again; each nucleus's
outline is then put at a fixed part of the height of its own edge.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

from chromamol.grid import equivalent_radius
from chromamol.nucleus import background as bg
from chromamol.nucleus import outline
from chromamol.nucleus.foreground import nuclear_pixels, soft_root
from chromamol.nucleus.join import join_pieces
from chromamol.nucleus.scale import SMALLEST_RADIUS
from chromamol.nucleus.settings import SegmentationSettings
from chromamol.nucleus.split import nuclear_relief, split_touching
from chromamol.shapes import Labels, Mask

Image = Float32[np.ndarray, "..."]


def find_classical(
    values: Image,
    marks: Mask,
    *,
    spacing: tuple[float, ...],
    radius: float,
    settings: SegmentationSettings,
) -> Labels:
    """Label the nuclei of an image.

    Parameters
    ----------
    values : light, from 0.
    marks : burned-in pixels, which tell nothing about the background.
    spacing : pixel spacing along each axis, in units of the finest.
    radius : about the nuclear radius, in that unit; what is found corrects it.
    """
    rough = _find_on_blocks(values, spacing, radius, settings)
    if rough.any():
        seen = _radius_of(rough, spacing)
        if not 1 / settings.rescale_ratio < seen / radius < settings.rescale_ratio:
            radius = max(SMALLEST_RADIUS, seen)
            rough = _find_on_blocks(values, spacing, radius, settings)
    smooth = ndimage.gaussian_filter(values, [settings.denoise_radii * radius / h for h in spacing])
    _, spread = bg.level_and_spread(smooth[~marks])
    return outline.refine(
        rough, smooth, spacing=spacing, radius=radius, fraction=settings.outline_fraction,
        smooth_radii=settings.smooth_radii, min_contrast=settings.min_contrast * spread,
    )  # fmt: skip


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
    return equivalent_radius(float(sizes[np.searchsorted(share, share[-1] / 2)]), labels.ndim)
