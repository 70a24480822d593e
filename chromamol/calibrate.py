"""The planes of one nucleus to volume fractions, and the record of what was measured, given or assumed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chromamol.channels import Channels
from chromamol.density import (
    Calibrated,
    Optics,
    calibrate_dense,
    calibrate_marks,
    calibrate_total,
    dark_level,
)
from chromamol.nucleus import Nucleus
from chromamol.settings import Settings
from chromamol.shapes import FloatField, Labels


@dataclass(frozen=True, eq=False)
class NucleusCalibration:
    """Volume fractions of one nucleus.

    Parameters
    ----------
    fractions : "phi_h", "phi_e", "total", those that the planes give; on the nucleus's crop.
    noise_sd : of the total per pixel where it follows from counting; None where it is to be estimated.
    gains : intensity per unit of volume fraction, by the same names.
    rows : one per plane, as in `calibration.csv`.
    assumed : whether a convention set a gain.
    unresolved : whether blur is over half of a domain radius in a plane.
    """

    fractions: dict[str, FloatField]
    noise_sd: float | None
    gains: dict[str, float]
    rows: list[dict[str, Any]]
    assumed: bool = False
    unresolved: bool = False


def calibrate_nucleus(
    channels: Channels, labels: Labels, nucleus: Nucleus, spacing_um: tuple[float, ...], settings: Settings,
    *, gain_factor: float = 1.0, offset_share: float = 0.0, water_change: float = 0.0, dense_factor: float = 1.0,
) -> NucleusCalibration:  # fmt: skip
    """Return the volume fractions of one nucleus.

    Parameters
    ----------
    gain_factor : by which the gain of every plane is multiplied: 1 but for a question of what a wrong gain does.
    offset_share : by which share of the mean signal every dark level is raised: likewise.
    water_change : added to the water fraction: likewise.
    dense_factor : by which the gain of a heterochromatin mark is multiplied, and that of euchromatin tied to it anew.

    Raises
    ------
    ImageContentError : no dark pixel beside the nucleus, or a nucleus that is not brighter than them.
    """
    crops = {role: np.asarray(plane[nucleus.slices]) for role, plane in channels.planes.items()}
    mask = nucleus.mask
    if channels.calibrated:
        phi = {role: crop.astype(np.float64) for role, crop in crops.items()}
        rows = [_row(role, "volume fractions", 0.0, 1.0) for role in phi]
        shifted = {
            f"phi_{role[0]}": (v - offset_share * float(v[mask].mean())) / gain_factor
            for role, v in phi.items()
        }
        return NucleusCalibration(shifted, None, dict.fromkeys(shifted, gain_factor), rows)
    around = labels[nucleus.slices]
    dark = {}
    for role, crop in crops.items():
        level = dark_level(crop, around, mask) if settings.dark_level is None else settings.dark_level
        dark[role] = level + offset_share * (float(crop[mask].mean()) - level)
    moved = replace(settings, water_fraction=settings.water_fraction + water_change)
    found = _calibrated(crops, mask, dark, spacing_um, moved, dense_factor=dense_factor)
    phi = {role: each.phi / gain_factor for role, each in found.items()}
    rows = [_row(role, each.scale, each.dark, each.gain, each) for role, each in found.items()]
    seen = [each.phases for each in found.values() if each.phases is not None]
    noise_sd = None
    if channels.counting_variance is not None and set(found) == {"total"}:
        variance = float(channels.counting_variance[nucleus.slices][mask].mean())
        noise_sd = math.sqrt(variance) / (found["total"].gain * gain_factor)
    names = {"heterochromatin": "phi_h", "euchromatin": "phi_e", "total": "total"}
    return NucleusCalibration(
        {names[role]: v for role, v in phi.items()}, noise_sd,
        {names[role]: each.gain * gain_factor for role, each in found.items()}, rows,
        any(each.assumed for each in found.values()),
        not all(phases.is_resolved for phases in seen),
    )  # fmt: skip


def _calibrated(
    crops: dict[str, np.ndarray],
    mask: np.ndarray,
    dark: dict[str, float],
    spacing: tuple[float, ...],
    settings: Settings,
    *,
    dense_factor: float,
) -> dict[str, Calibrated]:
    optics = Optics(spacing, settings.expected_blur_um, settings.intensity_scale)
    water = settings.water_fraction
    if "euchromatin" in crops:
        dense, light = calibrate_marks(
            crops["heterochromatin"], crops["euchromatin"], mask,
            dark=(dark["heterochromatin"], dark["euchromatin"]),
            gain=(settings.heterochromatin_gain, settings.euchromatin_gain), water_fraction=water, optics=optics,
            dense_factor=dense_factor,
        )  # fmt: skip
        return {"heterochromatin": dense, "euchromatin": light}
    found = {
        "total": calibrate_total(crops["total"], mask, dark=dark["total"], gain=settings.chromatin_gain,
                                 water_fraction=water, optics=optics)
    }  # fmt: skip
    if "heterochromatin" in crops:
        found["heterochromatin"] = calibrate_dense(
            crops["heterochromatin"], mask, dark=dark["heterochromatin"], gain=settings.heterochromatin_gain,
            optics=optics,
        )  # fmt: skip
    return found


def _row(role: str, scale: str, dark: float, gain: float, found: Calibrated | None = None) -> dict[str, Any]:
    phases = None if found is None else found.phases
    return {
        "plane": role,
        "scale": scale,
        "dark_level": dark,
        "gain": gain,
        "low_level": math.nan if phases is None else phases.low / gain,
        "high_level": math.nan if phases is None else phases.high / gain,
        "blur_um": math.nan if phases is None else phases.blur_um,
        "phase_radius_um": math.nan if phases is None else phases.radius_um,
        "explained": math.nan if phases is None else phases.explained,
    }
