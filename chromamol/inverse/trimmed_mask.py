"""A mask drawn too large, cut back to where the images show chromatin.

Chromatin fills a nucleus up to its wall: over a domain or two, φ_e is nearly level there and φ_h, with adhesion, higher
than inside. So a layer of the rim that is less than half as bright as what lies behind it is outside, also through a
PSF, because a blurred edge lies at half.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from chromamol.field import Field
from chromamol.shapes import FloatField, Mask

DARK = 0.5
"""Brightness of a layer over that of what lies behind it, below which it is outside. Of nuclei with adhesion behind a
PSF of one pixel the first layer outside has .3 of it, the first inside .8."""

COMPARED_PX = 6
"""Layers behind one that it is compared with, and with all inside nearby: behind a wide margin there is margin."""

ALONG_INTERFACES = 17.0
"""Standard deviation, over ℓ, of the means along the border: half of L0 in the reference model, so that a mean holds a
domain and is not the gap between two."""


def without_dark_rim(images: tuple[Field, ...], interface_length_um: float) -> tuple[Field, ...]:
    """Return the images of a nucleus on one mask, without the layers of its rim that show no chromatin."""
    mask = images[0].mask
    brightness = np.sum([image.values for image in images], axis=0)
    widths = [ALONG_INTERFACES * interface_length_um / h for h in images[0].grid.spacing_um]
    kept = trimmed(mask, brightness, widths)
    return images if (kept == mask).all() else tuple(Field(i.values, i.grid, i.unit, kept) for i in images)


def trimmed(mask: Mask, brightness: FloatField, widths_px: list[float]) -> Mask:
    """Return `mask` without the dark layers of its rim, judged arc by arc, each pixel once.

    The edge of the image is no border: a nucleus that it cuts goes on there.

    Parameters
    ----------
    brightness : of the shape of `mask`.
    widths_px : per axis, standard deviation of the means along the border.
    """

    def mean(where: Mask) -> FloatField:
        """The Gaussian mean over these pixels; 0 far from all of them."""
        weight = ndimage.gaussian_filter(where.astype(float), widths_px, mode="constant")
        summed = ndimage.gaussian_filter(np.where(where, brightness, 0.0), widths_px, mode="constant")
        return np.divide(summed, weight, out=np.zeros_like(summed), where=weight > 1e-9)

    judged = np.zeros_like(mask)
    while True:
        inner = ndimage.binary_erosion(mask, border_value=1)
        behind = inner & ~ndimage.binary_erosion(inner, iterations=COMPARED_PX, border_value=1)
        inside = np.maximum(mean(behind), mean(inner))
        layer = mask & ~inner & ~judged
        dark = layer & (mean(layer) < DARK * inside) & (inside > 0.0)
        if not dark.any():
            return mask
        mask, judged = mask & ~dark, judged | layer
