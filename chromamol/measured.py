"""The domains of one nucleus, measured where its image shows them best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chromamol.channels import Channels
from chromamol.domains import Domains, LocalizedDomains, localized_domains, measure_domains
from chromamol.domains.table import domain_rows
from chromamol.grid import Grid
from chromamol.inverse.rates import Rates
from chromamol.nucleus import Nucleus
from chromamol.settings import Settings


@dataclass(frozen=True, eq=False)
class MeasuredDomains:
    """Domains of one nucleus, what is doubtful about them, and where their coordinates begin in the image (µm)."""

    domains: Domains
    flags: tuple[str, ...]
    offset_um: tuple[float, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Of `domains.csv`, without image and nucleus."""
        return domain_rows(self.domains, offset_um=self.offset_um)


def nucleus_domains(
    channels: Channels, nucleus: Nucleus, rates: Rates, settings: Settings
) -> MeasuredDomains:
    """Measure domains where they are best seen: in molecules where they were counted, else in the map of φ_h."""
    grid = rates.phi_h.grid
    start = tuple(s.start * h for s, h in zip(nucleus.slices, grid.spacing_um, strict=True))
    flags = []
    if channels.molecules is None:
        found = measure_domains(rates.phi_h, nucleus.mask, phi_max=settings.phi_max)
        blur, offset = max(0.5 * max(grid.spacing_um), settings.psf_sigma_um or 0.0), start
    else:
        counted = _in_molecules(channels, nucleus, grid, start, settings)
        flags += ["lads_unresolved"] if counted.lads_unresolved else []
        found, blur, offset = counted.domains, counted.kernel_um, tuple(-o for o in channels.origin_um)
    flags += ["unresolved_domains"] if found.count > 0 and blur > 0.5 * found.radius_um else []
    return MeasuredDomains(found, tuple(flags), offset)


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
