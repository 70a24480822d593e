"""Nuclei that touch: one marker per nucleus, then a watershed."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32
from scipy import ndimage
from skimage.morphology import reconstruction
from skimage.segmentation import watershed

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
    """Cut the mask along the valleys of the relief.

    A summit gets its own nucleus only if the way to any higher summit goes down by at least `min_fall`
    (h-maxima), which merges the false summits of irregular nuclei.
    """
    outside = float(relief[mask].min()) - 10.0
    ground = np.where(mask, relief, outside).astype(np.float32)
    connectivity = np.ones((3,) * mask.ndim)
    filled = reconstruction(ground - min_fall, ground, method="dilation", footprint=connectivity)
    domes = (ground - filled) >= min_fall * (1 - 1e-4)
    # A summit plateau of h-maxima is the set of regional maxima of the filled relief.
    markers, _ = ndimage.label(domes & mask, structure=connectivity)
    return watershed(-ground, markers, mask=mask).astype(np.int32)
