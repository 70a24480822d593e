"""The planes of one nucleus to volume fractions, and the record of what was measured, given or assumed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
    is_clipped,
)
from chromamol.density.calibration import DENSE_LEVEL
from chromamol.errors import ImageContentError
from chromamol.inverse.calibration import EXACT, CalibrationPrior
from chromamol.nucleus import Nucleus
from chromamol.settings import Settings
from chromamol.shapes import FloatField, Labels

GIVEN_GAIN_SD = 0.05
"""Relative error of a gain that the user gives: what a calibration slide or a comparison with beads leaves."""

COEXISTENCE_GAIN_SD = 0.05
"""Of one that the step between the phases tells: it is 4 to 6 % low where blur is a quarter of a domain radius."""

DENSE_LEVEL_GAIN_SD = 0.1
"""Of one that a high percentile of a heterochromatin mark tells: blur lowers it as it lowers the step."""

OFFSET_SD = 0.01
"""Error of the dark level as a volume fraction: haze, and a background that is not that under the nucleus."""

CLIPPED_OFFSET_SD = 0.05
"""The same where the background was cut off or masked out, so that the dark level can't be measured: with it the ratios
of two simulated nuclei, cut 36 to 186 counts above the dark level of 114, or masked, are within two of their errors."""

MODEL_SD = 0.1
"""Relative error of φ_max and ℓ, which are constants of the model and not measured."""

_NAMES = {"heterochromatin": "phi_h", "euchromatin": "phi_e", "total": "total"}
"""Planes and the fractions they show, in the order of `infer_rates`."""


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
    clipped : whether the background that the dark level was measured on had been cut off.
    prior : how well all this is known.
    """

    fractions: dict[str, FloatField]
    noise_sd: float | None
    gains: dict[str, float]
    rows: list[dict[str, Any]]
    assumed: bool = False
    unresolved: bool = False
    clipped: bool = False
    prior: CalibrationPrior = EXACT

    @property
    def planes(self) -> list[str]:
        """The planes in the order in which `infer_rates` takes their fractions."""
        found = {row["plane"] for row in self.rows}
        return [plane for plane in _NAMES if plane in found]

    @property
    def blur_um(self) -> float:
        """Blur of the first plane that shows two phases, interfaces included, µm; NaN where none does."""
        return next((row["blur_um"] for row in self.rows if math.isfinite(row["blur_um"])), math.nan)


@dataclass(frozen=True)
class SharedScale:
    """One dark level and one gain per plane, for all nuclei of an image.

    Parameters
    ----------
    dark, gain : by plane, intensity and intensity per unit of volume fraction.
    gain_sd : relative error of each gain, by plane, where fits of the nuclei told it; else by how gains were found.
    """

    dark: Mapping[str, float]
    gain: Mapping[str, float]
    gain_sd: Mapping[str, float] = field(default_factory=dict)


def share_scale(
    channels: Channels,
    labels: Labels,
    nuclei: list[Nucleus],
    spacing_um: tuple[float, ...],
    settings: Settings,
) -> SharedScale | None:
    """Return the median dark level and the geometric mean of the gains of all nuclei that can be calibrated.

    None for volume fractions, and where there is none.
    """
    each = []
    for nucleus in nuclei:
        try:
            each.append(calibrate_nucleus(channels, labels, nucleus, spacing_um, settings).rows)
        except ImageContentError:
            continue  # its error is met, and noted, when the nucleus is analysed
    if channels.calibrated or not each:
        return None
    planes = {
        row["plane"]: [r for rows in each for r in rows if r["plane"] == row["plane"]] for row in each[0]
    }
    dark = {plane: float(np.median([row["dark_level"] for row in rows])) for plane, rows in planes.items()}
    gain = {
        plane: math.exp(float(np.mean([math.log(row["gain"]) for row in rows])))
        for plane, rows in planes.items()
    }
    return SharedScale(dark, gain)


