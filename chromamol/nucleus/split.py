"""Nuclei that touch: one marker per nucleus, then a watershed."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32, Int32
from scipy import ndimage
from skimage.segmentation import watershed

from chromamol.nucleus.boxes import touching_pixels
from chromamol.shapes import Labels, Mask

Image = Float32[np.ndarray, "..."]


def nuclear_relief(
    mask: Mask, brightness: Image, *, spacing: tuple[float, ...], radius: float, intensity_weight: float
) -> Image:
    """Return log(depth) + w log(brightness): high in the middle of a nucleus, low at necks and dark seams.

    The logarithm makes a fall of the relief mean a *ratio* (neck width to nuclear radius, seam to nuclear
    brightness), so one depth of fall serves small and large, dim and bright nuclei.

    Parameters
    ----------
    mask : True inside nuclei.
    brightness : light above the background, smoothed over chromatin texture.
    spacing : pixel spacing along each axis, in the unit of `radius`.
    radius : typical nuclear radius.
    """
    depth = ndimage.distance_transform_edt(mask, sampling=spacing)
    # Pixel steps make false summits; smoothing of a tenth of a radius removes them and keeps necks.
    depth = ndimage.gaussian_filter(depth, [0.1 * radius / s for s in spacing])
    floor = 0.05 * float(brightness[mask].mean())
    relief = np.log(depth + 0.05 * radius) + intensity_weight * np.log(np.maximum(brightness, floor))
    return relief.astype(np.float32)


def split_touching(mask: Mask, relief: Image, *, min_fall: float) -> Labels:
    """Cut the mask along the valleys of the relief, one piece per summit that stands out.

    A summit stands out if every way to a higher one goes down by at least `min_fall`; the pieces of lesser
    summits are joined to the neighbour over the highest pass. This is h-maxima (topological persistence),
    computed on the few pieces of a watershed instead of on all pixels.
    """
    connectivity = np.ones((3,) * mask.ndim, dtype=bool)
    ground = np.where(mask, relief, -np.inf).astype(np.float32)
    tops = mask & (ground == ndimage.maximum_filter(ground, footprint=connectivity))
    markers, n = ndimage.label(tops, structure=connectivity)
    pieces = watershed(-ground, markers, mask=mask)
    height = np.full(n + 1, -np.inf)
    np.maximum.at(height, pieces[mask], ground[mask])
    return _join_over_passes(pieces, ground, height, min_fall)[pieces]


def _join_over_passes(
    pieces: Labels, ground: Image, height: Float[np.ndarray, " pieces"], min_fall: float
) -> Int32[np.ndarray, " pieces"]:
    """Return the nucleus of each piece: from the highest pass down, join what falls less than `min_fall`."""
    parent = list(range(len(height)))

    def root(piece: int) -> int:
        while parent[piece] != piece:
            parent[piece] = parent[parent[piece]]
            piece = parent[piece]
        return piece

    for first, second, level in _passes(pieces, ground):
        low, high = sorted((root(first), root(second)), key=lambda piece: height[piece])
        if low != high and height[low] - level < min_fall:
            parent[low] = high
    return np.array([root(piece) for piece in range(len(height))], dtype=np.int32)


def _passes(pieces: Labels, ground: Image) -> list[tuple[int, int, float]]:
    """List the highest pass between every two touching pieces, highest first."""
    firsts, seconds, levels = [], [], []
    for here, there in touching_pixels(pieces):
        firsts.append(pieces.ravel()[here])
        seconds.append(pieces.ravel()[there])
        levels.append(np.minimum(ground.ravel()[here], ground.ravel()[there]))
    first, second, level = (np.concatenate(parts) for parts in (firsts, seconds, levels))
    order = np.argsort(-level, kind="stable")
    return list(zip(first[order].tolist(), second[order].tolist(), level[order].tolist(), strict=True))
