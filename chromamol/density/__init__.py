"""From intensities to volume fractions: dark level, scale, and what was assumed."""

from chromamol.density.blinks import drop_duplicates, merge_blinks
from chromamol.density.calibration import (
    Calibrated,
    Optics,
    calibrate_dense,
    calibrate_marks,
    calibrate_total,
    dark_level,
)
from chromamol.density.localization_density import LocalizationDensity, localization_density
from chromamol.density.molecules import Molecules, find_molecules

__all__ = [
    "Calibrated",
    "LocalizationDensity",
    "Molecules",
    "Optics",
    "calibrate_dense",
    "calibrate_marks",
    "calibrate_total",
    "dark_level",
    "drop_duplicates",
    "find_molecules",
    "localization_density",
    "merge_blinks",
]