def calibrate_nucleus(
    channels: Channels, labels: Labels, nucleus: Nucleus, spacing_um: tuple[float, ...], settings: Settings,
    *, shared: SharedScale | None = None, gain_factor: float = 1.0, offset_share: float = 0.0,
    water_change: float = 0.0, dense_factor: float = 1.0,
) -> NucleusCalibration:  # fmt: skip
    """Return the volume fractions of one nucleus.

    Parameters
    ----------
    shared : the scale, when it is not the nucleus's own.
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
        gains = dict.fromkeys(shifted, gain_factor)
        prior = _prior((0.0,) * len(shifted), settings, offset_sd=0.0, model_sd=0.0)
        return NucleusCalibration(shifted, None, gains, rows, prior=prior)
    around = labels[nucleus.slices]
    # Outside nuclei of a localisation table there is nothing, and nothing is the dark level.
    measured = settings.dark_level is None and channels.counting_variance is None
    clipped = measured and any(is_clipped(crop, around, mask) for crop in crops.values())
    dark = {}
    for role, crop in crops.items():
        level = settings.dark_level if shared is None else shared.dark[role]
        if level is None:
            level = dark_level(crop, around, mask)
        dark[role] = level + offset_share * (float(crop[mask].mean()) - level)
    moved = replace(settings, water_fraction=settings.water_fraction + water_change)
    found = _calibrated(crops, mask, dark, spacing_um, moved, dense_factor=dense_factor)
    if shared is not None:
        found = {role: each.with_gain(shared.gain[role]) for role, each in found.items()}
    phi = {role: each.phi / gain_factor for role, each in found.items()}
    rows = [_row(role, each.scale, each.dark, each.gain, each) for role, each in found.items()]
    seen = [each.phases for each in found.values() if each.phases is not None]
    noise_sd = None
    if channels.counting_variance is not None and set(found) == {"total"}:
        variance = float(channels.counting_variance[nucleus.slices][mask].mean())
        noise_sd = math.sqrt(variance) / (found["total"].gain * gain_factor)
    return NucleusCalibration(
        {_NAMES[role]: v for role, v in phi.items()}, noise_sd,
        {_NAMES[role]: each.gain * gain_factor for role, each in found.items()}, rows,
        any(each.assumed for each in found.values()),
        not all(phases.is_resolved for phases in seen),
        clipped,
        _prior(tuple(_gain_sd(role, found[role], mask, settings, shared) for role in _NAMES if role in found), settings,
               offset_sd=CLIPPED_OFFSET_SD if clipped else OFFSET_SD, model_sd=MODEL_SD),
    )  # fmt: skip


def _prior(
    gain_sd: tuple[float, ...], settings: Settings, *, offset_sd: float, model_sd: float
) -> CalibrationPrior:
    """Return what the settings say, and else what is expected."""

    def chosen(given: float | None, expected: float) -> float:
        return expected if given is None else given

    gains = gain_sd if settings.gain_sd is None else settings.gain_sd
    return CalibrationPrior(gains, chosen(settings.offset_sd, offset_sd), chosen(settings.phi_max_sd, model_sd),
                            chosen(settings.interface_sd, model_sd))  # fmt: skip


def _gain_sd(
    role: str, found: Calibrated, mask: np.ndarray, settings: Settings, shared: SharedScale | None
) -> float:
    """Return the relative error that a gain is expected to have, by how it was found."""
    if shared is not None and role in shared.gain_sd:
        return shared.gain_sd[role]
    if found.scale == "given":
        return GIVEN_GAIN_SD
    if found.scale == "coexistence":
        return COEXISTENCE_GAIN_SD
    if role == "heterochromatin":
        return DENSE_LEVEL_GAIN_SD
    # Total chromatin, or euchromatin, fills what water leaves of the nucleus.
    return min(1.0, settings.water_sd / float(found.phi[mask].mean()))


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
            optics=optics, most=min(DENSE_LEVEL, float(found["total"].phi[mask].mean())),
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
        "note": "" if found is None else found.note,
    }
