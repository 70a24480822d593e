"""The domains of one nucleus, measured where its image shows them best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from chromamol.channels import Channels
from chromamol.density.coexistence import fit_two_phases
from chromamol.domains import (
    Counted,
    Domains,
    LocalizedDomains,
    PhaseRatio,
    localized_domains,
    measure_domains,
    phase_ratio,
)
from chromamol.domains.table import domain_rows
from chromamol.grid import Grid
from chromamol.inverse.rates import Rates
from chromamol.nucleus import Nucleus
from chromamol.settings import Settings
from chromamol.shapes import Labels

TOLD_RATIO = 0.2
"""Standard error of the logarithm of a ratio by two phases beyond which the counts are said not to tell it."""

SHARP_METHODS = ("joint", "network")
"""Estimators whose map of φ_h is that before a point spread function that was given."""


@dataclass(frozen=True, eq=False)
class MeasuredDomains:
    """Domains of one nucleus, what is doubtful about them, and where their coordinates begin in the image (µm).

    `phases` is the ratio of the rates by the densities of both phases, of molecules that were counted.
    """

    domains: Domains
    flags: tuple[str, ...]
    offset_um: tuple[float, ...]
    phases: PhaseRatio | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Of `domains.csv`, without image and nucleus."""
        return domain_rows(self.domains, offset_um=self.offset_um)


def nucleus_domains(
    channels: Channels,
    labels: Labels,
    nucleus: Nucleus,
    rates: Rates,
    settings: Settings,
    *,
    measured_blur_um: float,
) -> MeasuredDomains:
    """Measure domains where they are best seen: in molecules where they were counted, else in the map of φ_h.

    Parameters
    ----------
    labels : of all nuclei of the image; the light of neighbours reaches this one.
    measured_blur_um : σ that the image's phases showed when it was calibrated; NaN where none were looked for, or seen.
    """
    grid = rates.phi_h.grid
    start = tuple(s.start * h for s, h in zip(nucleus.slices, grid.spacing_um, strict=True))
    phases = None
    if channels.molecules is None:
        seen = _seen_blur_um(measured_blur_um, nucleus, rates, settings)
        domains = measure_domains(
            rates.phi_h, nucleus.mask, phi_max=settings.phi_max, chromatin=labels[nucleus.slices] > 0,
            blur_um=0.0 if seen is None else _map_blur_um(seen, rates, settings),
        )  # fmt: skip
        # Without two phases nothing tells the blur, and so not what it hides at the border.
        domains = domains.without_lads() if seen is None else domains
        unresolved, blur = domains.lads_unresolved, max(0.5 * max(grid.spacing_um), seen or 0.0)
        offset = start
    else:
        counted = _in_molecules(channels, nucleus, grid, start, settings)
        domains, unresolved, blur = counted.domains, counted.lads_unresolved, counted.kernel_um
        offset = tuple(-o for o in channels.origin_um)
        phases = _phases(channels, counted, settings)
    flags = ["lads_unresolved"] if unresolved else []
    small = domains.count > 0 and blur > 0.5 * domains.radius_um
    flags += ["unresolved_domains"] if small or domains.left_out > domains.count else []
    flags += ["levels_unresolved"] if phases is not None and not phases.log_se <= TOLD_RATIO else []
    return MeasuredDomains(domains, tuple(flags), offset, phases)


def _phases(channels: Channels, found: LocalizedDomains, settings: Settings) -> PhaseRatio:
    molecules, sightings = channels.molecules, channels.sightings
    assert molecules is not None
    assert sightings is not None
    counted, seen = (Counted(points.y_um, points.x_um, points.repeats) for points in (molecules, sightings))
    return phase_ratio(
        counted, seen, found.mask, found.phase.grid, radius_um=found.domains.radius_um, kernel_um=found.kernel_um,
        blur_um=math.hypot(settings.interface_blur_um, molecules.precision_um), seed=settings.seed,
    )  # fmt: skip


def _seen_blur_um(measured_um: float, nucleus: Nucleus, rates: Rates, settings: Settings) -> float | None:
    """Standard deviation of the image's blur: the PSF that was given, or that of the phases; None where there are none.

    Phases show the blur of their interfaces too, which the edge of the nucleus has not.
    """
    if settings.psf_sigma_um is not None:
        return settings.psf_sigma_um
    if not math.isfinite(measured_um):
        phases = fit_two_phases(rates.phi_h.values, nucleus.mask, spacing_um=rates.phi_h.grid.spacing_um)
        if phases is None:
            return None
        measured_um = phases.blur_um
    return settings.apparent_psf_um(measured_um)


def _map_blur_um(seen_um: float, rates: Rates, settings: Settings) -> float:
    """Return what is left of the image's blur in the map of φ_h."""
    return 0.0 if settings.psf_sigma_um is not None and rates.method in SHARP_METHODS else seen_um


def _in_molecules(
    channels: Channels, nucleus: Nucleus, grid: Grid, start: tuple[float, ...], settings: Settings
) -> LocalizedDomains:
    molecules = channels.molecules
    assert molecules is not None
    here = Grid(
        grid.shape, grid.spacing_um, tuple(o + s for o, s in zip(channels.origin_um, start, strict=True))
    )
    return localized_domains(molecules.y_um, molecules.x_um, nucleus.mask, here, repeats=molecules.repeats,
                             precision_um=molecules.precision_um, interface_um=settings.interface_blur_um)  # fmt: skip
