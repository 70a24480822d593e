"""The inverse problem as data: the fields, their noise, the nucleus, and which rates are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from chromamol.errors import FieldError
from chromamol.field import Field
from chromamol.grid import Grid
from chromamol.inverse.bounding_box import cropped
from chromamol.physics.free_energy import bulk_curvature, bulk_potential
from chromamol.physics.parameters import ChromatinParameters
from chromamol.shapes import FloatField, Mask

PHI_TOLERANCE = 0.1
"""How far the mean over the nucleus may leave [0, 1] before the input is taken for uncalibrated."""


@dataclass(frozen=True, eq=False)
class NoiseSource:
    """Independent noise of one camera channel and how it enters the two fields.

    At each pixel the noise n is white with standard deviation `sd`; the fields carry
    `response_h · (S n)` and `response_e · (S n)`, where S smooths with the separable, normalised `smoothing`
    taps of each axis (no smoothing when empty).

    With two channels there is one source per field. With one channel both fields come from the same
    pixels, and their errors are correlated: one source with two responses.

    Parameters
    ----------
    sd : volume fraction; one number, or the grid's shape where nothing is smoothed.
    response_h, response_e : dimensionless; one number or the grid's shape.
    smoothing : one odd-length array of taps per axis, or ().
    """

    sd: FloatField | float
    response_h: FloatField | float
    response_e: FloatField | float
    smoothing: tuple[np.ndarray, ...] = ()

    def __post_init__(self) -> None:
        if self.smoothing and np.ndim(self.sd):
            raise FieldError("A map of the noise before smoothing.", expected="one number where noise is smoothed.",
                             do="give its root mean square.")  # fmt: skip

    def crop(self, window: tuple[slice, ...]) -> NoiseSource:
        """Return the source on a part of the grid."""

        def cut(values: FloatField | float) -> FloatField | float:
            return values[window] if isinstance(values, np.ndarray) and values.ndim else values

        return NoiseSource(cut(self.sd), cut(self.response_h), cut(self.response_e), self.smoothing)

    def smoothed_variance_factor(self) -> float:
        """Factor by which the smoothing lowers the variance of white noise."""
        return float(np.prod([np.sum(taps**2) for taps in self.smoothing]))


@dataclass(frozen=True, eq=False)
class RateProblem:
    """Find Γ_me and Γ_ac in   Δμ_h + Γ_me φ_e - Γ_ac φ_h = 0   (rates over diffusivity, um⁻²).

    Parameters
    ----------
    phi_h, phi_e : measured volume fractions on one grid; the mask of `phi_h` is the nucleus.
    noise : the independent noise sources behind the two fields.
    parameters : constants of the free energy.
    known_acetylation : Γ_ac / D in um⁻² at every pixel, or None when it is unknown.
    """

    phi_h: Field
    phi_e: Field
    noise: tuple[NoiseSource, ...]
    parameters: ChromatinParameters
    known_acetylation: FloatField | None = None

    def __post_init__(self) -> None:
        self.phi_h.require_same_grid(self.phi_e)
        if not self.mask.any():
            raise FieldError("A nucleus mask with no pixel in it.", expected="at least one pixel.",
                             do="check the mask or the label image.")  # fmt: skip
        for name, field in (("phi_h", self.phi_h), ("phi_e", self.phi_e)):
            self._require_volume_fraction(name, field)
        total = float((self.phi_h.values + self.phi_e.values)[self.mask].mean())
        if total > 1.0:
            raise FieldError(
                f"phi_h + phi_e averages {total:.3g} over the nucleus.",
                expected="volume fractions, which cannot exceed 1 together (water takes the rest).",
                do="calibrate the intensities to volume fractions first.",
            )

    def _require_volume_fraction(self, name: str, field: Field) -> None:
        mean = float(field.values[self.mask].mean())
        if mean <= 0.0:
            raise FieldError(
                f"{name} averages {mean:.3g} over the nucleus.",
                expected="a volume fraction above 0: both phases must be present.",
                do="check the channel order, the offset and the calibration.",
            )
        if mean > self.parameters.phi_max + PHI_TOLERANCE and name == "phi_h":
            raise FieldError(
                f"{name} averages {mean:.3g} over the nucleus.",
                expected=f"a volume fraction below phi_max = {self.parameters.phi_max}.",
                do="check that phi_h and phi_e are not swapped and that intensities are calibrated.",
            )

    @property
    def mask(self) -> Mask:
        return self.phi_h.mask

    @property
    def grid(self) -> Grid:
        return self.phi_h.grid

    def crop(self, window: tuple[slice, ...]) -> RateProblem:
        """Return the problem on `grid.crop(window)`; the same object when that is everything."""
        if self.grid.crop(window) == self.grid:
            return self
        phi_h, phi_e = (cropped(field, window) for field in (self.phi_h, self.phi_e))
        known = None if self.known_acetylation is None else self.known_acetylation[window]
        return replace(self, phi_h=phi_h, phi_e=phi_e, known_acetylation=known,
                       noise=tuple(source.crop(window) for source in self.noise))  # fmt: skip

    @cached_property
    def potential(self) -> FloatField:
        """f(φ_h) without the mean of what its noise adds to it, dimensionless; φ_h is 0 outside the nucleus.

        E f(φ + n) = f(φ) + ½ f''(φ) σ²: f is cubic, and without this the noise would bias the rates.
        """
        phi_h, phi_max = np.where(self.mask, self.phi_h.values, 0.0), self.parameters.phi_max
        noise = 0.5 * self.noise_variance_h() * bulk_curvature(phi_h, phi_max)
        return np.asarray(bulk_potential(phi_h, phi_max) - noise)

    def noise_variance_h(self) -> FloatField:
        """Variance of the noise of φ_h at each pixel."""
        total = np.zeros(self.grid.shape)
        for source in self.noise:
            total += (np.asarray(source.sd) * np.asarray(source.response_h)) ** 2 * (
                source.smoothed_variance_factor()
            )
        return total

    def mean_noise_sd(self) -> tuple[float, float]:
        """Root mean square noise of φ_h and φ_e over the nucleus."""
        sums = np.zeros(2)
        for source in self.noise:
            factor = source.smoothed_variance_factor()
            for i, response in enumerate((source.response_h, source.response_e)):
                variance = np.broadcast_to((np.asarray(source.sd) * response) ** 2, self.grid.shape)
                sums[i] += factor * float(variance[self.mask].mean())
        return float(np.sqrt(sums[0])), float(np.sqrt(sums[1]))
