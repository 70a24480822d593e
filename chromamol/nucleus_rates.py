"""The rates of one nucleus, at one time or over time, what 5 % of its scale would change, and its row in the table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage

from chromamol.calibrate import NucleusCalibration, SharedScale, calibrate_nucleus
from chromamol.channels import Channels
from chromamol.domains import Domains, PhaseRatio
from chromamol.errors import ChromamolError, FieldError, ImageContentError, ParameterError, SolverError
from chromamol.inverse.calibration import EXACT, CalibrationPrior
from chromamol.inverse.infer import infer_rates_together
from chromamol.inverse.infer_over_time import infer_rates_over_time
from chromamol.inverse.joint_setup import Noise
from chromamol.inverse.network_settings import NetworkSettings
from chromamol.inverse.rates import Rates
from chromamol.inverse.rates_over_time import RatesOverTime
from chromamol.nucleus import Nucleus
from chromamol.nucleus.flags import join as join_flags
from chromamol.nucleus.flags import ordered
from chromamol.physics.parameters import ChromatinParameters
from chromamol.settings import Settings
from chromamol.shapes import FloatField, Labels, Mask
from chromamol.units import per_um2_to_per_s

SCALE_CHANGES: dict[str, dict[str, float]] = {
    "gain +5 %": {"gain_factor": 1.05},
    "gain -5 %": {"gain_factor": 0.95},
    "offset +5 %": {"offset_share": 0.05},
    "offset -5 %": {"offset_share": -0.05},
}
"""What the calibration check moves: the gain, and the dark level by a share of the nucleus's mean signal."""

MARK_CHANGES: dict[str, dict[str, float]] = {
    "heterochromatin gain +5 %": {"dense_factor": 1.05},
    "heterochromatin gain -5 %": {"dense_factor": 0.95},
    "water +0.05": {"water_change": 0.05},
    "water -0.05": {"water_change": -0.05},
}
"""What it moves besides where two marks are tied by the water fraction: one gain, and the water, which is assumed."""

PHASES_SD = 0.06
"""Relative error of a ratio from two phases for what is taken from the model: with exact levels that of eight simulated
patterns scattered by 4.5 %, 7 % at most."""

OF_THE_SPLIT = ("ratio_blurred",)
"""Flags that speak of a ratio from pixels."""

LIGHT_SMOOTHING_PX = 2.0
"""Standard deviation of the Gaussian over which the light is averaged for its noise."""

Report = Callable[[str], None]
"""Called with the loss of a training."""


@dataclass(frozen=True, eq=False)
class Fractions:
    """Volume fractions of one nucleus ("phi_h", "phi_e", "total"), and what is known of them.

    Parameters
    ----------
    noise_sd : of the total, where it follows from counting.
    gains : intensity per unit of each fraction, by which the noise follows the light.
    calibration : how well the fractions' scale is known.
    blur_um : σ of the borders between its phases; NaN where the image doesn't show it.
    seen : where the pixels were measured, when not everywhere.
    """

    nucleus: Nucleus
    values: dict[str, FloatField]
    noise_sd: Noise = None
    gains: Mapping[str, float] | None = None
    calibration: CalibrationPrior = EXACT
    blur_um: float = math.nan
    seen: Mask | None = None

    @classmethod
    def of(cls, nucleus: Nucleus, found: NucleusCalibration, seen: Mask | None = None) -> Fractions:
        return cls(nucleus, found.fractions, found.noise_sd, found.gains, found.prior, found.blur_um, seen)


def infer_nuclei(
    nuclei: Sequence[Fractions],
    spacing_um: tuple[float, ...],
    settings: Settings,
    report: Report | None = None,
) -> list[Rates | ChromamolError]:
    """Infer the rates of the nuclei of an image, or the error of each."""
    asked = [_arguments(nucleus, spacing_um, settings, report) for nucleus in nuclei]
    return infer_rates_together(asked, device=settings.device)


