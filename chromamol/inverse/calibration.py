"""How well the scale of the images and the constants of the model are known, as a prior.

An image is g φ + o with a gain g and an offset o. Priors of gain, φ_max and ℓ are normal in the logarithm, those of the
offset in volume fractions; all are independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from chromamol.errors import ParameterError


@dataclass(frozen=True)
class CalibrationPrior:
    """How well the calibration of the images and the model's constants are known.

    Parameters
    ----------
    gain_sd : relative, of every channel's scale, or of each in a tuple; 0 takes the fractions as exact.
    offset_sd : of every channel's zero, volume fraction.
    phi_max_sd, interface_sd : relative, of φ_max and ℓ.
    """

    gain_sd: float | tuple[float, ...] = 0.0
    offset_sd: float = 0.0
    phi_max_sd: float = 0.0
    interface_sd: float = 0.0

    def __post_init__(self) -> None:
        gains = self.gain_sd if isinstance(self.gain_sd, tuple) else (self.gain_sd,)
        values = (*gains, self.offset_sd, self.phi_max_sd, self.interface_sd)
        if not all(math.isfinite(v) and 0.0 <= v <= 1.0 for v in values):
            raise ParameterError(f"{self}.", expected="standard deviations between 0 and 1.",
                                 do="use 0 for what is exact, 0.1 for ten percent.")  # fmt: skip

    @property
    def is_exact(self) -> bool:
        """Whether nothing is uncertain."""
        gains = self.gain_sd if isinstance(self.gain_sd, tuple) else (self.gain_sd,)
        return not any((*gains, self.offset_sd, self.phi_max_sd, self.interface_sd))

    def gains(self, channels: int) -> tuple[float, ...]:
        """Return the prior deviation of each channel's log-gain.

        Raises
        ------
        ParameterError : a tuple of another number of channels.
        """
        if not isinstance(self.gain_sd, tuple):
            return (self.gain_sd,) * channels
        if len(self.gain_sd) != channels:
            raise ParameterError(f"gain_sd of {len(self.gain_sd)} channels for {channels} images.",
                                 expected="one number for all, or one for each image.",
                                 do="correct the calibration.")  # fmt: skip
        return self.gain_sd


EXACT = CalibrationPrior()
"""Fractions and constants without error."""
