"""Nuclei put into one field of view, and what a camera and a STORM microscope make of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from chromamol.shapes import FloatField, Labels, Mask
from chromamol.simulate.settings import SimulationSettings
from chromamol.synthetic.forward import SimulatedChromatin
from chromamol.synthetic.localizations import Labelling, SyntheticLocalizations, localize
from chromamol.synthetic.microscope import Microscope, bin_pixels, nearest_cell, resample
from chromamol.synthetic.optics import DiffractionSpread, GaussianSpread, Instrument, PointSpread
from chromamol.synthetic.scene import PlacedNucleus, place, scatter
from chromamol.synthetic.shapes import outline

BINNING = 2  # cells of the field's grid per camera pixel: the camera integrates over 2 x 2
ROOM = 1.5  # side of the field over that of a square that holds the nuclei side by side
TRUTH = ("gamma_me_per_um2", "gamma_ac_per_um2", "phi_h", "phi_e")


@dataclass(frozen=True, eq=False)
class FieldOfView:
    """The truth of a field.

    Parameters
    ----------
    phi_h, phi_e : on the fine grid, half a camera pixel wide, brightness of each nucleus included.
    labels : of the camera's pixels, int32.
    maps : `TRUTH` on the camera's pixels, without the brightness; rates are NaN outside nuclei.
    """

    phi_h: FloatField
    phi_e: FloatField
    labels: Labels
    maps: dict[str, FloatField]


@dataclass(frozen=True, eq=False)
class Layout:
    """Where each nucleus lies (on the fine grid), how bright it is, and the size of the field."""

    outlines: tuple[Mask, ...]
    corners: tuple[tuple[int, int], ...]
    brightness: tuple[float, ...]
    shape: tuple[int, int]


def lay_out(nuclei: list[SimulatedChromatin], settings: SimulationSettings) -> Layout:
    """Scatter the nuclei over a square field with room for them."""
    rng = np.random.default_rng([settings.seed, 10_000])
    fine = settings.pixel_size_um / BINNING
    outlines = tuple(nearest_cell(outline(n.mask), n.pixel_size_um, (fine, fine)) for n in nuclei)
    largest = max(max(m.shape) for m in outlines)
    side = math.ceil(math.ceil(math.sqrt(len(nuclei))) * ROOM * largest / BINNING) * BINNING
    brightness = np.exp(settings.brightness_sd * rng.standard_normal(len(nuclei)))
    corners = scatter(
        outlines, (side, side), touching=settings.touching, cut=settings.cut, gap=round(1.0 / fine), rng=rng
    )
    return Layout(outlines, tuple(corners), tuple(map(float, brightness)), (side, side))


def compose(nuclei: list[SimulatedChromatin], layout: Layout, settings: SimulationSettings) -> FieldOfView:
    """Put the nuclei into the field."""
    fine = (settings.pixel_size_um / BINNING,) * 2
    placed: dict[str, list[PlacedNucleus]] = {name: [] for name in (*TRUTH, "bright_h", "bright_e")}
    for nucleus, whole, corner, light in zip(
        nuclei, layout.outlines, layout.corners, layout.brightness, strict=True
    ):
        h, e = (
            resample(v, nucleus.pixel_size_um, fine) for v in (nucleus.heterochromatin, nucleus.euchromatin)
        )
        fields = {
            "phi_h": h,
            "phi_e": e,
            "bright_h": light * h,
            "bright_e": light * e,
            "gamma_me_per_um2": nearest_cell(nucleus.methylation, nucleus.pixel_size_um, fine),
            "gamma_ac_per_um2": nearest_cell(nucleus.acetylation, nucleus.pixel_size_um, fine),
        }
        for name, values in fields.items():
            placed[name].append(PlacedNucleus(values, whole, corner))
    scenes = {name: place(parts, layout.shape) for name, parts in placed.items()}
    labels = np.ascontiguousarray(scenes["phi_h"].labels[::BINNING, ::BINNING])
    maps = {name: bin_pixels(scenes[name].density, BINNING) for name in ("phi_h", "phi_e")}
    for name in ("gamma_me_per_um2", "gamma_ac_per_um2"):
        maps[name] = np.where(labels > 0, scenes[name].density[::BINNING, ::BINNING], np.nan)
    return FieldOfView(scenes["bright_h"].density, scenes["bright_e"].density, labels,
                       {name: maps[name] for name in TRUTH})  # fmt: skip


def expose(field: FieldOfView, settings: SimulationSettings, *, seed: int, state: int = 0) -> np.ndarray:
    """Return counts (y, x), or (channel, y, x) of two marks; each `state` of a field has noise of its own."""
    microscope = Microscope(
        counts_per_fraction=settings.counts_per_fraction, offset=settings.offset, read_noise=settings.read_noise,
        background=settings.background, unevenness=settings.unevenness, psf=point_spread(settings), binning=BINNING,
    )  # fmt: skip
    rng = np.random.default_rng([seed, 20_000 + state])
    fine = (settings.pixel_size_um / BINNING,) * 2
    if settings.marks:
        return microscope.channels([field.phi_h, field.phi_e], fine, rng=rng)
    return microscope.image(field.phi_h + field.phi_e, fine, rng=rng)


def localizations(
    field: FieldOfView, settings: SimulationSettings, *, seed: int, state: int = 0
) -> SyntheticLocalizations:
    """Return a table of total chromatin's localisations; each `state` of a field has blinks of its own."""
    labelling = Labelling(molecules_per_um=settings.molecules_per_um2)
    fine = (settings.pixel_size_um / BINNING,) * 2
    return localize(
        field.phi_h + field.phi_e, fine, labelling, rng=np.random.default_rng([seed, 30_000 + state])
    )


def point_spread(settings: SimulationSettings) -> PointSpread:
    """Return the point spread function that the settings name."""
    if settings.psf == "gaussian":
        return GaussianSpread(settings.gaussian_sigma_um, haze=settings.haze)
    return DiffractionSpread(Instrument(settings.psf))