def _arguments(
    fractions: Fractions, spacing_um: tuple[float, ...], settings: Settings, report: Report | None
) -> dict[str, Any]:
    """Return the arguments of `infer_rates` for one nucleus."""
    method, network, noise_sd, mask = settings.method, None, fractions.noise_sd, fractions.nucleus.mask
    if fractions.seen is not None and method == "auto" and settings.photons_per_count is not None:
        method = "network"  # which counts photons
    gains = fractions.gains
    if settings.photons_per_count is not None and gains is not None and noise_sd is None:
        noise_sd, photons = light_noise(fractions.values, gains, settings)
        if method == "network":
            network = NetworkSettings(photons_per_fraction=photons)
            read = tuple(settings.read_noise_counts / gains[name] for name in _ordered(fractions.values))
            noise_sd = read if settings.read_noise_counts > 0.0 else None
    label = fractions.nucleus.label
    return {
        "phi_h": fractions.values.get("phi_h"),
        "phi_e": fractions.values.get("phi_e"),
        "total": fractions.values.get("total"),
        "pixel_size_um": spacing_um,
        "parameters": ChromatinParameters(settings.phi_max, settings.interface_length_um),
        "mask": mask,
        "known_acetylation_per_um2": settings.known_acetylation_per_um2,
        "noise_sd": noise_sd,
        "psf_sigma_um": settings.psf_sigma_um or 0.0,
        "apparent_blur_um": seen_psf_um((fractions.blur_um,), settings),
        "section_thickness_um": settings.section_thickness_um if mask.ndim == 2 else None,
        "split_constant": settings.split_constant,
        "split_constant_sd": settings.split_constant_sd,
        "calibration": fractions.calibration,
        "method": method,
        "network": network,
        "seen": fractions.seen,
        "progress": None if report is None else lambda message: report(f"    nucleus {label}, {message}"),
        "seed": settings.seed,
    }


def seen_psf_um(blurs_um: Sequence[float], settings: Settings) -> float:
    """Return σ of the point spread function by the borders between phases, the median of images; 0 where none tells."""
    told = [blur for blur in blurs_um if math.isfinite(blur)]
    return settings.apparent_psf_um(float(np.median(told))) if told else 0.0


def scale_told(each: list[tuple[NucleusCalibration, Rates]], shared: SharedScale) -> SharedScale | None:
    """Return the scale that the joint fits of several nuclei tell together, None where fewer than two tell any.

    Log-gains are averaged with their precisions. Where they scatter beyond their errors, the error of the average grows
    with the scatter (Birge, Phys. Rev. 40, 207 (1932), doi:10.1103/PhysRev.40.207).
    """
    gain, gain_sd = dict(shared.gain), {}
    for channel, plane in enumerate(each[0][0].planes if each else ()):
        name = f"log_gain_{channel}"
        told = [
            (r.diagnostics[name], r.diagnostics[f"{name}_sd"])
            for _, r in each
            # Where no sample moved, the fit did not look for the gain.
            if r.diagnostics.get(f"{name}_sd", 0.0) > 0.0
        ]
        if len(told) < 2:
            continue
        logs, weights = np.array([log for log, _ in told]), np.array([sd**-2.0 for _, sd in told])
        mean = float(np.average(logs, weights=weights))
        scatter = float((weights * (logs - mean) ** 2).sum()) / (len(logs) - 1)
        gain[plane] = shared.gain[plane] * math.exp(mean)
        gain_sd[plane] = min(1.0, math.sqrt(max(1.0, scatter) / float(weights.sum())))
    return SharedScale(shared.dark, gain, gain_sd) if gain_sd else None


def light_noise(
    fractions: Mapping[str, FloatField], gains: Mapping[str, float], settings: Settings
) -> tuple[tuple[FloatField, ...], tuple[float, ...]]:
    """Return the noise of each fraction at every pixel, √(φ / N + read²), and its photons N per unit of fraction.

    φ is smoothed before: weights that follow the noise would believe dark pixels more.
    """
    assert settings.photons_per_count is not None
    noise, photons = [], []
    for name in _ordered(fractions):
        each = settings.photons_per_count * gains[name]
        light = np.maximum(ndimage.gaussian_filter(fractions[name], LIGHT_SMOOTHING_PX), 0.0)
        noise.append(np.sqrt(light / each + (settings.read_noise_counts / gains[name]) ** 2))
        photons.append(each)
    return tuple(noise), tuple(photons)


def _ordered(fractions: Mapping[str, FloatField]) -> list[str]:
    """The order in which `infer_rates` takes the noise of each."""
    return [name for name in ("phi_h", "phi_e", "total") if name in fractions]


