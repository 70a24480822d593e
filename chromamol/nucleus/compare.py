"""One nucleus, and what may be doubtful about it beside the others of its field: size, focus, condensed chromatin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from chromamol.nucleus.flags import ordered
from chromamol.shapes import Mask

MIN_DIAMETER_UM = 3.0  # yeast nuclei measure 2 um, the smallest of mammals 5
MAX_DIAMETER_UM = 40.0  # beyond polyploid hepatocytes and spread fibroblast nuclei
MIN_FIELD = 4  # fewer nuclei make no median to compare with
MIN_RELATIVE_SIZE = 0.3  # of the field's median area; a G1 nucleus is half a G2 one
MAX_RELATIVE_SIZE = 3.0
OUT_OF_FOCUS_RATIO = 2.0  # edge width against the field's median
CONDENSED_CONTRAST = 1.6  # mean light against the median: G2 has twice the DNA of G1, and is larger for it
CONDENSED_SIZE = 0.8  # area against the median
DIVIDING_STAIN = (
    1.4  # light of the whole nucleus against the median: twice G1, where the median holds some of G2
)
DIVIDING_ELONGATION = 1.8  # a metaphase plate from the side; interphase nuclei rarely exceed 1.6
DIVIDING_SOLIDITY = 0.85  # chromosome arms stick out; interphase nuclei fill 0.9 of their hull


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
    contrast : mean light above the surroundings, in the image's unit; NaN where no surroundings are free.
    elongation : long over short axis of the ellipse of the same second moments, in the plane.
    solidity : part of its convex hull that the nucleus fills, in the plane.
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
    contrast: float
    elongation: float
    solidity: float
    edge_width_um: float
    flags: tuple[str, ...]


def compare(nuclei: Sequence[Nucleus]) -> list[Nucleus]:
    """Return the nuclei with the flags that need the other ones of the field added."""
    whole = [n for n in nuclei if "touches_border" not in n.flags]
    size = _median([n.area_um2 for n in whole])
    width = _median([n.edge_width_um for n in nuclei])
    contrast = _median([n.contrast for n in whole])
    stain = _median([n.contrast * n.area_um2 for n in whole])
    result = []
    for nucleus in nuclei:
        flags = list(nucleus.flags)
        cut = "touches_border" in flags
        # Comparisons with NaN (too small a field) are False.
        small = nucleus.area_um2 < MIN_RELATIVE_SIZE * size and not cut
        if small or nucleus.equivalent_diameter_um < MIN_DIAMETER_UM:
            flags.append("too_small")
        if nucleus.area_um2 > MAX_RELATIVE_SIZE * size or nucleus.equivalent_diameter_um > MAX_DIAMETER_UM:
            flags.append("too_large")
        if nucleus.edge_width_um > OUT_OF_FOCUS_RATIO * width:
            flags.append("out_of_focus")
        if not cut and _condensed(nucleus, size, contrast):
            flags.append("mitotic" if _dividing(nucleus, stain) else "dead")
        result.append(replace(nucleus, flags=ordered(flags)))
    return result


def _median(values: Sequence[float]) -> float:
    """Median of what could be measured; NaN where that is too little to compare with."""
    finite = [value for value in values if math.isfinite(value)]
    return float(np.median(finite)) if len(finite) >= MIN_FIELD else math.nan


def _condensed(nucleus: Nucleus, size: float, contrast: float) -> bool:
    return nucleus.contrast > CONDENSED_CONTRAST * contrast and nucleus.area_um2 < CONDENSED_SIZE * size


def _dividing(nucleus: Nucleus, stain: float) -> bool:
    return (
        nucleus.contrast * nucleus.area_um2 > DIVIDING_STAIN * stain
        or nucleus.elongation > DIVIDING_ELONGATION
        or nucleus.solidity < DIVIDING_SOLIDITY
    )
