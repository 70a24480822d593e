"""Cosines for log-rates on a box wider than the nucleus, with the prior deviations of their coefficients.

`chromamol.networks.log_rates` holds the same prior as a torch module, and the two numbers that set its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chromamol.networks.log_rates import EXTENSION, SPECTRUM_CUTOFF
from chromamol.shapes import FloatField


@dataclass(frozen=True, eq=False)
class LogRateBasis:
    """Products of cosines on a box that is wider than the nucleus.

    Parameters
    ----------
    shape, spacing : of the nucleus's box; lengths in um.
    length : the correlation length ξ that the cosines were chosen for.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    length: float

    def tables(self, box: Sequence[int]) -> list[FloatField]:
        """Per axis, (modes, box): the cosines at the pixels."""
        return [
            _cosines(waves, (np.arange(n) + 0.5) * h + EXTENSION * self.length)
            for waves, n, h in zip(self.wavenumbers(), box, self.spacing, strict=True)
        ]

    def sides(self) -> list[float]:
        """Lengths of the wider box."""
        return [n * h + 2.0 * EXTENSION * self.length for n, h in zip(self.shape, self.spacing, strict=True)]

    def wavenumbers(self) -> list[FloatField]:
        """Per axis, (modes,)."""
        found = []
        for side in self.sides():
            most = math.ceil(SPECTRUM_CUTOFF * side / (math.pi * self.length))
            found.append(np.pi * np.arange(max(2, most + 1)) / side)
        return found

    def square_wavenumbers(self) -> FloatField:
        """|k|² of every product, (*modes)."""
        return np.asarray(sum(np.ix_(*(waves**2 for waves in self.wavenumbers()))))

    def root(self, log_sd: float) -> FloatField:
        """Prior deviations of the coefficients, (*modes); 0 for the mean, which is a scalar of its own."""
        spectrum = np.exp(-0.5 * self.square_wavenumbers() * self.length**2)
        spectrum.flat[0] = 0.0
        return np.asarray(log_sd * np.sqrt(spectrum / spectrum.sum()))

    def slopes(self) -> FloatField:
        """D: derivatives of the logarithms of the prior variances by ln a and by ln ξ, (2, *modes)."""
        square = self.square_wavenumbers() * self.length**2
        share = self.root(1.0) ** 2
        slopes = np.stack([np.full(square.shape, 2.0), (share * square).sum() - square])
        slopes.reshape(2, -1)[:, 0] = 0.0
        return slopes

    def projected(self, coefficients: FloatField, new: LogRateBasis) -> FloatField:
        """The coefficients, (..., *modes), of the same function in another basis of the same nucleus."""
        shift = EXTENSION * (self.length - new.length)
        for axis, (waves, others, side) in enumerate(
            zip(self.wavenumbers(), new.wavenumbers(), new.sides(), strict=True), start=-len(self.shape)
        ):
            samples = 4 * max(len(waves), len(others))
            position = (np.arange(samples) + 0.5) * side / samples
            across = _cosines(others, position) @ _cosines(waves, position + shift).T / samples
            coefficients = np.moveaxis(np.moveaxis(coefficients, axis, -1) @ across.T, -1, axis)
        return coefficients


def _cosines(wavenumbers: FloatField, position: FloatField) -> FloatField:
    norms = np.where(wavenumbers > 0.0, math.sqrt(2.0), 1.0)
    return np.asarray(norms[:, None] * np.cos(np.outer(wavenumbers, position)))
