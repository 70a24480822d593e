"""Intensity to volume fraction: φ = (I - dark) / gain.

The dark level is measured beside each nucleus, where there is no chromatin. The gain, counts per unit of volume
fraction, is given by the user or fixed by a convention that is recorded with the result:

- "coexistence": the step between the two phases that the image shows is that of the model (`coexistence`). It asks
  for no water fraction, but for an image that resolves domains: with a known blur it is 4 to 6 % low where that is
  a quarter of a domain radius, 10 to 22 % where it is half;
- "water": total chromatin averages 1 - water fraction over the nucleus; a heterochromatin mark's dense level (a high
  percentile) is that of the dense phase; a euchromatin mark fills the room that water and heterochromatin leave;
- "auto": the first where blur permits and the fractions are possible that it implies, else the second.

Absolute rates hang on the gain (1 % of gain is up to 15 % of rate with one channel); the ratio of the rates and
the shape of the maps hardly do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from chromamol.density.coexistence import PLATEAU_STEP, TwoPhases, fit_two_phases
from chromamol.errors import ImageContentError, ParameterError
from chromamol.shapes import FloatField, Labels, Mask

DENSE_LEVEL = 0.68
"""φ_h inside domains of the reference model: 0.674 to 0.681 (98th percentile) in six simulated patterns."""

DENSE_TOTAL = 0.96
"""Total chromatin inside domains of the reference model, `PLATEAU_STEP` above the 0.3 between them."""

MARK_STEP = 0.64
"""φ_h inside domains less that between them: 0.62 to 0.63 on average, 0.64 in the cores of five simulated nuclei."""

SCALES = ("auto", "coexistence", "water")

RESOLVED_BLUR = 0.25
"""Largest blur over domain radius at which "auto" trusts the step of the phases: where the blur is known it is 4 to 6 %
low there in five simulated nuclei, less than an unknown water fraction (0.05 of it is 10 % of gain)."""

RESOLVED_SHARE = 0.985
"""Least share of the image's variance that two phases must explain for it: over 0.99 without blur, 0.977 to 0.985 where
it is a quarter of a radius (the step is then 6 to 12 % low if the blur had to be fitted), under 0.96 at half of it."""

DENSE_PERCENTILE = 96.0
"""Percentile of the smoothed mark that stands for the inside of domains, which cover 18 to 40 % of a nucleus."""

RING = (0.05, 0.35)
"""The dark level is taken where the distance from the nucleus is within this share of its diameter: beyond the
blurred edge, and near enough to share its haze."""

_LEAST_RING_PIXELS = 30


@dataclass(frozen=True)
class Optics:
    """What the phases are looked for with.

    Parameters
    ----------
    spacing_um : of the pixels.
    blur_um : σ of point spread function and interface together where known; fitted when None.
    scale : one of `SCALES`.
    """

    spacing_um: tuple[float, ...]
    blur_um: float | None = None
    scale: str = "auto"

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ParameterError(f"scale = {self.scale!r}.", expected=f"one of {', '.join(SCALES)}.",
                                 do="use 'auto'.")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A volume fraction and how it came about.

    Parameters
    ----------
    phi : volume fraction on the crop; may be slightly negative from noise.
    dark : intensity without chromatin.
    gain : intensity above `dark` per unit of volume fraction.
    assumed : True when a convention set the gain, False when the user gave it.
    scale : "given", "coexistence" or "water".
    phases : the two phases of the image; None where they were not looked for, or not seen.
    note : why their step is no scale although the image resolves it; empty where it is one, or is not resolved.
    """

    phi: FloatField
    dark: float
    gain: float
    assumed: bool
    scale: str = "given"
    phases: TwoPhases | None = None
    note: str = ""

    def with_gain(self, gain: float) -> Calibrated:
        """Return the same signal with another gain, found in the same way."""
        return replace(self, phi=self.phi * (self.gain / gain), gain=gain)


