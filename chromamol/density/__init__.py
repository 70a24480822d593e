"""From intensities to volume fractions: dark level, scale, and what was assumed."""

from chromamol.density.blinks import drop_duplicates, merge_blinks
from chromamol.density.calibration import (
    Calibrated,
    Optics,
    calibrate_dense,
    calibrate_marks,
    calibrate_total,
    dark_level,
    is_clipped,
)
from chromamol.density.illumination import Shading, estimate_shading, flat_field_shading
from chromamol.density.localization_density import LocalizationDensity, localization_density
from chromamol.density.molecules import Molecules, find_molecules, sightings

__all__ = [
    "Calibrated",
    "LocalizationDensity",
    "Molecules",
    "Optics",
    "Shading",
    "calibrate_dense",
    "calibrate_marks",
    "calibrate_total",
    "dark_level",
    "drop_duplicates",
    "estimate_shading",
    "find_molecules",
    "flat_field_shading",
    "is_clipped",
    "localization_density",
    "merge_blinks",
    "sightings",
]
