"""From intensities to volume fractions: dark level, scale, and what was assumed."""

from chromamol.density.blinks import drop_duplicates, merge_blinks
from chromamol.density.calibration import (
    Calibrated,
    calibrate_dense,
    calibrate_marks,
    calibrate_total,
    dark_level,
)
from chromamol.density.localization_density import LocalizationDensity, localization_density

__all__ = [
    "Calibrated",
    "LocalizationDensity",
    "calibrate_dense",
    "calibrate_marks",
    "calibrate_total",
    "dark_level",
    "drop_duplicates",
    "localization_density",
    "merge_blinks",
]