def dark_level(image: np.ndarray, labels: Labels, mask: Mask) -> float:
    """Return the median intensity around one nucleus, outside all nuclei.

    Parameters
    ----------
    image, labels, mask : the same crop of the image, of all labels, and of the one nucleus.

    Raises
    ------
    ImageContentError : no pixel outside nuclei on the crop.
    """
    return float(np.median(_around(image, labels, mask)))


def is_clipped(image: np.ndarray, labels: Labels, mask: Mask) -> bool:
    """Whether most pixels around one nucleus have exactly the lowest value there is: no camera's noise does that.

    Background was subtracted, cut off at zero or masked out, and its median is where it was cut. Arguments and errors
    as in `dark_level`.
    """
    values = _around(image, labels, mask)
    return bool(np.median(values) == values.min())


def _around(image: np.ndarray, labels: Labels, mask: Mask) -> np.ndarray:
    """Pixels outside all nuclei, in a ring around one where there are enough."""
    distance = ndimage.distance_transform_edt(~mask)
    diameter = 2.0 * np.sqrt(np.count_nonzero(mask.any(axis=0) if mask.ndim == 3 else mask) / np.pi)
    outside = labels == 0
    ring = outside & (distance > RING[0] * diameter) & (distance < RING[1] * diameter)
    chosen = ring if np.count_nonzero(ring) >= _LEAST_RING_PIXELS else outside
    if not chosen.any():
        raise ImageContentError(
            "No background beside the nucleus.",
            expected="some pixels outside nuclei, to measure the dark level.",
            do="give the dark level with --set dark_level=VALUE.",
        )
    return np.asarray(image[chosen])


def calibrate_total(
    image: np.ndarray, mask: Mask, *, dark: float, gain: float | None, water_fraction: float,
    optics: Optics | None = None,
) -> Calibrated:  # fmt: skip
    """Return total chromatin.

    Parameters
    ----------
    dark, gain : intensity without chromatin, and per unit of volume fraction; the gain is found when None, as
        `optics.scale` says.
    water_fraction : of the nucleus, for the convention "water".
    optics : without them phases are not looked for, and the scale is "water".

    Raises
    ------
    ImageContentError : the nucleus is not brighter than the dark level, or "coexistence" is asked for where no two
        phases are seen, or where their step implies an impossible mean.
    """
    signal = image.astype(np.float64) - dark
    by_water = _mean_signal(signal, mask) / (1.0 - water_fraction)
    return _scaled(
        signal, mask, dark, gain, by_water, _Step("total chromatin", PLATEAU_STEP, DENSE_TOTAL), optics
    )


def calibrate_marks(
    heterochromatin: np.ndarray,
    euchromatin: np.ndarray,
    mask: Mask,
    *,
    dark: tuple[float, float],
    gain: tuple[float | None, float | None],
    water_fraction: float,
    optics: Optics | None = None,
    dense_factor: float = 1.0,
) -> tuple[Calibrated, Calibrated]:
    """Return both fields from a heterochromatin and a euchromatin mark; arguments as in `calibrate_total`.

    Euchromatin is nearly flat, so it shows no two phases. Its gain is tied to that of heterochromatin by what fills the
    nucleus,

        ⟨φ_h⟩ + ⟨φ_e⟩ = 1 - water:        g_e = ⟨I_e⟩ / (1 - water - ⟨I_h⟩ / g_h).

    Parameters
    ----------
    dense_factor : by which the gain of heterochromatin is multiplied: 1 but for a question of what a wrong one does.

    Raises
    ------
    ImageContentError : a mark that is not brighter than its dark level, or a heterochromatin that alone
        leaves no room for euchromatin.
    """
    most = DENSE_LEVEL if gain[1] is not None else min(DENSE_LEVEL, 1.0 - water_fraction)
    dense = calibrate_dense(heterochromatin, mask, dark=dark[0], gain=gain[0], optics=optics, most=most)
    if dense_factor != 1.0:
        dense = replace(dense, phi=dense.phi / dense_factor, gain=dense.gain * dense_factor)
    room = 1.0 - water_fraction - float(dense.phi[mask].mean())
    signal = euchromatin.astype(np.float64) - dark[1]
    mean = _mean_signal(signal, mask)
    if gain[1] is None and room <= 0.0:
        raise ImageContentError(
            f"Heterochromatin takes {1.0 - water_fraction - room:.2f} of the nucleus with {water_fraction:.2f} water.",
            expected="room for euchromatin.",
            do="give the gains of both marks, or a smaller water fraction.",
        )
    found = mean / room if gain[1] is None else gain[1]
    return dense, Calibrated(
        signal / found, dark[1], found, gain[1] is None, "water" if gain[1] is None else "given"
    )


