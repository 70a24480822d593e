"""Intensity to volume fraction: φ = (I - dark) / gain.

The dark level is measured beside each nucleus, where there is no chromatin. The gain, counts per unit of volume
fraction, is given by the user or fixed by a convention that is recorded with the result:

- total chromatin: its mean over the nucleus is 1 - water fraction;
- a heterochromatin mark: its dense level (a high percentile) is that of the dense phase;
- a euchromatin mark: the mean of both marks together is 1 - water fraction.

Absolute rates hang on the gain (1 % of gain is up to 15 % of rate with one channel); the ratio of the rates and
the shape of the maps hardly do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from chromamol.errors import ImageContentError
from chromamol.shapes import FloatField, Labels, Mask

DENSE_LEVEL = 0.68
"""φ_h inside domains of the reference model: 0.674 to 0.681 (98th percentile) in six simulated patterns."""

DENSE_PERCENTILE = 96.0
"""Percentile of the smoothed mark that stands for the inside of domains, which cover 18 to 40 % of a nucleus."""

RING = (0.05, 0.35)
"""The dark level is taken where the distance from the nucleus is within this share of its diameter: beyond the
blurred edge, and near enough to share its haze."""

_LEAST_RING_PIXELS = 30


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A volume fraction and how it came about.

    Parameters
    ----------
    phi : volume fraction on the crop; may be slightly negative from noise.
    dark : intensity without chromatin.
    gain : intensity above `dark` per unit of volume fraction.
    assumed : True when a convention set the gain, False when the user gave it.
    """

    phi: FloatField
    dark: float
    gain: float
    assumed: bool


def dark_level(image: np.ndarray, labels: Labels, mask: Mask) -> float:
    """Return the median intensity around one nucleus, outside all nuclei.

    Parameters
    ----------
    image, labels, mask : the same crop of the image, of all labels, and of the one nucleus.

    Raises
    ------
    ImageContentError : no pixel outside nuclei on the crop.
    """
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
    return float(np.median(image[chosen]))


def calibrate_total(
    image: np.ndarray, mask: Mask, *, dark: float, gain: float | None, water_fraction: float
) -> Calibrated:
    """Return total chromatin; without a gain its mean over the nucleus is set to 1 - `water_fraction`.

    Raises
    ------
    ImageContentError : the nucleus is not brighter than the dark level.
    """
    signal = image.astype(np.float64) - dark
    scale = _mean_signal(signal, mask) / (1.0 - water_fraction) if gain is None else gain
    return Calibrated(signal / scale, dark, scale, gain is None)


def calibrate_marks(
    heterochromatin: np.ndarray,
    euchromatin: np.ndarray,
    mask: Mask,
    *,
    dark: tuple[float, float],
    gain: tuple[float | None, float | None],
    water_fraction: float,
) -> tuple[Calibrated, Calibrated]:
    """Return both fields from a heterochromatin and a euchromatin mark.

    Raises
    ------
    ImageContentError : a mark that is not brighter than its dark level, or a heterochromatin that alone
        leaves no room for euchromatin.
    """
    dense = calibrate_dense(heterochromatin, mask, dark=dark[0], gain=gain[0])
    room = 1.0 - water_fraction - float(dense.phi[mask].mean())
    signal = euchromatin.astype(np.float64) - dark[1]
    mean = _mean_signal(signal, mask)
    if gain[1] is None and room <= 0.0:
        raise ImageContentError(
            f"Heterochromatin takes {1.0 - water_fraction - room:.2f} of the nucleus with {water_fraction:.2f} water.",
            expected="room for euchromatin.",
            do="give the gains of both marks, or a smaller water fraction.",
        )
    scale = mean / room if gain[1] is None else gain[1]
    return dense, Calibrated(signal / scale, dark[1], scale, gain[1] is None)


def calibrate_dense(image: np.ndarray, mask: Mask, *, dark: float, gain: float | None) -> Calibrated:
    """Return heterochromatin from its mark; without a gain its dense level is set to `DENSE_LEVEL`."""
    signal = image.astype(np.float64) - dark
    _mean_signal(signal, mask)
    if gain is None:
        smooth = ndimage.gaussian_filter(signal, 1.0)
        scale = float(np.percentile(smooth[mask], DENSE_PERCENTILE)) / DENSE_LEVEL
    else:
        scale = gain
    return Calibrated(signal / scale, dark, scale, gain is None)


def _mean_signal(signal: FloatField, mask: Mask) -> float:
    mean = float(signal[mask].mean())
    if mean <= 0.0:
        raise ImageContentError(
            f"A nucleus whose mean is {-mean:.4g} below the dark level.",
            expected="nuclei brighter than their surroundings.",
            do="check the channel, and the dark level if you gave one.",
        )
    return mean
