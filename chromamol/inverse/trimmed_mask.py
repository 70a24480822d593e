"""A mask drawn too large, cut back to where the images show chromatin.

Between the domains of a nucleus there is chromatin, too: euchromatin is nearly level up to the wall. So a layer of the
rim with less than half of the dim phase's brightness is outside. A domain at the wall shines farther through the PSF,
but no interface is as steep as the wall: a layer with less than half of the two behind it is outside, too.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from chromamol.field import Field
from chromamol.inverse.joint_setup import mean_inside
from chromamol.shapes import FloatField, Mask

DARK = 0.5
"""Brightness over that of the dim phase below which a layer is outside."""

STEEP, BEHIND_PX = 0.5, 2
"""Brightness over that of so many layers behind it, below which a layer is outside. Through a PSF of one pixel the
first one outside has .33, the first inside .8; along ellipses through patterns the least was .71, with the coarsest
pixels that a joint fit takes by itself .60."""

DIM_PERCENTILE, NOTHING = 10.0, 0.2
"""The dim phase: this percentile of all that has this share of the bright phase's brightness (the 90th percentile)."""

SMOOTHING_PX = 5.0
"""Standard deviation of the means along a layer: 18 pixels, whose noise is a quarter of a single one's."""


def without_dark_rim(images: tuple[Field, ...], mixing: tuple[tuple[float, float], ...]) -> tuple[Field, ...]:
    """Return the images of a nucleus on one mask, without the layers of its rim that show no chromatin.

    Judged by φ_e where the images tell it, because it is level, else by the total.

    Parameters
    ----------
    mixing : per image, how much of φ_h and of φ_e it shows.
    """
    mask, brightness = images[0].mask, images[-1].values
    if len(images) > 1:
        brightness = brightness - mixing[-1][0] * images[0].values
    kept = trimmed(mask, brightness)
    return images if (kept == mask).all() else tuple(Field(i.values, i.grid, i.unit, kept) for i in images)


def trimmed(mask: Mask, brightness: FloatField) -> Mask:
    """Return `mask` without the dark layers of its rim, judged arc by arc.

    The edge of the image is no border: a nucleus that it cuts goes on there.

    Parameters
    ----------
    brightness : of the shape of `mask`, 0 where there is no chromatin.
    """
    while True:
        kept = _peeled(mask, brightness, DARK * _dim_phase(mask, brightness))
        if (kept == mask).all():
            return mask
        mask = kept  # without the dark margin in it, the dim phase is known better


def _dim_phase(mask: Mask, brightness: FloatField) -> float:
    """Brightness of what lies between the domains; 0 where there is nothing bright."""
    seen = mean_inside(brightness, mask, SMOOTHING_PX)[mask]
    bright = float(np.percentile(seen, 90.0))
    return float(np.percentile(seen[seen >= NOTHING * bright], DIM_PERCENTILE)) if bright > 0.0 else 0.0


def _peeled(mask: Mask, brightness: FloatField, threshold: float) -> Mask:
    """Take dark layers off the rim; each pixel is judged once."""
    if threshold <= 0.0:
        return mask
    judged = np.zeros_like(mask)
    while True:
        inner = ndimage.binary_erosion(mask, border_value=1)
        behind = inner & ~ndimage.binary_erosion(inner, iterations=BEHIND_PX, border_value=1)
        layer = mask & ~inner & ~judged
        seen, next_ones = (mean_inside(brightness, where, SMOOTHING_PX) for where in (layer, behind))
        dark = layer & (seen < np.maximum(threshold, STEEP * next_ones))
        if not dark.any():
            return mask
        mask, judged = mask & ~dark, judged | layer