def calibrate_dense(
    image: np.ndarray, mask: Mask, *, dark: float, gain: float | None,
    optics: Optics | None = None, most: float = DENSE_LEVEL,
) -> Calibrated:  # fmt: skip
    """Return heterochromatin from its mark; arguments as in `calibrate_total`.

    The convention "water" is here that the dense level, a high percentile, is `DENSE_LEVEL`. The mean over the nucleus
    has to stay below `most`: what is there besides leaves no more room.
    """
    signal = image.astype(np.float64) - dark
    _mean_signal(signal, mask)
    smooth = ndimage.gaussian_filter(signal, 1.0)
    by_level = float(np.percentile(smooth[mask], DENSE_PERCENTILE)) / DENSE_LEVEL
    return _scaled(signal, mask, dark, gain, by_level, _Step("heterochromatin", MARK_STEP, most), optics)


@dataclass(frozen=True)
class _Step:
    """The step between the phases of what a plane shows, and a mean over the nucleus that no two phases reach."""

    name: str
    fraction: float
    most: float


def _scaled(
    signal: FloatField, mask: Mask, dark: float, gain: float | None, otherwise: float, step: _Step,
    optics: Optics | None,
) -> Calibrated:  # fmt: skip
    """Divide by the gain that is given, that the phases show, or that stands for it otherwise."""
    phases = None
    scale = "water" if optics is None else optics.scale
    if optics is not None:
        phases = fit_two_phases(signal, mask, spacing_um=optics.spacing_um, blur_um=optics.blur_um)
    if gain is not None:
        return Calibrated(signal / gain, dark, gain, False, "given", phases)
    if scale == "coexistence" and phases is None:
        raise ImageContentError(
            "A nucleus without two phases.",
            expected="domains that stand out from the space between them.",
            do="give the gain, or use intensity_scale = 'water'.",
        )
    if phases is None:
        return Calibrated(signal / otherwise, dark, otherwise, True, "water")
    found = (phases.high - phases.low) / step.fraction
    mean = float(signal[mask].mean()) / found
    possible, resolved = mean < step.most, is_scale(phases)
    if scale == "coexistence" and not possible:
        raise ImageContentError(
            f"The step between the phases, taken for {step.fraction:g}, makes {step.name} average {mean:.3g} of the "
            "nucleus.",
            expected=f"less than {step.most:.3g}: domains that stand out more from the space between them.",
            do="use intensity_scale = 'water', give the gain, or give a higher dark level if there is haze.",
        )
    if scale == "coexistence" or (scale == "auto" and possible and resolved):
        return Calibrated(signal / found, dark, found, True, "coexistence", phases)
    note = ""
    if resolved and not possible:
        note = (
            f"the step between the phases is no scale: by it {step.name} averages {mean:.3g} of the nucleus"
        )
    return Calibrated(signal / otherwise, dark, otherwise, True, "water", phases, note)


def is_scale(phases: TwoPhases) -> bool:
    """Whether the step between the phases is trusted as a scale: sharp enough, and two phases explain the image."""
    return phases.blur_um <= RESOLVED_BLUR * phases.radius_um and phases.explained >= RESOLVED_SHARE


def _mean_signal(signal: FloatField, mask: Mask) -> float:
    mean = float(signal[mask].mean())
    if mean <= 0.0:
        raise ImageContentError(
            f"A nucleus whose mean is {-mean:.4g} below the dark level.",
            expected="nuclei brighter than their surroundings.",
            do="check the channel, and the dark level if you gave one.",
        )
    return mean