def infer_moving_nucleus(
    frames: list[Channels], labels: Labels, nucleus: Nucleus, spacing_um: tuple[float, ...], settings: Settings,
    interval_s: float, *, calibration: CalibrationPrior, shared: SharedScale | None = None,
) -> tuple[Rates, dict[str, float]]:  # fmt: skip
    """Infer the rates of one nucleus from its volume fractions in every frame; also the columns per time."""
    each = [
        calibrate_nucleus(frame, labels, nucleus, spacing_um, settings, shared=shared) for frame in frames
    ]
    stacks = {role: np.stack([found.fractions[role] for found in each]) for role in each[0].fractions}
    seen = seen_psf_um([found.blur_um for found in each], settings)
    moving = infer_rates_over_time(
        stacks.get("phi_h"),
        stacks.get("phi_e"),
        total=stacks.get("total"),
        pixel_size_um=spacing_um,
        frame_interval_s=interval_s,
        parameters=ChromatinParameters(settings.phi_max, settings.interface_length_um),
        mask=nucleus.mask,
        psf_sigma_um=max(settings.psf_sigma_um or 0.0, seen),
        calibration=calibration,
        device=settings.device,
    )
    return moving.over_diffusivity, _per_time(moving)


def _per_time(rates: RatesOverTime) -> dict[str, float]:
    """Return the columns that only a time-lapse gives."""
    return {
        "gamma_me_per_s": rates.methylation_per_s.mean,
        "gamma_me_per_s_se": rates.methylation_per_s.mean_se,
        "gamma_ac_per_s": rates.acetylation_per_s.mean,
        "gamma_ac_per_s_se": rates.acetylation_per_s.mean_se,
        "diffusivity_um2_per_s": rates.diffusivity_um2_per_s,
        "diffusivity_se": rates.diffusivity_se,
        "diffusivity_calibration_se": rates.diffusivity_calibration_se,
    }


def with_time(row: dict[str, Any], per_time: Mapping[str, float]) -> dict[str, Any]:
    """Return a row with the columns of a time-lapse.

    Where the frames tell no D, rates in 1/s stay those of a D that was given.
    """
    told = math.isfinite(per_time.get("diffusivity_um2_per_s", math.nan))
    return row | {name: value for name, value in per_time.items() if told or name not in row}


def whose_diffusivity(rows: Sequence[Mapping[str, Any]], settings: Settings) -> list[str]:
    """Say of which nuclei of a time-lapse rates in 1/s rest on the D that was given, and of which on the frames'."""
    if settings.diffusivity_um2_per_s is None:
        return []
    given = f"the {settings.diffusivity_um2_per_s:g} um2/s that was given"
    told = {str(row["nucleus"]): math.isfinite(row["diffusivity_um2_per_s"]) for row in rows}
    of_frames, of_given = ([who for who, tells in told.items() if tells is each] for each in (True, False))
    notes = {
        f"the frames tell D, and rates in 1/s rest on it and not on {given}": of_frames,
        f"the frames tell no D, and rates in 1/s rest on {given}": of_given,
    }
    return [
        f"{'nucleus' if len(who) == 1 else 'nuclei'} {', '.join(who)}: {note}"
        for note, who in notes.items()
        if who
    ]


def with_phases(rates: Rates, nucleus: Nucleus, phases: PhaseRatio, settings: Settings) -> Rates:
    """Return the rates with the ratio that two phases of counted molecules tell.

    Where a nucleus is cut, or a section's thickness was given, the relative error of the maps' ratio holds what that
    does, and is added.
    """
    partly = "touches_border" in nucleus.flags or settings.section_thickness_um is not None
    relative = math.hypot(phases.log_se, PHASES_SD, rates.ratio_se / rates.ratio if partly else 0.0)
    flags = tuple(flag for flag in rates.flags if flag not in OF_THE_SPLIT)
    return replace(
        rates, ratio=phases.ratio, ratio_se=phases.ratio * relative, ratio_calibration_se=phases.ratio * PHASES_SD,
        flags=flags,
    )  # fmt: skip


