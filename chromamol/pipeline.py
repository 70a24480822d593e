"""Settings and one image in, maps and table rows out: where imaging and mathematics meet."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from chromamol.calibrate import NucleusCalibration, calibrate_nucleus
from chromamol.channels import Channels, choose_channels
from chromamol.domains import PhaseRatio
from chromamol.errors import AxesError, ImageContentError, ParameterError
from chromamol.illumination import apply_shading, divide_by_flat_field, even_out
from chromamol.image_inference import ImageInference, Inferred
from chromamol.inverse.rates import Rates
from chromamol.io import (
    Localizations,
    Micrograph,
    TimeSeries,
    check_content,
)
from chromamol.nucleus import Nucleus, find_nuclei
from chromamol.nucleus.flags import join as join_flags
from chromamol.nucleus.segment import require_method
from chromamol.nucleus_rates import (
    Report,
    nucleus_row,
    scale_sensitivity,
    whose_diffusivity,
    with_phases,
    with_time,
)
from chromamol.outlines import label_file, nucleus_labels, require_plausible_size, small_given
from chromamol.rendered import render_localizations
from chromamol.settings import Settings
from chromamol.shapes import Labels
from chromamol.unseen import close_unseen, require_all_seen, require_possible_over_time, require_takes_gaps

MAP_NAMES = ("phi_h", "phi_e", "gamma_me_per_um2", "gamma_me_se", "gamma_ac_per_um2", "gamma_ac_se", "valid")

DARK_LEVEL_MARGIN_UM = 2.5
"""Margin of the crop around a nucleus, in which its dark level is measured."""

LOCALIZATIONS = "a localisation table"

UNSPLIT_WORTH_A_NOTE = 0.01
"""Share of a nucleus's pixels without a one-channel split that the record mentions."""


@dataclass(frozen=True, eq=False)
class ImageAnalysis:
    """Everything that one image gave.

    Parameters
    ----------
    image : what nuclei were found in, `Channels.all_chromatin`.
    labels : int32, 0 = background; numbers of the rows.
    maps : `MAP_NAMES` -> float32 arrays of the image's shape; NaN outside nuclei and where not estimable.
    rows : one per nucleus, names as in `nuclei.csv`.
    spacing_um : of (y, x) or (z, y, x).
    pixel_size_note, channel_note, axes_note : for the record; the last says which scene and time, and what was z.
    notes : further sentences for the record.
    domains : one row per domain and LAD, as in `domains.csv`.
    calibration : one row per plane of each nucleus, as in `calibration.csv`.
    sensitivity : what a wrong scale would do, as in `sensitivity.csv`.
    origin_um : (y, x) of the first pixel's centre in the coordinates of a localisation table; 0 for images.
    shown : what `image` is (`Channels.shown`).
    """

    image: np.ndarray
    labels: Labels
    maps: dict[str, np.ndarray]
    rows: list[dict[str, Any]]
    spacing_um: tuple[float, ...]
    pixel_size_note: str
    channel_note: str
    axes_note: str
    notes: list[str] = field(default_factory=list)
    domains: list[dict[str, Any]] = field(default_factory=list)
    calibration: list[dict[str, Any]] = field(default_factory=list)
    sensitivity: list[dict[str, Any]] = field(default_factory=list)
    origin_um: tuple[float, float] = (0.0, 0.0)
    shown: str = "channel"


def analyse_image(
    micrograph: Micrograph, settings: Settings, *, report: Report | None = None
) -> ImageAnalysis:
    """Find the nuclei of one image and infer the rates of each; `report` is called with the loss of a training.

    Raises
    ------
    ChromamolError : what is wrong with the image, its calibration or the settings.
    """
    return _analyse(micrograph, _planes(micrograph, settings), settings, report=report)


def analyse_series(series: TimeSeries, settings: Settings) -> ImageAnalysis:
    """Find the nuclei of a time-lapse in the mean of its frames and infer D and the rates of each.

    Raises
    ------
    ChromamolError : what is wrong with the series, its calibration or the settings; one channel alone, whose split
        holds at rest only.
    """
    mean = series.average()
    require_possible_over_time(settings, mean.name, stack=mean.is_stack)
    channels = _planes(mean, settings)
    if "heterochromatin" not in channels.planes:
        raise AxesError(
            f"{mean.name}: a time-lapse of one channel.", expected="two marks, or heterochromatin with chromatin.",
            do="name both channels, or pick a frame of a pattern at rest with --time.",
        )  # fmt: skip
    return _analyse(mean, channels, settings, series=series)


