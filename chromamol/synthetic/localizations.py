"""Localisation microscopy of a density: labels that blink, each found with an error, among false ones.

density -> molecules (Poisson) -> those that carry a label -> bursts of frames in which they shine
-> one localisation per burst and frame, displaced by its error -> and a background of false ones
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from chromamol.errors import ParameterError
from chromamol.shapes import FloatField
from chromamol.synthetic.optics import require_density

MORTENSEN_GAIN = 16.0 / 9.0  # eq. 6 of Mortensen et al. for a Gaussian fit by least squares
POSITION_DECIMALS = 7  # of um: far below a precision, far above the last bit

Column = Float[np.ndarray, " rows"]
Count = Int[np.ndarray, " rows"]


@dataclass(frozen=True)
class Labelling:
    """How chromatin is labelled and how the labels shine.

    Parameters
    ----------
    molecules_per_um : molecules per um^2 (2D) or um^3 (3D) at volume fraction 1. Data sets of whole nuclei
        have some 20,000 localisations per um^2.
    efficiency : share of the molecules that carry a working label, 0..1.
    bursts : mean number of times that a label shines; geometric, at least 1. 1 is a label without blinking.
    on_frames : mean length of a burst in frames; exponential, and the frames it touches each give a localisation.
    off_frames : mean pause between bursts of one label; exponential.
    frames : of the acquisition. First bursts are spread evenly over them; what would come later is not seen.
    photons : mean photons of a localisation; log-normal.
    photons_log_sd : standard deviation of their logarithm.
    psf_sigma_um : standard deviation of a single molecule's image.
    camera_pixel_um : pixel of the camera, in the sample.
    background_photons : of a pixel.
    axial_ratio : precision along z over that in the plane; in 3D only.
    false_per_um : false localisations per um^2 (um^3), anywhere in the field.
    """

    molecules_per_um: float = 10_000.0
    efficiency: float = 0.6
    bursts: float = 2.0
    on_frames: float = 1.5
    off_frames: float = 400.0
    frames: int = 20_000
    photons: float = 1_500.0
    photons_log_sd: float = 0.5
    psf_sigma_um: float = 0.13
    camera_pixel_um: float = 0.1
    background_photons: float = 10.0
    axial_ratio: float = 2.0
    false_per_um: float = 0.0

    def __post_init__(self) -> None:
        positive = (self.molecules_per_um, self.on_frames, self.off_frames, self.photons,
                    self.psf_sigma_um, self.camera_pixel_um, self.axial_ratio)  # fmt: skip
        others = (self.photons_log_sd, self.background_photons, self.false_per_um)
        finite = all(math.isfinite(v) for v in (*positive, *others, self.bursts))
        good = (
            finite and min(positive) > 0.0 and min(others) >= 0.0 and self.bursts >= 1.0 and self.frames >= 1
        )
        if not (good and 0.0 < self.efficiency <= 1.0):
            raise ParameterError(f"{self}.", expected="positive numbers, bursts >= 1, an efficiency in (0, 1].",
                                 do="see the docstring of Labelling for each one's meaning.")  # fmt: skip


@dataclass(frozen=True, eq=False)
class SyntheticLocalizations:
    """A table of localisations, ordered by frame, with what no real table tells: where each is from.

    Parameters
    ----------
    x_um, y_um : position from the corner of the field.
    z_um : height from the first plane's lower side; None in 2D.
    precision_um : standard deviation of the error in the plane, as a fit would report it.
    frame : from 1.
    photons, background_photons : of the molecule, and of a pixel around it.
    psf_sigma_um : width of the fitted image.
    molecule : number of the label; -1 for a false localisation.
    """

    x_um: Column
    y_um: Column
    z_um: Column | None
    precision_um: Column
    frame: Count
    photons: Column
    background_photons: Column
    psf_sigma_um: Column
    molecule: Count

    def __len__(self) -> int:
        return int(self.x_um.size)


def localisation_precision(
    photons: Column, *, psf_sigma_um: float, camera_pixel_um: float, background_photons: float
) -> Column:
    """Return the standard deviation of a fitted position in um.

        σ² = s² / N (16/9 + 8π s² b / (N a²)),  s² = σ_psf² + a² / 12

    Parameters
    ----------
    photons : N. background_photons : b, per pixel. camera_pixel_um : a.

    References
    ----------
    Mortensen et al., Nat. Methods 7, 377 (2010), doi:10.1038/nmeth.1447, eq. 6.
    """
    square = psf_sigma_um**2 + camera_pixel_um**2 / 12.0
    blur = 8.0 * math.pi * square * background_photons / (photons * camera_pixel_um**2)
    return np.sqrt(square / photons * (MORTENSEN_GAIN + blur))


def localize(
    density: FloatField, spacing_um: Sequence[float], labelling: Labelling, *, rng: np.random.Generator
) -> SyntheticLocalizations:
    """Draw the localisations that a density of chromatin would give.

    Parameters
    ----------
    density : volume fraction, (y, x) or (z, y, x); the field begins at the corner of its first cell.
    spacing_um : cell size per axis.

    Raises
    ------
    FieldError : a density that is negative or not finite.
    ParameterError : a density that is not 2D or 3D, cell sizes that do not fit it, or not one localisation.
    """
    require_density(density, spacing_um)
    labels = _labelled(density, spacing_um, labelling, rng)
    molecule, frame = _bursts(len(labels), labelling, rng)
    positions = labels[molecule]
    extent = np.asarray(density.shape) * np.asarray(spacing_um)
    false = rng.poisson(labelling.false_per_um * float(np.prod(extent)))
    positions = np.concatenate([positions, rng.uniform(0.0, 1.0, (false, density.ndim)) * extent])
    molecule = np.concatenate([molecule, np.full(false, -1)])
    frame = np.concatenate([frame, rng.integers(1, labelling.frames + 1, false)])
    if not positions.size:
        raise ParameterError("No localisation at all.", expected="a density and a labelling that give some.",
                             do="raise molecules_per_um or frames.")  # fmt: skip
    order = np.argsort(frame, kind="stable")
    return _found(positions[order], molecule[order], frame[order], labelling, rng)


def _labelled(
    density: FloatField, spacing_um: Sequence[float], labelling: Labelling, rng: np.random.Generator
) -> FloatField:
    """Positions (molecules, axes) of the molecules that carry a label: Poisson, even within a cell."""
    cell = float(np.prod(spacing_um))
    mean = np.round(labelling.molecules_per_um * labelling.efficiency * cell * density, POSITION_DECIMALS)
    counts = rng.poisson(mean)
    corners = np.repeat(np.argwhere(counts > 0), counts[counts > 0], axis=0)
    return (corners + rng.uniform(0.0, 1.0, corners.shape)) * np.asarray(spacing_um)


def _bursts(labels: int, labelling: Labelling, rng: np.random.Generator) -> tuple[Count, Count]:
    """Number of the label and frame of each localisation."""
    bursts = rng.geometric(1.0 / labelling.bursts, labels)
    label = np.repeat(np.arange(labels), bursts)
    length = rng.exponential(labelling.on_frames, label.size)
    # Time from one burst's start to the next one's: the burst itself and a pause.
    step = length + rng.exponential(labelling.off_frames, label.size)
    first = np.concatenate([[0], np.cumsum(bursts)[:-1]]) if labels else np.zeros(0, dtype=int)
    since = np.cumsum(step) - step
    start = (
        since
        - np.repeat(since[first], bursts)
        + np.repeat(rng.uniform(0.0, labelling.frames, labels), bursts)
    )
    begin, end = np.floor(start).astype(int), np.floor(start + length).astype(int)
    shining = end - begin + 1
    frame = np.repeat(begin, shining) + _ranks(shining)
    seen = frame < labelling.frames
    return np.repeat(label, shining)[seen], frame[seen] + 1


def _ranks(counts: Count) -> Int[np.ndarray, " ranks"]:
    """0, 1, ... n - 1 for each n of `counts`, one after the other."""
    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _found(
    positions: FloatField, molecule: Count, frame: Count, labelling: Labelling, rng: np.random.Generator
) -> SyntheticLocalizations:
    """Displace each localisation by its own error."""
    log_sd = labelling.photons_log_sd
    photons = labelling.photons * np.exp(log_sd * rng.standard_normal(len(frame)) - 0.5 * log_sd**2)
    background = np.full(len(frame), labelling.background_photons)
    precision = localisation_precision(
        photons, psf_sigma_um=labelling.psf_sigma_um, camera_pixel_um=labelling.camera_pixel_um,
        background_photons=labelling.background_photons,
    )  # fmt: skip
    per_axis = np.ones(positions.shape[1])
    per_axis[:-2] = labelling.axial_ratio
    # A false localisation has no place of its own: it stays where it was drawn.
    error = np.where((molecule < 0)[:, None], 0.0, precision[:, None] * per_axis)
    moved = np.round(positions + error * rng.standard_normal(positions.shape), POSITION_DECIMALS)
    return SyntheticLocalizations(
        moved[:, -1], moved[:, -2], moved[:, 0] if moved.shape[1] == 3 else None, precision, frame, photons,
        background, np.full(len(frame), labelling.psf_sigma_um), molecule,
    )  # fmt: skip