def scale_sensitivity(
    analysed: list[tuple[Nucleus, NucleusCalibration, Rates]], channels: Channels, labels: Labels,
    spacing: tuple[float, ...], settings: Settings, *, phases: Mapping[int, PhaseRatio] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Rates of one nucleus, that of median area without flags of its own if there is one, after `SCALE_CHANGES`.

    None for scalings with domains, of which the regression's rates say nothing.

    Parameters
    ----------
    phases : by the nucleus's number, of those whose ratio is told by counted molecules: there no gain enters.
    """
    whole = [each for each in analysed if not each[0].flags] or analysed
    if not settings.calibration_check or not whole or settings.method == "domains":
        return []
    # By the place where areas are equal: numbers of labels mean nothing.
    ranked = sorted(whole, key=lambda each: (each[0].area_um2, each[0].centroid_um))
    nucleus = ranked[len(whole) // 2][0]
    # The check speaks of the scale, not of the estimator, and the regression is the one that takes seconds.
    quick = replace(settings, method="regression")
    rows = []
    tied = "euchromatin" in channels.planes and not channels.calibrated and settings.euchromatin_gain is None
    changes = {"none": {}, **SCALE_CHANGES, **(MARK_CHANGES if tied else {})}
    for change, moved in changes.items():
        try:
            found = calibrate_nucleus(channels, labels, nucleus, spacing, settings, shared=None, **moved)
        # A total that is no volume fraction any more, no room for euchromatin: there is no answer to compare.
        except (FieldError, ImageContentError, ParameterError):
            continue
        # Errors are not asked for; but a stack's fading is divided out by whether the gain follows from its mean.
        known = CalibrationPrior(found.prior.gain_sd) if nucleus.mask.ndim == 3 else EXACT
        (rates,) = infer_nuclei([replace(Fractions.of(nucleus, found), calibration=known)], spacing, quick)
        if isinstance(rates, FieldError | ImageContentError | ParameterError | SolverError):
            continue
        if isinstance(rates, ChromamolError):
            raise rates
        counted = (phases or {}).get(nucleus.label)
        ratio = rates.ratio if counted is None else counted.above(moved.get("offset_share", 0.0)).ratio
        rows.append({"nucleus": nucleus.label, "change": change, "gamma_me_per_um2": rates.methylation.mean,
                     "gamma_ac_per_um2": rates.acetylation.mean, "rate_ratio": ratio})  # fmt: skip
    return rows


def nucleus_row(
    nucleus: Nucleus, rates: Rates, domains: Domains, *, settings: Settings, extra_flags: tuple[str, ...] = (),
    counted: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Return one row of `nuclei.csv`, without the image's name.

    `counted` says that the ratio is that of counted molecules, not of the maps: the fraction of heterochromatin is its.
    """
    mask = nucleus.mask
    h, e = (float(f.values[mask].sum()) for f in (rates.phi_h, rates.phi_e))
    fraction = rates.ratio / (1.0 + rates.ratio) if counted else h / (h + e)
    flags = [*nucleus.flags, *rates.flags, *extra_flags]
    if domains.count == 0:
        flags.append("no_domains")
    if mask.ndim == 2 and settings.section_thickness_um is None:
        flags.append("section_thickness_assumed")
    valid = rates.methylation.valid if rates.methylation.valid.any() else rates.acetylation.valid
    row: dict[str, Any] = {
        "nucleus": nucleus.label,
        "centroid_y_um": nucleus.centroid_um[-2],
        "centroid_x_um": nucleus.centroid_um[-1],
        "area_um2": nucleus.area_um2,
        "heterochromatin_fraction": fraction,
        "domain_count": domains.count,
        "domain_radius_um": domains.radius_um,
        "domain_spacing_um": domains.spacing_um,
        "lad_thickness_um": domains.lad_thickness_um,
        "gamma_me_per_um2": rates.methylation.mean,
        "gamma_me_se": rates.methylation.mean_se,
        "gamma_ac_per_um2": rates.acetylation.mean,
        "gamma_ac_se": rates.acetylation.mean_se,
        "rate_ratio": rates.ratio,
        "rate_ratio_se": rates.ratio_se,
        "valid_fraction": np.count_nonzero(valid) / np.count_nonzero(mask),
        "mollifier_width_um": rates.mollifier_width_um,
        "noise_sd": rates.noise_sd[0],
        "method": rates.method,
        "flags": join_flags(ordered(flags)),
        "domain_area_fraction": domains.domain_fraction,
        "lad_coverage": domains.lad_coverage,
        "gamma_me_calibration_se": rates.methylation.calibration_se,
        "gamma_ac_calibration_se": rates.acetylation.calibration_se,
        "rate_ratio_calibration_se": rates.ratio_calibration_se,
    }
    if settings.diffusivity_um2_per_s is not None:
        for rate in ("me", "ac"):
            per_um2 = float(row[f"gamma_{rate}_per_um2"])
            row[f"gamma_{rate}_per_s"] = per_um2_to_per_s(per_um2, settings.diffusivity_um2_per_s)
            error = float(row[f"gamma_{rate}_se"])
            row[f"gamma_{rate}_per_s_se"] = per_um2_to_per_s(error, settings.diffusivity_um2_per_s)
    return row