def analyse_localizations(
    table: Localizations, settings: Settings, *, report: Report | None = None
) -> ImageAnalysis:
    """Find the nuclei of one localisation table and infer the rates of each from the density of localisations.

    Raises
    ------
    ChromamolError : what is wrong with the table or the settings.
    """
    require_all_seen(settings, LOCALIZATIONS)
    return _analyse(*render_localizations(table, settings), report=report)


def outline_localized_nuclei(table: Localizations, settings: Settings) -> ImageAnalysis:
    """Find the nuclei of one localisation table and stop there."""
    require_all_seen(settings, LOCALIZATIONS)
    return _outline(*render_localizations(table, settings))


def _analyse(
    micrograph: Micrograph, channels: Channels, settings: Settings, *, series: TimeSeries | None = None,
    report: Report | None = None,
) -> ImageAnalysis:  # fmt: skip
    for plane in channels.planes.values():
        check_content(plane, name=micrograph.name)
    spacing = micrograph.spacing_um
    labels = nucleus_labels(micrograph, channels, settings)
    channels = even_out(channels, labels, micrograph, settings)
    frames = [
        # What is saturated is known from the mean of the frames.
        replace(apply_shading(choose_channels(frame, settings), channels.shadings), saturated=None)
        for frame in (series.frames if series is not None else ())
    ]
    nuclei = find_nuclei(labels, channels.all_chromatin, spacing_um=spacing, saturated=channels.saturated,
                         margin_um=DARK_LEVEL_MARGIN_UM)  # fmt: skip
    require_plausible_size(nuclei, micrograph, channels, settings)
    maps = {name: np.full(labels.shape, np.nan, dtype=np.float32) for name in MAP_NAMES}
    maps["valid"][:] = 0.0
    settings = _one_scale(channels, labels, nuclei, spacing, settings)
    inference = ImageInference(channels, labels, spacing, settings, series, frames, report)
    inferred = inference.of(nuclei)
    notes = [*_outlines_notes(micrograph, nuclei, settings), *inference.notes]
    rows, unsplit, domains, record = [], {}, [], []
    phases = {
        each.nucleus.label: found for each in inferred if (found := _phases(each, channels)) is not None
    }
    for each in inferred:
        nucleus, rates, measured = each.nucleus, each.rates, each.measured
        counted = nucleus.label in phases
        rates = with_phases(rates, nucleus, phases[nucleus.label], settings) if counted else rates
        _paint(maps, nucleus, rates)
        flags = (*measured.flags, *_assumptions(each.found, channels))
        row = nucleus_row(
            nucleus, rates, measured.domains, settings=settings, extra_flags=flags, counted=counted
        )
        rows.append(with_time(row, each.per_time))
        domains += [{"nucleus": nucleus.label, **row} for row in measured.rows]
        record += [{"nucleus": nucleus.label, **row} for row in each.found.rows]
        if rates.diagnostics.get("unsplit_fraction", 0.0) >= UNSPLIT_WORTH_A_NOTE:
            unsplit[nucleus.label] = rates.diagnostics["unsplit_fraction"]
    if unsplit:
        who = f"{'nucleus' if len(unsplit) == 1 else 'nuclei'} {', '.join(map(str, unsplit))}"
        notes.append(
            f"up to {max(unsplit.values()):.0%} of the pixels of {who} are brighter or darker than any mixture of the "
            "two phases"
        )
    if series is not None:
        notes += whose_diffusivity(rows, settings)
    if not rows:
        raise ImageContentError(
            f"{micrograph.name}: none of {len(nuclei)} nuclei can be analysed. {' '.join(notes)}",
            expected="nuclei brighter than their surroundings.",
            do="check the channel, the dark level and the gains.",
        )
    return ImageAnalysis(channels.all_chromatin, inference.analysed_labels, maps, rows, spacing,
                         micrograph.calibration_note, channels.note, micrograph.axes_note, notes, domains, record,
                         scale_sensitivity([(each.nucleus, each.found, each.rates) for each in inferred],
                                           channels, labels, spacing, settings, phases=phases),
                         channels.origin_um, channels.shown)  # fmt: skip


def _phases(inferred: Inferred, channels: Channels) -> PhaseRatio | None:
    """Both phases of counted molecules above the dark level, which false localisations raise."""
    found = inferred.measured.phases
    if found is None:
        return None
    nucleus = inferred.nucleus
    mean = float(channels.planes["total"][nucleus.slices][nucleus.mask].mean())
    return found.above(inferred.found.rows[0]["dark_level"] / mean)


