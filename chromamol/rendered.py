"""A table of localisations as an image of nuclei: its density, outlines, noise and molecules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from chromamol.channels import Channels
from chromamol.density import drop_duplicates, find_molecules, localization_density, merge_blinks, sightings
from chromamol.density.localization_density import UNKNOWN_PRECISION_UM
from chromamol.io import Localizations, Micrograph
from chromamol.nucleus import outlines_on_grid
from chromamol.nucleus.localizations import MARGIN_UM
from chromamol.settings import Settings


def render_localizations(table: Localizations, settings: Settings) -> tuple[Micrograph, Channels, Settings]:
    """Return the density of localisations as a micrograph, its planes with outlines and noise, and their settings.

    Raises
    ------
    ChromamolError : what is wrong with the table, or with its channel or pixel size in the settings.
    """
    chosen, choice = table.choose_channel(settings.chromatin_channel)
    unique = drop_duplicates(chosen)
    merged = merge_blinks(unique, distance_um=settings.merge_distance_um,
                          dark_frames=settings.merge_dark_frames)  # fmt: skip
    # An outline may reach beyond the localisations: cut by the edge of the pixels it would pass for a cut nucleus.
    counted = localization_density(
        merged, pixel_size_um=settings.density_pixel_um, method=settings.density_method, margin_um=MARGIN_UM
    )
    values = np.where(counted.density.mask, counted.density.values, 0.0).astype(np.float32)
    pixel = counted.density.grid.spacing_um[-1]
    left = (
        ("z projected", merged.is_3d),
        (
            "positions have no illumination to correct",
            bool(settings.flat_field) or settings.estimate_illumination,
        ),
    )
    further = [text for text, holds in left if holds]
    note = "; ".join((f"density of localisations: {table.dialect}, {choice.name}, {choice.reason}", *merged.notes,
                      *further, *counted.notes))  # fmt: skip
    micrograph = Micrograph(values[None], (choice.name,), pixel, calibration_note=f"positions in {table.unit_note}",
                            path=table.path, axes_note=table.dialect)  # fmt: skip
    outlines = None
    grid = counted.density.grid
    if settings.labels is None:
        outlines = outlines_on_grid(merged, grid, min_area_um2=settings.min_area_um2)
    dense = values[outlines > 0] if outlines is not None and outlines.any() else values[values > 0]
    molecules = find_molecules(unique, density_per_um2=float(dense.mean()), default_precision_um=UNKNOWN_PRECISION_UM,
                               seed=settings.seed)  # fmt: skip
    seen = sightings(merged, default_precision_um=UNKNOWN_PRECISION_UM, seed=settings.seed)
    channels = Channels({"total": micrograph.data[0]}, False, f"{note}; {molecules.note}", outlines,
                        values / pixel**2, molecules, seen, (grid.origin_um[0], grid.origin_um[1]))  # fmt: skip
    blur = counted.blur_um if settings.psf_sigma_um is None else settings.psf_sigma_um
    return micrograph, channels, replace(settings, psf_sigma_um=blur)
