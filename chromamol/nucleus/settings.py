"""Settings of the segmentation, with a reason beside each default."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from chromamol.errors import ParameterError
from chromamol.nucleus.join import SeamWeights


@dataclass(frozen=True)
class SegmentationSettings:
    """Settings of `segment_nuclei`. Lengths are fractions of the nuclear radius seen in the image."""

    denoise_radii: float = 0.08
    """Gaussian before thresholding: removes pixel noise, an order below the nuclear radius."""
    texture_radii: float = 0.15
    """Gaussian before splitting: smooths over chromatin texture, keeps the seam between two nuclei."""
    peak_radii: float = 0.3
    """Gaussian before bright and dark levels are looked up: a level is that of a region, not of a speck."""
    bright_radii: float = 0.95
    """How far from a pixel the level of the nearest nucleus is looked up."""
    dark_radii: float = 2.0
    """How far the level of the background is looked up: beyond a nucleus and its neighbour."""
    global_fraction: float = 0.9
    """Part of Otsu's threshold of the whole field that a pixel needs: below one, so that dim nuclei stay."""
    local_fraction: float = 0.55
    """Where the threshold lies between background and nearest nucleus: above one half, so that seams between neighbours
    stay open; the outline is drawn anew afterwards."""
    working_radius: float = 16.0
    """Nuclear radius in pixels of the block means on which nuclei are found (at least)."""
    radius_limits_um: tuple[float, float] = (1.5, 20.0)
    """With a pixel size: nuclei measure 3 to 40 um across."""
    outline_fraction: float = 0.38
    """Where the outline lies between surroundings and nucleus: a blurred edge keeps its place at one half."""
    intensity_weight: float = 0.8
    """Weight of brightness against depth when touching nuclei are split."""
    min_fall: float = 0.01
    """Log depth of the valley between two pieces: 1 %, so that few true borders are missed."""
    seam_radii: float = 0.12
    """Gaussian before the light along a seam is looked at: a seam is narrow."""
    seam: SeamWeights = field(default_factory=SeamWeights)
    """Which seams between pieces are borders between nuclei."""
    rescale_ratio: float = 1.25
    """Nuclei are found again if they turn out larger or smaller than assumed by more than this."""
    min_contrast: float = 5.0
    """Least contrast of a nucleus in spreads of the background: noise reaches 4 by chance."""
    min_relative_light: float = 0.1
    """Less stain than this part of a typical nucleus is debris or haze."""
    min_relative_area: float = 0.06
    """Smaller than this part of the median nucleus is debris."""
    trained_debris: float = 0.5
    """Methods that learnt what a nucleus is need only this part of the two shares above."""
    min_diameter_um: float = 2.0
    """With a pixel size: smaller is debris whatever the other nuclei are."""
    smooth_radii: float = 0.1
    """Gaussian on each outline: removes pixel steps and spurs."""

    def __post_init__(self) -> None:
        bad = {
            name: value
            for name, value in vars(self).items()
            if name != "seam" and not np.all(np.asarray(value) >= 0)
        }
        if bad:
            raise ParameterError(
                f"Segmentation settings {bad}.", expected="numbers of at least zero.", do="correct them."
            )