def _one_scale(
    channels: Channels, labels: Labels, nuclei: list[Nucleus], spacing: tuple[float, ...], settings: Settings
) -> Settings:
    """Settle on one convention for the nuclei of an image: they are compared with each other."""
    if channels.calibrated or settings.intensity_scale != "auto":
        return settings
    seen = []
    for nucleus in nuclei:
        try:
            found = calibrate_nucleus(channels, labels, nucleus, spacing, settings)
        except ImageContentError:
            continue  # its error is met, and noted, when the nucleus is analysed
        seen += [
            row["scale"] for row in found.rows if row["plane"] != "euchromatin" and row["scale"] != "given"
        ]
    agreed = bool(seen) and all(scale == "coexistence" for scale in seen)
    return replace(settings, intensity_scale="coexistence" if agreed else "water")


def outline_nuclei(micrograph: Micrograph, settings: Settings) -> ImageAnalysis:
    """Find the nuclei of one image and stop there: no maps, and rows of geometry only."""
    return _outline(micrograph, _planes(micrograph, settings), settings)


def _planes(micrograph: Micrograph, settings: Settings) -> Channels:
    """The planes that are analysed: gaps closed, divided by a flat field where there is one."""
    seen = close_unseen(choose_channels(micrograph, settings), micrograph, settings)
    return divide_by_flat_field(seen, micrograph, settings)


def _outline(micrograph: Micrograph, channels: Channels, settings: Settings) -> ImageAnalysis:
    for plane in channels.planes.values():
        check_content(plane, name=micrograph.name)
    labels = nucleus_labels(micrograph, channels, settings)
    spacing = micrograph.spacing_um
    nuclei = find_nuclei(labels, channels.all_chromatin, spacing_um=spacing,
                         saturated=channels.saturated)  # fmt: skip
    require_plausible_size(nuclei, micrograph, channels, settings)
    rows = [
        {
            "nucleus": nucleus.label,
            "centroid_y_um": nucleus.centroid_um[-2],
            "centroid_x_um": nucleus.centroid_um[-1],
            "area_um2": nucleus.area_um2,
            "flags": join_flags(nucleus.flags),
        }
        for nucleus in nuclei
    ]
    return ImageAnalysis(channels.all_chromatin, labels, {}, rows, spacing, micrograph.calibration_note,
                         channels.note, micrograph.axes_note, _outlines_notes(micrograph, nuclei, settings),
                         origin_um=channels.origin_um, shown=channels.shown)  # fmt: skip


def _outlines_notes(micrograph: Micrograph, nuclei: list[Nucleus], settings: Settings) -> list[str]:
    """Say whose outlines were used, where they were given, and how many of them are small."""
    if settings.labels is None:
        return []
    return [f"outlines from {label_file(micrograph, settings.labels)}", *small_given(nuclei, settings)]


def _assumptions(found: NucleusCalibration, channels: Channels) -> tuple[str, ...]:
    """Return the flags of what was assumed about the intensities of a nucleus."""
    flags = {
        "calibration_assumed": found.assumed,
        "unresolved_domains": found.unresolved,
        "background_clipped": found.clipped,
        "localization_density": channels.counting_variance is not None,
    }
    return (*channels.flags, *(name for name, raised in flags.items() if raised))


def _paint(maps: dict[str, np.ndarray], nucleus: Nucleus, rates: Rates) -> None:
    """Write the maps of one nucleus into those of the image."""
    estimates = {
        "phi_h": (rates.phi_h.values, nucleus.mask),
        "phi_e": (rates.phi_e.values, nucleus.mask),
        "gamma_me_per_um2": (rates.methylation.values, rates.methylation.valid),
        "gamma_me_se": (rates.methylation.standard_error, rates.methylation.valid),
        "gamma_ac_per_um2": (rates.acetylation.values, rates.acetylation.valid),
        "gamma_ac_se": (rates.acetylation.standard_error, rates.acetylation.valid),
        "valid": (np.ones(nucleus.mask.shape), rates.methylation.valid | rates.acetylation.valid),
    }
    for name, (values, where) in estimates.items():
        maps[name][nucleus.slices][where] = values[where]


def require_analysable(settings: Settings) -> None:
    """Raise `ParameterError` for settings that no image could be analysed with."""
    require_method(settings.segmentation_method)
    require_takes_gaps(settings)
    if settings.labels is not None and not Path(settings.labels).exists():
        raise ParameterError(f"labels = {settings.labels}.", expected="a label image or a folder of them.",
                             do="check the path.")  # fmt: skip
    if settings.flat_field is not None and settings.estimate_illumination:
        raise ParameterError("flat_field together with estimate_illumination.", expected="one way of evening out.",
                             do="leave one of them out.")  # fmt: skip
    if settings.flat_field is not None and not Path(settings.flat_field).exists():
        raise ParameterError(f"flat_field = {settings.flat_field}.", expected="an image of an even sample.",
                             do="check the path.")  # fmt: skip
