"""From intensities to volume fractions: dark level, scale, and what was assumed."""

from chromamol.density.calibration import (
    Calibrated,
    calibrate_dense,
    calibrate_marks,
    calibrate_total,
    dark_level,
)

__all__ = ["Calibrated", "calibrate_dense", "calibrate_marks", "calibrate_total", "dark_level"]
